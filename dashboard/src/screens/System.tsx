// What runs, what does not and since when, how far each role is behind, what waits, what could not be processed.
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type DeadLetter, deadLettersQuery, type Status, statusQuery } from "../api/queries";
import { useView } from "../frame/view";
import { duration } from "../message/axis";
import { CHANNEL_NAMES } from "../message/wording";
import { Panel } from "../parts/panel";
import { Pages } from "../parts/pages";
import { Card, Note, Tag } from "../parts/parts";
import { Table } from "../parts/table";
import { visible } from "../parts/text";
import { Ago, Moment } from "../parts/time";
import { useTitle } from "../parts/title";
import { conditionOf, lagText, PART_TONES, SERVICE_NAMES } from "../system/wording";

export function System() {
  useTitle("System");
  const query = useQuery(statusQuery(useView()));
  return (
    <>
      <div className="heading">
        <h1>System</h1>
        {query.data && <span className="small muted">Sluice {query.data.version}, measured <Ago at={query.data.measured_at} /></span>}
      </div>
      <Panel query={query}>{(status) => <Parts status={status} />}</Panel>
      <DeadLetters />
    </>
  );
}

const StateTag = ({ state }: { state: string }) => <Tag tone={PART_TONES[state] ?? "idle"}>{state}</Tag>;

function Parts({ status }: { status: Status }) {
  const [tone, lead, text] = conditionOf(status);
  const services = (["postgres", "kafka", "redis"] as const).map((name) => ({ name, ...status[name] }));
  return (
    <>
      <Note tone={tone} lead={lead}>{text && <p>{text}</p>}</Note>
      <div className="stack stack-wide">
        <Card title="Backing services" aside="As this gateway reaches them" padded={false}>
          <Table
            label="Backing services"
            rows={services}
            keyOf={(row) => row.name}
            columns={[
              ["Service", (row) => <b>{SERVICE_NAMES[row.name]}</b>],
              ["State", (row) => <><StateTag state={row.status} />{row.error && <div className="small">{visible(row.error)}</div>}</>],
              ["Since", (row) => (row.since ? <Moment at={row.since} /> : <span className="muted">not seen</span>)],
              ["Answers in", (row) => (row.latency_ms === null ? <span className="muted">no answer</span> : duration(row.latency_ms))],
            ]}
          />
        </Card>
        <Card title="Roles" aside="By their consumers on the bus; lag: the age of the oldest record to work on" padded={false}>
          <Table
            label="Roles"
            rows={status.roles}
            keyOf={(row) => row.role}
            columns={[
              ["Role", (row) => <b>{row.role}</b>],
              ["State", (row) => <StateTag state={row.status} />],
              ["Consumers", (row) => row.consumers ?? <span className="muted">unknown</span>],
              ["Lag", (row) => lagText(row.lag_s)],
              ["Records to work on", (row) => row.lag_records?.toLocaleString("en") ?? <span className="muted">unknown</span>],
            ]}
          />
        </Card>
        <Waiting waiting={status.waiting} />
      </div>
    </>
  );
}

function Waiting({ waiting }: { waiting: Status["waiting"] }) {
  return (
    <Card title="What waits in this project" aside="Deliveries without an end; at most 10,000 are counted" padded={waiting === null || waiting.length === 0}>
      {waiting === null && <p className="muted">Unknown without PostgreSQL.</p>}
      {waiting?.length === 0 && <p className="muted">Nothing waits.</p>}
      {waiting && waiting.length > 0 && (
        <Table
          label="What waits"
          rows={waiting}
          keyOf={(row) => row.channel}
          columns={[
            ["Channel", (row) => <b>{CHANNEL_NAMES[row.channel]}</b>],
            ["Could be sent now", (row) => row.due.toLocaleString("en")],
            ["Oldest of them", (row) => (row.oldest_due_at ? <Ago at={row.oldest_due_at} /> : <span className="muted">none</span>)],
            ["Later", (row) => row.scheduled.toLocaleString("en")],
            ["At a provider", (row) => row.in_flight.toLocaleString("en")],
          ]}
        />
      )}
    </Card>
  );
}

function DeadLetters() {
  const query = useInfiniteQuery(deadLettersQuery(useView()));
  return (
    <Card title="What could not be processed" aside={<>In the last 30 days. <code>sluice dead-letters replay</code> sends records again</>} padded={false} className="apart">
      <Pages query={query} empty={<p>No record was refused and no delivery failed.</p>}>
        {(rows) => (
          <Table
            label="What could not be processed"
            rows={rows}
            keyOf={(row) => row.id}
            columns={[
              ["When", (row) => <Moment at={row.created_at} />],
              ["What", (row) => (row.kind === "invalid_record" ? "Invalid record" : "Failed delivery")],
              ["State", (row) => <Tag tone={row.status === "open" ? "bad" : "idle"}>{row.status}</Tag>],
              ["Reason", (row) => visible(row.reason)],
              ["Where", (row) => <Place letter={row} />],
            ]}
          />
        )}
      </Pages>
    </Card>
  );
}

function Place({ letter }: { letter: DeadLetter }) {
  const { project } = useView();
  if (letter.message_id !== null)
    return <Link to="/p/$project/messages/$messageId" params={{ project, messageId: letter.message_id }}>its message</Link>;
  if (letter.topic === null) return <span className="muted">unknown</span>;
  return <code>{letter.topic} {letter.partition}:{letter.offset}</code>;
}
