// What became of the messages of a range of time, how fast, and by whom.
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { Bars, intervalText, Lines } from "../analytics/Plot";
import style from "../analytics/Plot.module.css";
import { COUNTS, DURATIONS, durationText, type Point, pointsOf, RATES, SHARES, sharesOf, totalOf } from "../analytics/series";
import { type Analytics as Data, type AnalyticsFilters, analyticsQuery, type GroupBy, type Numbers } from "../api/queries";
import { GROUPS, RANGES } from "../api/values";
import { useView } from "../frame/view";
import { ChannelFilter } from "../message/ChannelFilter";
import { CHANNEL_NAMES } from "../message/wording";
import { onForm, textOf } from "../parts/form";
import { Empty, Panel, Skeleton } from "../parts/panel";
import { Button, Card } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { type Column, Table } from "../parts/table";
import { visible } from "../parts/text";
import { useTitle } from "../parts/title";
import { percent } from "../parts/percent";

const FROM = "/p/$project/analytics";
const RANGE_NAMES: Record<number, string> = { 1: "24 hours", 7: "7 days", 30: "30 days" };
const GROUP_NAMES: Record<GroupBy, string> = { channel: "Channel", provider: "Provider", tag: "Tag" };

export function Analytics() {
  useTitle("Analytics");
  const view = useView();
  const { days = 1, channel, provider, tag, by = "provider" } = useSearch({ from: FROM });
  const filters = { days, channel, provider, tag };
  const series = useQuery(analyticsQuery(view, filters));
  const groups = useQuery(analyticsQuery(view, { ...filters, by }));
  return (
    <>
      <div className="heading">
        <h1>Analytics</h1>
      </div>
      <Filters filters={filters} />
      <Panel query={series} skeleton={<Skeleton lines={4} height="10rem" />}>
        {(data) => <Plots data={data} filters={filters} />}
      </Panel>
      <Card title={`By ${GROUP_NAMES[by].toLowerCase()}`} aside={<GroupPick by={by} />} padded={false} className="apart">
        <Panel query={groups}>{({ totals }) => <Groups totals={totals} by={by} />}</Panel>
      </Card>
    </>
  );
}

function useSetFilters() {
  const navigate = useNavigate({ from: FROM });
  return (change: Partial<AnalyticsFilters>) => void navigate({ search: (last) => ({ ...last, ...change }), replace: true });
}

function Filters({ filters }: { filters: AnalyticsFilters }) {
  const setFilters = useSetFilters();
  return (
    <form
      className={parts.filters}
      key={JSON.stringify(filters)}
      role="search"
      aria-label="What is counted"
      onSubmit={onForm((form) => setFilters({ provider: textOf(form, "provider") || undefined, tag: textOf(form, "tag") || undefined }))}
    >
      <label>
        The last
        <select value={filters.days} onChange={(event) => setFilters({ days: Number(event.target.value) })}>
          {RANGES.map((days) => <option key={days} value={days}>{RANGE_NAMES[days]}</option>)}
        </select>
      </label>
      <ChannelFilter value={filters.channel} onChange={(channel) => setFilters({ channel })} />
      <label>
        Provider
        <input name="provider" defaultValue={filters.provider} autoComplete="off" />
      </label>
      <label>
        Tag
        <input name="tag" defaultValue={filters.tag} autoComplete="off" />
      </label>
      <Button type="submit">Filter</Button>
      {(filters.channel || filters.provider || filters.tag) && (
        <Button kind="plain" onClick={() => setFilters({ channel: undefined, provider: undefined, tag: undefined })}>Clear the filters</Button>
      )}
    </form>
  );
}

