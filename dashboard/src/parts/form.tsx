// Fields of forms, with the error of the API at the field that it names.
import { type ComponentProps, type ReactNode, type SyntheticEvent, useId } from "react";
import { ApiError } from "../api/client";
import style from "./parts.module.css";

const isOf = (error: unknown, name: string) => error instanceof ApiError && error.field?.split(/[.[]/)[0] === name;

type Frame = { label: ReactNode; name: string; hint?: ReactNode; error?: unknown };

function Field({ label, name, hint, error, children }: Frame & {
  children: (props: { id: string; name: string; "aria-describedby"?: string; "aria-invalid"?: true }) => ReactNode;
}) {
  const id = useId();
  const isWrong = isOf(error, name);
  const described = [hint && `${id}-hint`, isWrong && `${id}-error`].filter(Boolean).join(" ");
  return (
    <div className={style.field}>
      <label htmlFor={id}>
        <b>{label}</b>
      </label>
      {children({ id, name, ...(described && { "aria-describedby": described }), ...(isWrong && { "aria-invalid": true }) })}
      {hint && <span className="small muted" id={`${id}-hint`}>{hint}</span>}
      {isWrong && <span className={`small ${style.fieldError}`} id={`${id}-error`}>{(error as ApiError).message}</span>}
    </div>
  );
}

export function TextField({ label, name, hint, error, ...rest }: Frame & ComponentProps<"input">) {
  return <Field {...{ label, name, hint, error }}>{(props) => <input autoComplete="off" {...rest} {...props} />}</Field>;
}

export function TextArea({ label, name, hint, error, ...rest }: Frame & ComponentProps<"textarea">) {
  return <Field {...{ label, name, hint, error }}>{(props) => <textarea rows={5} {...rest} {...props} />}</Field>;
}

export function Select({ label, name, hint, error, children, ...rest }: Frame & ComponentProps<"select">) {
  return (
    <Field {...{ label, name, hint, error }}>
      {(props) => (
        <select {...rest} {...props}>
          {children}
        </select>
      )}
    </Field>
  );
}

/** One of several boxes of the same name. */
export function Check({ label, ...rest }: { label: ReactNode } & ComponentProps<"input">) {
  return (
    <label className={style.check}>
      <input type="checkbox" {...rest} />
      {label}
    </label>
  );
}

/** What a form contains, when it is sent. */
export const onForm = (act: (form: FormData) => void) => (event: SyntheticEvent<HTMLFormElement>) => {
  event.preventDefault();
  act(new FormData(event.currentTarget));
};

/** The trimmed text of a field; "" where it is empty or missing. */
export const textOf = (form: FormData, name: string) => String(form.get(name) ?? "").trim();

/** The words of a field that are divided by commas, white space or lines. */
export const wordsOf = (form: FormData, name: string) => textOf(form, name).split(/[\s,;]+/).filter(Boolean);
