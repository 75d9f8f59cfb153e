// The log: every message of the project, newest first, by pages that a cursor leads through.
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, memo, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import { type MessageFilters, type MessageSummary, messagesQuery } from "../api/queries";
import { ChannelFilter } from "../message/ChannelFilter";
import { rememberList } from "../message/list";
import { useShortcuts } from "../frame/shortcuts";
import { useView } from "../frame/view";
import { endingOf } from "../parts/ending";
import { onForm, textOf } from "../parts/form";
import { Empty, Panel, Skeleton } from "../parts/panel";
import { Button, Shape, StateTag, Tag } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { csvCell, visible } from "../parts/text";
import { Moment } from "../parts/time";
import { useTitle } from "../parts/title";
import style from "./Messages.module.css";

const STATES = [
  "QUEUED", "SENDING", "SENT", "DELIVERED", "UNCONFIRMED", "FAILED", "EXPIRED", "SOFT_BOUNCE", "BOUNCED", "COMPLAINED", "CANCELLED",
];

export function Messages() {
  useTitle("Messages");
  const filters = useSearch({ from: "/p/$project/messages", select: onlyFilters });
  const query = useInfiniteQuery(messagesQuery(useView(), filters));
  const rows = useMemo(() => query.data?.pages.flatMap((page) => page.data) ?? [], [query.data]);
  return (
    <>
      <div className="heading">
        <h1>Messages</h1>
        <Button onClick={() => downloadCsv(rows)} disabled={rows.length === 0}>
          Download the loaded rows as CSV
        </Button>
      </div>
      <Filters filters={filters} />
      <section className={`${parts.card} ${style.room}`} aria-label="Messages">
        <Panel query={query} skeleton={<div className={parts.pad}><Skeleton lines={12} /></div>}>
          {({ pages }) => <List rows={rows} filters={filters} query={query} isComplete={pages.at(-1)?.next_cursor === null} />}
        </Panel>
      </section>
    </>
  );
}

const NO_FILTERS: Record<keyof MessageFilters, undefined> = {
  status: undefined, channel: undefined, to: undefined, from: undefined, tag: undefined, provider: undefined, attempted_provider: undefined,
  failed_over: undefined, possible_duplicate: undefined, incident: undefined, template: undefined, since: undefined, until: undefined,
};
/** Filters that come with a link and have no field of their own. */
const NAMES = {
  from: "from", attempted_provider: "tried at", incident: "touched by the incident", template: "made from the template", since: "accepted since", until: "accepted before",
} as const;

function onlyFilters(search: MessageFilters): MessageFilters {
  return Object.fromEntries(Object.keys(NO_FILTERS).map((name) => [name, search[name as keyof MessageFilters]]));
}

const hasFilters = (filters: MessageFilters) => Object.values(filters).some((value) => value !== undefined);

function useSetFilters() {
  const navigate = useNavigate({ from: "/p/$project/messages" });
  return (change: MessageFilters) => void navigate({ search: (last) => ({ ...last, ...change }), replace: true });
}

function Filters({ filters }: { filters: MessageFilters }) {
  const setFilters = useSetFilters();
  const onText = onForm((form) => {
    const text = (name: string) => textOf(form, name) || undefined;
    setFilters({ to: text("to"), provider: text("provider"), tag: text("tag") });
  });
  return (
    <form className={`${parts.filters} ${parts.narrow}`} onSubmit={onText} key={JSON.stringify(filters)} role="search" aria-label="Filter the messages">
      <label>
        State
        <select value={filters.status ?? ""} onChange={(event) => setFilters({ status: event.target.value || undefined })}>
          <option value="">any</option>
          {STATES.map((state) => <option key={state}>{state}</option>)}
        </select>
      </label>
      <ChannelFilter value={filters.channel} onChange={(channel) => setFilters({ channel })} />
      <label>
        Mark
        <select value={markOf(filters)} onChange={(event) => setFilters(MARKS[event.target.value] ?? {})}>
          <option value="">any</option>
          <option value="failed_over">failed over</option>
          <option value="possible_duplicate">may have arrived twice</option>
          {markOf(filters) === "other" && <option value="other">as in the address</option>}
        </select>
      </label>
      <label>
        Recipient
        <input name="to" defaultValue={filters.to} autoComplete="off" />
      </label>
      <label>
        Provider
        <input name="provider" defaultValue={filters.provider} autoComplete="off" />
      </label>
      <label>
        Tag
        <input name="tag" defaultValue={filters.tag} autoComplete="off" />
      </label>
      <Button type="submit">Filter</Button>
      {hasFilters(filters) && (
        <Button kind="plain" onClick={() => setFilters(NO_FILTERS)}>
          Clear the filters
        </Button>
      )}
      <span className="small muted">
        {Object.entries(NAMES).flatMap(([name, words]) => {
          const value = filters[name as keyof typeof NAMES];
          return value === undefined ? [] : [`${words} ${visible(value)}`];
        }).join(", ")}
      </span>
    </form>
  );
}

