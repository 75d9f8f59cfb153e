// Is everything well, what is broken, what was sent last.
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type MessageSummary, newestQuery, type Provider, providersQuery, statusQuery } from "../api/queries";
import { useRole, useView } from "../frame/view";
import { CHANNEL_NAMES, CHANNEL_WORDS, ordinal, type Tone } from "../message/wording";
import { Empty, Panel, Skeleton } from "../parts/panel";
import { Card, CopyButton, Note, SandboxTag, StateTag } from "../parts/parts";
import { visible } from "../parts/text";
import { Moment, relative, useNow } from "../parts/time";
import { useTitle } from "../parts/title";
import { HealthTag } from "../providers/health";
import style from "./Overview.module.css";

const SHOWN = 10;
const FIRST = { ...CHANNEL_WORDS, push: "push message" };

export function Overview() {
  useTitle("Overview");
  const isViewer = useRole() === "VIEWER";
  return (
    <>
      <div className="heading">
        <h1>Overview</h1>
      </div>
      {!isViewer && <Condition />}
      <div className="stack stack-wide">
        <FirstMessage />
        <div className="split">
          <div className="stack stack-wide">
            <Newest />
            <Failures />
          </div>
          <div className="stack stack-wide">
            <Waiting />
            {!isViewer && <Health />}
          </div>
        </div>
      </div>
    </>
  );
}

/** One sentence: the worst thing that is true now. */
function Condition() {
  const { data } = useQuery(providersQuery(useView()));
  if (!data) return <Skeleton lines={1} height="3rem" />;
  const [tone, lead, text] = conditionOf(data);
  return (
    <Note tone={tone} lead={lead}>
      {text && <p>{text}</p>}
    </Note>
  );
}

function conditionOf(providers: Provider[]): [Tone, string, string] {
  const enabled = providers.filter((one) => one.enabled);
  if (enabled.length === 0) return ["warn", "No provider is enabled: messages wait.", ""];
  const names = (some: Provider[]) => some.map((one) => visible(one.name)).join(", ");
  const unhealthy = enabled.filter((one) => one.health.status === "unhealthy");
  const blocked = [...new Set(unhealthy.map((one) => one.channel))].filter((channel) =>
    enabled.every((one) => one.channel !== channel || one.health.status === "unhealthy"),
  );
  if (blocked.length > 0)
    return ["bad", `${blocked.map((channel) => CHANNEL_NAMES[channel]).join(", ")}: no provider can be used. Messages wait.`, `Unhealthy: ${names(unhealthy)}.`];
  if (unhealthy.length > 0)
    return ["warn", `${names(unhealthy)} ${unhealthy.length === 1 ? "is" : "are"} unhealthy. Messages take the next provider.`, "Nothing waits for it."];
  const degraded = enabled.filter((one) => one.health.status === "degraded");
  if (degraded.length > 0) return ["warn", `${names(degraded)} ${degraded.length === 1 ? "is" : "are"} degraded.`, "Healthy providers are used first."];
  return ["good", "Every provider is healthy.", ""];
}

/** In a project that has just begun: the first message, or the request that sends one. */
function FirstMessage() {
  const view = useView();
  const now = useNow(5_000);
  const { data } = useQuery(newestQuery(view, {}, SHOWN));
  if (!data || data.next_cursor !== null || data.data.length > 3) return null;
  const first = data.data.at(-1);
  if (!first) return <FirstRequest />;
  const provider = first.attempts > 1 ? `through the ${ordinal(first.attempts)} provider, because the first one failed` : first.provider ? `through ${visible(first.provider.name)}` : "";
  return (
    <Card title="Your first message">
      <p>
        Your first {FIRST[first.channel]} went out {relative(Date.parse(first.created_at), now)}{" "}
        {provider}.{" "}
        <Link to="/p/$project/messages/$messageId" params={{ project: view.project, messageId: first.id }}>
          See its timeline
        </Link>
      </p>
      <ol className={style.steps}>
        <li>Send one yourself, with a key of the project: it shows up below at once. <CopyButton label="Copy the request" text={() => requestText()} /></li>
        <li>
          <Link to="/p/$project/providers" params={{ project: view.project }}>Look at the providers</Link> and move the healthy one to the top.
        </li>
        <li>Add a real provider with <code>sluice provider add</code>, and a webhook for what happens to messages.</li>
      </ol>
    </Card>
  );
}

