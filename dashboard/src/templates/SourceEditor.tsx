// A field for a source, with numbered lines and a mark at the line of an error.
import { useId, useRef } from "react";
import { ApiError } from "../api/client";
import { Button } from "../parts/parts";
import { visible } from "../parts/text";
import style from "./SourceEditor.module.css";
import { offsetOf } from "./sources";

/** ``error``: of this source; ``line`` and ``column`` from 1, where it has a place. */
export function SourceEditor({ label, value, onChange, error, rows, readOnly }: {
  label: string;
  value: string;
  onChange: (value: string) => void;
  error: ApiError | null;
  rows: number;
  readOnly?: boolean;
}) {
  const id = useId();
  const area = useRef<HTMLTextAreaElement>(null);
  const gutter = useRef<HTMLDivElement>(null);
  const place = error?.place ?? null;
  const goThere = () => {
    if (!area.current || !place) return;
    const at = offsetOf(value, place);
    area.current.focus();
    area.current.setSelectionRange(at, at);
    const line = Number.parseFloat(getComputedStyle(area.current).lineHeight);
    area.current.scrollTop = Math.max(0, (place.line - 3) * line);
  };
  return (
    <div className="stack">
      <label htmlFor={id}>
        <b>{label}</b>
      </label>
      <div className={style.editor} data-wrong={error ? "" : undefined}>
        <div className={style.gutter} ref={gutter} aria-hidden="true">
          {value.split("\n").map((_, index) => (
            <div key={index} data-wrong={place?.line === index + 1 ? "" : undefined}>
              {index + 1}
            </div>
          ))}
        </div>
        <textarea
          id={id}
          ref={area}
          value={value}
          rows={rows}
          wrap="off"
          spellCheck={false}
          readOnly={readOnly}
          aria-invalid={error ? true : undefined}
          aria-describedby={error ? `${id}-error` : undefined}
          onChange={(event) => onChange(event.target.value)}
          onScroll={(event) => {
            if (gutter.current) gutter.current.scrollTop = event.currentTarget.scrollTop;
          }}
        />
      </div>
      {error && (
        <p id={`${id}-error`} className={style.error} role="status">
          {visible(error.message)} {place && <Button kind="plain" onClick={goThere}>Go there</Button>}
        </p>
      )}
    </div>
  );
}