/** The marks that a message may have, as filters. */
const MARKS: Record<string, MessageFilters> = {
  "": { failed_over: undefined, possible_duplicate: undefined },
  failed_over: { failed_over: true, possible_duplicate: undefined },
  possible_duplicate: { failed_over: undefined, possible_duplicate: true },
};

function markOf({ failed_over, possible_duplicate }: MessageFilters): string {
  const found = Object.entries(MARKS).find(([, mark]) => mark.failed_over === failed_over && mark.possible_duplicate === possible_duplicate);
  return found?.[0] ?? "other";
}

interface Paging {
  hasNextPage: boolean;
  isFetchingNextPage: boolean;
  fetchNextPage: () => Promise<unknown>;
}

/** Rows that come while the list is read wait above it: ids ascend with the time of acceptance. */
function useHeldBack(rows: MessageSummary[], filters: MessageFilters) {
  const view = useView();
  const key = JSON.stringify([view, filters]);
  const [held, setHeld] = useState({ key, newest: rows[0]?.id ?? "" });
  if (held.key !== key || (held.newest === "" && rows[0])) setHeld({ key, newest: rows[0]?.id ?? "" });
  const shown = useMemo(() => rows.filter((row) => held.newest === "" || row.id <= held.newest), [rows, held]);
  return { shown, waiting: rows.length - shown.length, show: () => setHeld({ key, newest: rows[0]?.id ?? "" }) };
}