function FirstRequest() {
  return (
    <Card title="Send the first message">
      <p>Nothing has been sent here yet. This card changes by itself when the first request arrives:</p>
      <code>{requestText()}</code>
      <span><CopyButton label="Copy the request" text={() => requestText()} /></span>
    </Card>
  );
}

function requestText(): string {
  const body = { channel: "email", from: "you@example.com", to: ["friend@example.com"], subject: "Hi", text: "Hello" };
  return `curl -s ${window.location.origin}/v1/messages/channel -H "X-SendPipe-Key: $KEY" -H 'Content-Type: application/json' -d '${JSON.stringify(body)}'`;
}

function Newest() {
  const query = useQuery(newestQuery(useView(), {}, SHOWN));
  return (
    <Card title="Newest messages" aside={<AllLink />}>
      <Panel query={query} skeleton={<Skeleton lines={5} />}>
        {(page) => (page.data.length === 0 ? <Empty><p>None yet.</p></Empty> : <Rows rows={page.data} />)}
      </Panel>
    </Card>
  );
}

function Failures() {
  const view = useView();
  const query = useQuery(newestQuery(view, { status: "FAILED" }, SHOWN));
  return (
    <Card title="Last failures" aside={<Link to="/p/$project/messages" params={{ project: view.project }} search={{ status: "FAILED" }}>All failed</Link>}>
      <Panel query={query} skeleton={<Skeleton lines={2} />}>
        {(page) => (page.data.length === 0 ? <p className="muted">No message has failed.</p> : <Rows rows={page.data} />)}
      </Panel>
    </Card>
  );
}

function AllLink() {
  const { project } = useView();
  return <Link to="/p/$project/messages" params={{ project }}>All messages</Link>;
}

function Rows({ rows }: { rows: MessageSummary[] }) {
  const { project, mode } = useView();
  return (
    <table className={`${style.rows} small`}>
      <thead>
        <tr><th>Accepted</th><th>State</th><th>Recipient</th><th>Provider</th></tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={row.id}>
            <td className="num"><Moment at={row.created_at} /></td>
            <td><StateTag state={row.status} /> {mode === "test" && <SandboxTag />}</td>
            <td>
              <Link to="/p/$project/messages/$messageId" params={{ project, messageId: row.id }}>{visible(row.to.join(", "))}</Link>
              {row.subject && <div className="muted">{visible(row.subject)}</div>}
            </td>
            <td>{row.provider ? visible(row.provider.name) : <span className="muted">none</span>}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** What has no end yet, by channel: what could go now, and since when. */
function Waiting() {
  const query = useQuery(statusQuery(useView()));
  const now = useNow(5_000);
  return (
    <Card title="Waiting">
      <Panel query={query} skeleton={<Skeleton lines={1} />}>
        {({ waiting }) => {
          const some = waiting?.filter((one) => one.due + one.scheduled + one.in_flight > 0) ?? [];
          if (some.length === 0) return <p className="muted">{waiting ? "No message waits." : "Not known while PostgreSQL is away."}</p>;
          return (
            <table className="small">
              <thead>
                <tr><th>Channel</th><th>Due</th><th>In flight</th><th>Later</th></tr>
              </thead>
              <tbody>
                {some.map((one) => (
                  <tr key={one.channel}>
                    <td>{CHANNEL_NAMES[one.channel]}</td>
                    <td className="num">
                      {one.due.toLocaleString("en")}
                      {one.oldest_due_at && <div className="muted">oldest {relative(Date.parse(one.oldest_due_at), now)}</div>}
                    </td>
                    <td className="num">{one.in_flight.toLocaleString("en")}</td>
                    <td className="num">{one.scheduled.toLocaleString("en")}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          );
        }}
      </Panel>
    </Card>
  );
}

function Health() {
  const view = useView();
  const query = useQuery(providersQuery(view));
  return (
    <Card title="Providers" aside={<Link to="/p/$project/providers" params={{ project: view.project }}>Order and health</Link>}>
      <Panel query={query}>
        {(providers) => (
          <table className="small">
            <tbody>
              {providers.map((one) => (
                <tr key={one.id}>
                  <td>
                    <Link to="/p/$project/providers/$channel" params={{ project: view.project, channel: one.channel }} search={{ open: one.id }}>{visible(one.name)}</Link>
                    <div className="muted">{CHANNEL_NAMES[one.channel]}</div>
                  </td>
                  <td><HealthTag provider={one} /></td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Panel>
    </Card>
  );
}
