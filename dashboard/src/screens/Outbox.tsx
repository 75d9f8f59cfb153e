// The messages that were captured instead of sent, as a mail catcher shows them.
import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { lazy, Suspense, useState } from "react";
import { apiOf, dataOf } from "../api/client";
import { type Captured, capturedQuery, type OutboxFilters, outboxQuery } from "../api/outbox";
import { keyOf } from "../api/pages";
import { useRole, useView } from "../frame/view";
import { ChannelFilter } from "../message/ChannelFilter";
import { ContentView } from "../message/Content";
import { CHANNEL_NAMES, count } from "../message/wording";
import { onForm, textOf } from "../parts/form";
import { Pages } from "../parts/pages";
import { Panel, Skeleton } from "../parts/panel";
import { Button, Card } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { visible } from "../parts/text";
import { Moment } from "../parts/time";
import { useTitle } from "../parts/title";
import style from "./Outbox.module.css";

const ClearDialog = lazy(() => import("../outbox/ClearDialog"));

export function Outbox() {
  useTitle("Outbox");
  const { open, ...filters } = useSearch({ from: "/p/$project/outbox", select: ({ channel, to, open }) => ({ channel, to, open }) });
  const query = useInfiniteQuery(outboxQuery(useView(), filters));
  const captured = query.data?.pages.flatMap((page) => page.data) ?? [];
  const shown = open ?? captured[0]?.id;
  return (
    <>
      <div className="heading">
        <div>
          <h1>Outbox</h1>
          <p className="sub">Captured, not delivered: what test keys have sent, and SMS without an operator’s link.</p>
        </div>
        {captured.length > 0 && <Clear />}
      </div>
      <Filters filters={filters} />
      <div className={style.outbox}>
        <section className={parts.card} aria-label="Captured messages">
          <Pages query={query} empty={<Nothing isFiltered={Boolean(filters.channel ?? filters.to)} />}>
            {(rows) => <List captured={rows} shown={shown} />}
          </Pages>
        </section>
        {shown && <Shown key={shown} id={shown} />}
      </div>
    </>
  );
}

function useChangeSearch() {
  const navigate = useNavigate({ from: "/p/$project/outbox" });
  return (change: OutboxFilters & { open?: string }) => void navigate({ search: (last) => ({ ...last, ...change }), replace: true });
}

function Filters({ filters }: { filters: OutboxFilters }) {
  const change = useChangeSearch();
  const submit = onForm((form) => change({ to: textOf(form, "to") || undefined, open: undefined }));
  return (
    <form className={`${parts.filters} ${parts.narrow}`} onSubmit={submit} key={JSON.stringify(filters)} role="search" aria-label="Filter the outbox">
      <ChannelFilter value={filters.channel} onChange={(channel) => change({ channel, open: undefined })} />
      <label>
        Recipient
        <input name="to" defaultValue={filters.to} autoComplete="off" />
      </label>
      <Button type="submit">Filter</Button>
    </form>
  );
}

function Nothing({ isFiltered }: { isFiltered: boolean }) {
  if (isFiltered) return <p>No captured message fits these filters.</p>;
  return <p>Nothing is captured. A message that is sent with a test key (<code>sp_test_…</code>) shows up here by itself, and reaches no recipient.</p>;
}

function List({ captured, shown }: { captured: Captured[]; shown: string | undefined }) {
  const { project } = useView();
  return (
    <ol className={style.list}>
      {captured.map((one) => (
        <li key={one.id}>
          <Link
            to="/p/$project/outbox"
            params={{ project }}
            search={(last: OutboxFilters) => ({ ...last, open: one.id })}
            replace
            resetScroll={false}
            aria-current={one.id === shown ? "true" : undefined}
          >
            <span className={style.line}><b>{visible(one.to)}</b> <span className="small muted num"><Moment at={one.created_at} /></span></span>
            <span>{visible(one.subject ?? CHANNEL_NAMES[one.channel])}</span>
            <span className="small muted">{visible(one.snippet)}{one.attachments > 0 && ` · ${count(one.attachments, "file")}`}</span>
          </Link>
        </li>
      ))}
    </ol>
  );
}

function Shown({ id }: { id: string }) {
  const view = useView();
  const query = useQuery(capturedQuery(view, id));
  return (
    <Panel query={query} skeleton={<Skeleton lines={4} height="5rem" />}>
      {(captured) => (
        <Card
          title={visible(captured.subject ?? `${CHANNEL_NAMES[captured.channel]} to ${captured.to}`)}
          aside={
            // In the mode of the message, whatever the view shows.
            <Link
              to="/p/$project/messages/$messageId"
              params={{ project: view.project, messageId: captured.message_id }}
              search={captured.test === false ? {} : { mode: "test" }}
            >
              What became of it
            </Link>
          }
        >
          <ContentView content={captured.content} path={`/v1/outbox/${captured.id}`} view={view} />
        </Card>
      )}
    </Panel>
  );
}

function Clear() {
  const view = useView();
  const mayWrite = useRole() !== "VIEWER";
  const queryClient = useQueryClient();
  const change = useChangeSearch();
  const [isAsking, setAsking] = useState(false);
  const clear = useMutation({
    mutationFn: () => dataOf(apiOf(view).DELETE("/v1/outbox")),
    onSuccess: async () => {
      change({ open: undefined });
      await queryClient.invalidateQueries({ queryKey: keyOf(view, "outbox") });
      setAsking(false);
    },
  });
  if (!mayWrite) return null;
  return (
    <>
      <Button kind="stop" onClick={() => setAsking(true)}>Clear the outbox…</Button>
      <Suspense>
        {isAsking && <ClearDialog onClear={() => clear.mutate()} onClose={() => setAsking(false)} error={clear.error} isPending={clear.isPending} />}
      </Suspense>
    </>
  );
}