function List({ rows, filters, query, isComplete }: {
  rows: MessageSummary[];
  filters: MessageFilters;
  query: Paging;
  /** Nothing is older than the last page. */
  isComplete: boolean;
}) {
  const { shown, waiting, show } = useHeldBack(rows, filters);
  const body = useRef<HTMLDivElement>(null);
  const [offset, setOffset] = useState(0);
  const rowHeight = useRowHeight();
  useLayoutEffect(() => setOffset(body.current?.offsetTop ?? 0), []);
  const virtualizer = useWindowVirtualizer({
    count: shown.length,
    estimateSize: () => rowHeight,
    overscan: 8,
    scrollMargin: offset,
  });
  useEffect(() => virtualizer.measure(), [virtualizer, rowHeight]);
  const items = virtualizer.getVirtualItems();
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = query;
  const isNearEnd = (items.at(-1)?.index ?? 0) >= shown.length - 20;
  useEffect(() => {
    if (isNearEnd && hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [isNearEnd, hasNextPage, isFetchingNextPage, fetchNextPage, shown.length]);
  useEffect(() => rememberList(shown.map((row) => row.id)), [shown]);
  const focus = useRowFocus(body, shown.length, (index) => virtualizer.scrollToIndex(index));
  if (shown.length === 0 && !hasNextPage) return <NoMessages filters={filters} isComplete={isComplete} />;
  return (
    <>
      {waiting > 0 && (
        <div className={style.new}>
          <Button kind="main" onClick={show}>
            {waiting} new
          </Button>
        </div>
      )}
    <div role="table" aria-label="Messages" aria-rowcount={-1} onKeyDown={focus}>
      <div role="rowgroup">
        <div role="row" className={style.head}>
          {["Accepted", "State", "Recipient", "Subject", "Provider", "Marks"].map((name) => <span role="columnheader" key={name}>{name}</span>)}
          <span role="columnheader" className={style.attempts}>Attempts</span>
        </div>
      </div>
      <div role="rowgroup" ref={body} className={style.body} style={{ height: virtualizer.getTotalSize() }}>
        {items.map((item) => (
          <Row key={shown[item.index]!.id} row={shown[item.index]!} index={item.index} top={item.start - virtualizer.options.scrollMargin} />
        ))}
      </div>
    </div>
      <p className={`${style.end} small muted`} role="status">
        {isFetchingNextPage ? (shown.length > 0 ? "Loading more." : "Looking among older messages.") : hasNextPage ? "" : endingOf(rows.length, isComplete)}
      </p>
    </>
  );
}

/** Drawn once: a turn of the wheel changes which rows there are, and not one of them. */
const Row = memo(function Row({ row, index, top }: { row: MessageSummary; index: number; top: number }) {
  const view = useView();
  return (
    <div role="row" className={style.rowGrid} style={{ transform: `translateY(${top}px)` }} data-index={index}>
      <span role="cell" className="num small" data-filter="since" data-value={row.created_at}>
        <Moment at={row.created_at} />
      </span>
      <span role="cell" data-filter="status" data-value={row.status}>
        <StateTag state={row.status} />
      </span>
      <span role="cell" data-filter="to" data-value={row.to[0]}>
        <Link to="/p/$project/messages/$messageId" params={{ project: view.project, messageId: row.id }}>
          {visible(row.to.slice(0, 3).join(", "))}
          {row.to.length > 3 && ` and ${row.to.length - 3} more`}
        </Link>
      </span>
      <span role="cell">{visible(row.subject ?? "")}</span>
      <span role="cell" data-filter="provider" data-value={row.provider?.name}>
        {row.provider ? visible(row.provider.name) : <span className="muted">none</span>}
      </span>
      <span role="cell"><Marks row={row} /></span>
      <span role="cell" className={`num ${style.attempts}`} data-retried={row.attempts > 1 || undefined}>
        {row.attempts}<span className={style.unit}> attempts</span>
      </span>
    </div>
  );
});

/** What a person has to know of a row beside its state. */
function Marks({ row }: { row: MessageSummary }) {
  if (!row.possible_duplicate) return row.failed_over ? <Tag tone="warn">Failed over</Tag> : null;
  return (
    <>
      {row.failed_over && <><Shape tone="warn" /><span className="visually-hidden">Failed over.</span> </>}
      <Tag tone="unsure">May have arrived twice</Tag>
    </>
  );
}

function NoMessages({ filters, isComplete }: { filters: MessageFilters; isComplete: boolean }) {
  const setFilters = useSetFilters();
  if (hasFilters(filters))
    return (
      <Empty>
        <p>{isComplete ? "No message fits these filters." : "None of the newest messages fits these filters. Older ones were not looked at."}</p>
        <Button onClick={() => setFilters(NO_FILTERS)}>
          Clear the filters
        </Button>
      </Empty>
    );
  return (
    <Empty>
      <p>Nothing has been sent here yet. The first message shows up by itself:</p>
      <code>
        sluice send --to ada@example.com --subject Hello --text Hello
      </code>
    </Empty>
  );
}

/** 32 px of a mouse, 40 px of a finger, and cards on a narrow screen. */
function useRowHeight(): number {
  const measure = () =>
    window.matchMedia("(max-width: 46rem)").matches ? 84 : window.matchMedia("(pointer: coarse)").matches ? 40 : 32;
  const [height, setHeight] = useState(measure);
  useEffect(() => {
    const onResize = () => setHeight(measure());
    window.addEventListener("resize", onResize);
    return () => window.removeEventListener("resize", onResize);
  }, []);
  return height;
}

/** j and k or the arrows move between rows, f filters by what the row shows. */
function useRowFocus(body: React.RefObject<HTMLDivElement | null>, length: number, scrollTo: (index: number) => void) {
  const setFilters = useSetFilters();
  const move = (step: number) => {
    const current = document.activeElement?.closest<HTMLElement>("[data-index]");
    const index = current ? Number(current.dataset.index) + step : 0;
    if (index < 0 || index >= length) return;
    const focus = () => body.current?.querySelector<HTMLElement>(`[data-index="${index}"] a`)?.focus();
    focus();
    scrollTo(index);
    requestAnimationFrame(focus); // a row that was not in the document before
  };
  useShortcuts({
    j: () => move(1),
    k: () => move(-1),
    f: () => {
      const row = document.activeElement?.closest("[data-index]");
      const cell = row?.querySelector<HTMLElement>("[data-filter=to]");
      if (cell?.dataset.value) setFilters({ to: cell.dataset.value });
    },
  });
  return (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    move(step);
  };
}

function downloadCsv(rows: MessageSummary[]): void {
  const lines = [
    ["id", "accepted", "state", "channel", "recipients", "subject", "provider", "attempts", "failed over", "may have arrived twice"],
    ...rows.map((row) => [row.id, row.created_at, row.status, row.channel, row.to.join(" "), row.subject ?? "", row.provider?.name ?? "", String(row.attempts), String(row.failed_over), String(row.possible_duplicate)]),
  ];
  const text = lines.map((line) => line.map(csvCell).join(",")).join("\r\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = "messages.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}
