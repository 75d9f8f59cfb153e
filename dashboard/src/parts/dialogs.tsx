// Dialogs around forms, and for what is shown once. They bring React Aria, so they belong to chunks that load later.
import { type ReactNode, useEffect, useRef, useState } from "react";
import { Dialog } from "./dialog";
import { Check, onForm } from "./form";
import { ErrorNote } from "./panel";
import { Button, CopyButton } from "./parts";
import style from "./parts.module.css";

/** A form in a dialog: its fields, the error, an act. */
export function FormDialog({ title, act, onSubmit, onClose, error, isPending, isDone = false, children }: {
  title: string;
  act: string;
  onSubmit: (form: FormData) => void;
  onClose: () => void;
  error: unknown;
  isPending: boolean;
  isDone?: boolean;
  children: ReactNode;
}) {
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    if (error) form.current?.querySelector<HTMLElement>("[aria-invalid=true]")?.focus();
  }, [error]);
  return (
    <Dialog title={title} onClose={onClose}>
      <form className="stack" ref={form} onSubmit={onForm(onSubmit)}>
        {children}
        {error ? <ErrorNote error={error} /> : null}
        <div className={style.dialogActions}>
          <Button onClick={onClose}>{isDone ? "Close" : "Leave it"}</Button>
          <Button kind="main" type="submit" disabled={isPending}>
            {act}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

/** A secret that is not shown again: the dialog closes only when a person has confirmed that it is kept. */
export function SecretDialog({ title, name, secret, onClose, children }: {
  title: string;
  name: string;
  secret: string;
  onClose: () => void;
  children?: ReactNode;
}) {
  const [isKept, setKept] = useState(false);
  return (
    <Dialog title={title} onClose={onClose} isDismissable={false}>
      <p>It is shown this once. Sluice cannot show it again.</p>
      <p className={style.secret}>
        <code aria-label={name}>{secret}</code>
        <CopyButton label="Copy" text={() => secret} kind="" />
      </p>
      {children}
      <Check label="I have kept it." checked={isKept} onChange={(event) => setKept(event.target.checked)} />
      <div className={style.dialogActions}>
        <Button kind="main" onClick={onClose} disabled={!isKept}>
          Close
        </Button>
      </div>
    </Dialog>
  );
}
