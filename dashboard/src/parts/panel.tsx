// The four states of whatever is fetched: loading, empty, error, stale.
import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { ApiError } from "../api/client";
import { Button, Note } from "./parts";
import style from "./parts.module.css";
import { relative, useNow } from "./time";

const STALE_AFTER = 30_000;

/** Lines of the size of what will come; invisible for 150 ms. */
export function Skeleton({ lines = 3, height = "2rem" }: { lines?: number; height?: string }) {
  return (
    <div className="stack" role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, index) => (
        <div key={index} className={style.skeleton} style={{ height }} />
      ))}
    </div>
  );
}

export function ErrorNote({ error, retry }: { error: unknown; retry?: () => void }) {
  const known = error instanceof ApiError ? error : null;
  const isFinal = known?.status === 403 || known?.status === 404;
  const lead = known?.message ?? "This part of the page failed.";
  return (
    <Note
      tone={known?.status === 403 ? "idle" : "bad"}
      lead={lead}
      actions={retry && !isFinal && <Button onClick={retry}>Try again</Button>}
    >
      {known?.status === 403 && <p>Your role in this project does not have it. An ADMIN can change the role.</p>}
      <p className="small">
        <code>{known?.code ?? String(error)}</code>
        {known?.retryAfter ? ` · again in ${known.retryAfter} s` : ""}
      </p>
    </Note>
  );
}

export function Empty({ children }: { children: ReactNode }) {
  return <div className={style.empty}>{children}</div>;
}

type Result<T> = Pick<UseQueryResult<T>, "data" | "error" | "dataUpdatedAt"> & { refetch: () => unknown };

/** Shows `children` of the data; only this panel fails, and old data stays, greyed, with its age. */
export function Panel<T>({ query, skeleton = <Skeleton />, children }: {
  query: Result<T>;
  skeleton?: ReactNode;
  children: (data: NonNullable<T>) => ReactNode;
}) {
  const now = useNow(5_000);
  const { data, error, dataUpdatedAt } = query;
  if (data === undefined || data === null) return error ? <ErrorNote error={error} retry={() => void query.refetch()} /> : skeleton;
  const isStale = error !== null && now - dataUpdatedAt > STALE_AFTER;
  return (
    <>
      {error && <ErrorNote error={error} retry={() => void query.refetch()} />}
      {isStale && <p className="small muted">As it was {relative(dataUpdatedAt, now)}.</p>}
      {isStale ? <div className={style.stale}>{children(data)}</div> : children(data)}
    </>
  );
}
