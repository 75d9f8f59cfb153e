// The addresses to which nothing is sent, and why.
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { lazy, Suspense, useState } from "react";
import { type Suppression, type SuppressionFilters, suppressionsQuery } from "../api/queries";
import { REASONS } from "../api/values";
import { useRole, useView } from "../frame/view";
import { ChannelFilter } from "../message/ChannelFilter";
import { CHANNEL_NAMES } from "../message/wording";
import { onForm, textOf } from "../parts/form";
import { Pages } from "../parts/pages";
import { Button, Tag } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { type Column, Table } from "../parts/table";
import { visible } from "../parts/text";
import { Moment } from "../parts/time";
import { useTitle } from "../parts/title";
import type { Asked } from "../suppressions/Dialogs";
import { REASON_NAMES, REASON_TONES } from "../suppressions/wording";

const Dialogs = lazy(() => import("../suppressions/Dialogs"));
const FROM = "/p/$project/suppressions";
const NONE: SuppressionFilters = { channel: undefined, address: undefined, reason: undefined };

function useSetFilters() {
  const navigate = useNavigate({ from: FROM });
  return (change: SuppressionFilters) => void navigate({ search: (last) => ({ ...last, ...change }), replace: true });
}

export function Suppressions() {
  useTitle("Suppressions");
  const mayWrite = useRole() !== "VIEWER";
  const filters = useSearch({ from: FROM, select: ({ channel, address, reason }) => ({ channel, address, reason }) });
  const hasFilters = Object.values(filters).some(Boolean);
  const query = useInfiniteQuery(suppressionsQuery(useView(), filters));
  const [asked, setAsked] = useState<Asked | null>(null);
  return (
    <>
      <div className="heading">
        <h1>Suppressions</h1>
        {mayWrite && <Button kind="main" onClick={() => setAsked({ act: "add" })}>Suppress addresses…</Button>}
      </div>
      <Filters filters={filters} hasFilters={hasFilters} />
      <section className={parts.card} aria-label="Suppressed addresses">
        <Pages
          query={query}
          empty={<p>{hasFilters ? "No suppression fits these filters." : "No address is suppressed. One that bounces for good, complains or unsubscribes is added by itself."}</p>}
        >
          {(rows) => (
            <>
              <Table label="Suppressed addresses" rows={rows} keyOf={(row) => row.id} columns={columnsFor(mayWrite, setAsked)} />
              {hasFilters && mayWrite && (
                <p className={parts.more}>
                  <Button kind="stop" onClick={() => setAsked({ act: "removeAll", filters })}>Remove all that match…</Button>
                </p>
              )}
            </>
          )}
        </Pages>
      </section>
      <Suspense>{asked && <Dialogs asked={asked} onClose={() => setAsked(null)} />}</Suspense>
    </>
  );
}

function columnsFor(mayWrite: boolean, ask: (asked: Asked) => void): Column<Suppression>[] {
  return [
    ["Address", (row) => <b>{visible(row.address)}</b>],
    ["Channel", (row) => CHANNEL_NAMES[row.channel]],
    ["Reason", (row) => <><Tag tone={REASON_TONES[row.reason]}>{REASON_NAMES[row.reason]}</Tag>{row.detail && <div className="small muted">{visible(row.detail)}</div>}</>],
    ["Origin", (row) => <Origin suppression={row} />],
    ["Since", (row) => <Moment at={row.created_at} />],
    ...(mayWrite
      ? [["", (row) => <Button kind="plain" aria-label={`Remove ${visible(row.address)}`} onClick={() => ask({ act: "remove", suppression: row })}>Remove…</Button>] as Column<Suppression>]
      : []),
  ];
}

function Origin({ suppression: { source } }: { suppression: Suppression }) {
  const { project } = useView();
  if (!source?.message_id) return <span className="muted">{source ? "an event" : "added by hand"}</span>;
  return <Link to="/p/$project/messages/$messageId" params={{ project, messageId: source.message_id }}>its message</Link>;
}

/** The API wants the channel of an address: one that has been chosen, otherwise the one whose addresses look like it. */
function filterOf(address: string, channel: SuppressionFilters["channel"]): SuppressionFilters {
  if (address === "") return { address: undefined };
  return { address, channel: channel ?? (address.includes("@") ? "email" : "sms") };
}

function Filters({ filters, hasFilters }: { filters: SuppressionFilters; hasFilters: boolean }) {
  const setFilters = useSetFilters();
  return (
    <form
      className={parts.filters}
      key={JSON.stringify(filters)}
      role="search"
      aria-label="Filter the suppressions"
      onSubmit={onForm((form) => setFilters(filterOf(textOf(form, "address"), filters.channel)))}
    >
      <ChannelFilter value={filters.channel} onChange={(channel) => setFilters(channel ? { channel } : { channel, address: undefined })} />
      <label>
        Reason
        <select value={filters.reason ?? ""} onChange={(event) => setFilters({ reason: (event.target.value || undefined) as SuppressionFilters["reason"] })}>
          <option value="">any</option>
          {REASONS.map((reason) => <option key={reason} value={reason}>{REASON_NAMES[reason]}</option>)}
        </select>
      </label>
      <label>
        Address
        <input name="address" defaultValue={filters.address} autoComplete="off" />
      </label>
      <Button type="submit">Filter</Button>
      {hasFilters && <Button kind="plain" onClick={() => setFilters(NONE)}>Clear the filters</Button>}
    </form>
  );
}