function Plots({ data, filters }: { data: Data; filters: AnalyticsFilters }) {
  const { project } = useView();
  const navigate = useNavigate();
  const points = pointsOf(data);
  const isHourly = data.interval === "hour";
  if (data.data.length === 0)
    return (
      <section className={parts.card}>
        <Empty><p>No message has ended in the last {RANGE_NAMES[filters.days]}{filters.channel || filters.provider || filters.tag ? " that fits these filters" : ""}. Numbers follow messages within seconds.</p></Empty>
      </section>
    );
  const { channel, provider, tag } = filters;
  const searchOf = (point: Point) => ({ channel, provider, tag, since: new Date(point.from).toISOString(), until: new Date(point.to).toISOString() });
  const common = { points, isHourly };
  const quantiles = (name: "accept_to_sent_ms" | "sent_to_delivered_ms") => [
    { name: "p50", tone: "good" as const, dash: "none", of: ({ numbers }: Point) => numbers?.[name]?.p50 ?? null },
    { name: "p95", tone: "warn" as const, dash: "6 3", of: ({ numbers }: Point) => numbers?.[name]?.p95 ?? null },
    { name: "p99", tone: "bad" as const, dash: "2 3", of: ({ numbers }: Point) => numbers?.[name]?.p99 ?? null },
  ];
  return (
    <div className={style.plots}>
      <Card title="What became of them" aside="A click on a bar shows its messages">
        <Bars
          {...common}
          title="Messages by what became of them"
          series={SHARES.map(([share, name, tone]) => ({ name, tone, of: ({ numbers }) => sharesOf(numbers)[share] }))}
          scale={COUNTS}
          onPick={(point) => void navigate({ to: "/p/$project/messages", params: { project }, search: searchOf(point) })}
        />
      </Card>
      <Card title="Failures" aside="Of those that have ended">
        <Lines {...common} title="Failure rate" series={[{ name: "Failure rate", tone: "bad", dash: "none", of: ({ numbers }) => numbers?.failure_rate ?? null }]} scale={RATES} none="No message of these intervals has ended." />
      </Card>
      <Card title="From acceptance to the provider">
        <Lines {...common} title="Time from acceptance to the provider" series={quantiles("accept_to_sent_ms")} scale={DURATIONS} none="No provider has accepted a message of these intervals." />
      </Card>
      <Card title="From the provider to the recipient" aside="By receipts">
        <Lines {...common} title="Time from the provider to the recipient" series={quantiles("sent_to_delivered_ms")} scale={DURATIONS} none="No receipt has reported a delivery." />
      </Card>
      <details>
        <summary>The numbers as a table</summary>
        <Table
          label="The numbers by interval"
          rows={points.filter((point) => point.numbers !== null)}
          keyOf={(point) => String(point.from)}
          columns={[
            ["From", (point) => <Link to="/p/$project/messages" params={{ project }} search={searchOf(point)}>{intervalText(point.from, isHourly)}</Link>],
            ...columns<Point>((point) => point.numbers!),
          ]}
        />
      </details>
    </div>
  );
}

function columns<Row>(of: (row: Row) => Numbers): Column<Row>[] {
  const p95 = (row: Row, name: "accept_to_sent_ms" | "sent_to_delivered_ms") => {
    const found = of(row)[name];
    return found ? durationText(found.p95) : <span className="muted">none</span>;
  };
  return [
    ...SHARES.map(([share, name]) => [name, (row: Row) => sharesOf(of(row))[share].toLocaleString("en")] as Column<Row>),
    ["Failure rate", (row) => (of(row).failure_rate === null ? <span className="muted">none</span> : percent(of(row).failure_rate!))],
    ["p95 to the provider", (row) => p95(row, "accept_to_sent_ms")],
    ["p95 to the recipient", (row) => p95(row, "sent_to_delivered_ms")],
    ["Failed over", (row) => of(row).failovers.toLocaleString("en")],
  ];
}

function GroupPick({ by }: { by: GroupBy }) {
  const setFilters = useSetFilters();
  return (
    <label className="row">
      Divided by
      <select value={by} onChange={(event) => setFilters({ by: event.target.value as GroupBy })}>
        {GROUPS.map((one) => <option key={one} value={one}>{GROUP_NAMES[one].toLowerCase()}</option>)}
      </select>
    </label>
  );
}

function nameOf(numbers: Numbers, by: GroupBy): string {
  if (by === "channel") return numbers.channel ? CHANNEL_NAMES[numbers.channel] : "unknown";
  if (by === "provider") return numbers.provider?.name ?? "No provider was tried";
  return numbers.tag ?? "Without a tag";
}

function Groups({ totals, by }: { totals: Numbers[]; by: GroupBy }) {
  const all = totals.reduce((sum, one) => sum + totalOf(sharesOf(one)), 0);
  if (totals.length === 0) return <Empty><p>Nothing to divide.</p></Empty>;
  return (
    <Table
      label={`Numbers by ${by}`}
      rows={totals}
      keyOf={(row) => row.provider?.id ?? nameOf(row, by)}
      columns={[
        [GROUP_NAMES[by], (row) => <b>{visible(nameOf(row, by))}</b>],
        ["Share", (row) => percent(all === 0 ? 0 : totalOf(sharesOf(row)) / all)],
        ...columns<Numbers>((row) => row),
      ]}
    />
  );
}
