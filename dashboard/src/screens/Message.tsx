// One message: what became of it, why, and what may be done now.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useRouter } from "@tanstack/react-router";
import { lazy, Suspense, useState } from "react";
import { apiOf, dataOf } from "../api/client";
import { contentQuery, type Message, messageQuery } from "../api/queries";
import { useShortcuts } from "../frame/shortcuts";
import { useRole, useView } from "../frame/view";
import { duration } from "../message/axis";
import { ContentPanel } from "../message/Content";
import { curlOf } from "../message/curl";
import { neighbours } from "../message/list";
import { type Attempt, deliveryOf, type DeliveryTimeline, foldTimeline } from "../message/timeline";
import { TimelinePlot } from "../message/TimelinePlot";
import plot from "../message/TimelinePlot.module.css";
import {
  CHANNEL_NAMES, count, duplicateWarning, nameOf, outcomeTone, outcomeWord, receiptTone, receiptWord, summarize,
} from "../message/wording";
import { Panel, Skeleton } from "../parts/panel";
import { Button, Card, CopyButton, Facts, Note, SandboxTag, Shape, StateTag, Tag } from "../parts/parts";
import { visible } from "../parts/text";
import { clockOf, Moment } from "../parts/time";
import { useTitle } from "../parts/title";
import { errorRate } from "../providers/health";
import style from "./Message.module.css";

const CancelDialog = lazy(() => import("../message/CancelDialog"));

export function MessageScreen() {
  const { messageId } = useParams({ from: "/p/$project/messages/$messageId" });
  const query = useQuery(messageQuery(useView(), messageId));
  return (
    <>
      <Crumb id={messageId} />
      {query.error && !query.data && <div className="heading"><h1>Message {messageId}</h1></div>}
      <Panel query={query} skeleton={<Skeleton lines={6} height="4rem" />}>
        {(message) => <Shown message={message} />}
      </Panel>
    </>
  );
}

function Crumb({ id }: { id: string }) {
  const { project } = useView();
  const router = useRouter();
  const navigate = useNavigate();
  const { previous, next } = neighbours(id);
  const open = (messageId: string | undefined) => {
    if (messageId) void navigate({ to: "/p/$project/messages/$messageId", params: { project, messageId }, replace: true });
  };
  useShortcuts({ "[": () => open(previous), "]": () => open(next) });
  return (
    <nav className={`${style.crumb} small`} aria-label="Place">
      <Link to="/p/$project/messages" params={{ project }}>
        Messages
      </Link>
      {(previous || next) && (
        <>
          <Button kind="plain" onClick={() => router.history.back()}>Back to the list</Button>
          <Button kind="plain" disabled={!previous} onClick={() => open(previous)} aria-label="Previous message of the list">← newer</Button>
          <Button kind="plain" disabled={!next} onClick={() => open(next)} aria-label="Next message of the list">older →</Button>
        </>
      )}
    </nav>
  );
}

function Shown({ message }: { message: Message }) {
  const deliveries = foldTimeline(message);
  const subject = visible(message.subject ?? `${CHANNEL_NAMES[message.channel]} to ${message.to.join(", ")}`);
  useTitle(subject);
  return (
    <>
      <div className={style.summary}>
        <div className="stack">
          <div className="row">
            <h1>{subject}</h1>
            <StateTag state={message.status} />
            {useView().mode === "test" && <SandboxTag />}
          </div>
          <p className="sub">
            {summarize(message, deliveries)} To <b>{visible(message.to.join(", "))}</b>.{" "}
            <span className="mono small">{message.id}</span>
          </p>
        </div>
        <Actions message={message} />
      </div>
      {deliveries.map((delivery) => {
        const warning = duplicateWarning(message, delivery);
        return warning && (
          <Note key={delivery.id} tone="unsure" lead={visible(warning.lead)}>
            <p>{warning.text} The class <b>once</b> forbids this.</p>
          </Note>
        );
      })}
      {deliveries.length === 1
        ? <Delivery delivery={deliveries[0]!} message={message} />
        : <Deliveries deliveries={deliveries} message={message} />}
      <Content id={message.id} />
    </>
  );
}

function Content({ id }: { id: string }) {
  const view = useView();
  const query = useQuery(contentQuery(view, id));
  return (
    <Card title="Content" className={style.content}>
      <ContentPanel query={query} path={`/v1/messages/${id}`} view={view} />
    </Card>
  );
}

function Actions({ message }: { message: Message }) {
  const view = useView();
  const mayWrite = useRole() !== "VIEWER";
  const queryClient = useQueryClient();
  const [isAsking, setAsking] = useState(false);
  const cancel = useMutation({
    mutationFn: () =>
      dataOf(apiOf(view).DELETE("/v1/messages/{message_id}/cancel", { params: { path: { message_id: message.id } } })),
    onSuccess: (answer) => {
      queryClient.setQueryData(messageQuery(view, message.id).queryKey, answer);
      setAsking(false);
    },
  });
  return (
    <div className="row">
      {mayWrite && message.status === "QUEUED" && <Button kind="stop" onClick={() => setAsking(true)}>Cancel the message…</Button>}
      <CopyButton kind="" label="Copy as curl" text={() => curlOf(message, window.location.origin)} />
      <Suspense>
        {isAsking && (
          <CancelDialog onCancel={() => cancel.mutate()} onClose={() => setAsking(false)} error={cancel.error} isPending={cancel.isPending} />
        )}
      </Suspense>
    </div>
  );
}

/** Several recipients: one group each, failures first and open. */
function Deliveries({ deliveries, message }: { deliveries: DeliveryTimeline[]; message: Message }) {
  return deliveries.map((delivery, index) => (
    <details key={delivery.id} className={style.delivery} open={index === 0}>
      <summary>
        <b>{visible(delivery.recipient)}</b>
        <StateTag state={delivery.state} />
        <span className="small muted">{count(delivery.attempts.length, "attempt")}</span>
      </summary>
      <Delivery delivery={delivery} message={message} />
    </details>
  ));
}

function Delivery({ delivery, message }: { delivery: DeliveryTimeline; message: Message }) {
  return (
    <>
      {delivery.attempts.length + delivery.waits.length + delivery.receipts.length > 0 && (
        <Card title="Timeline" aside={<Legend />} className={plot.card}>
          <div className="scroll">
            <TimelinePlot delivery={delivery} />
          </div>
        </Card>
      )}
      <div className="split">
        <div className="stack stack-wide">
          <Attempts delivery={delivery} />
          <Receipts delivery={delivery} />
          <Events message={message} delivery={delivery} />
        </div>
        <div className="stack stack-wide">
          <About message={message} />
        </div>
      </div>
    </>
  );
}

function Legend() {
  return (
    <span className="row small">
      <span className="legend"><Shape tone="good" />accepted, delivered</span>
      <span className="legend"><Shape tone="unsure" />unknown</span>
      <span className="legend"><Shape tone="bad" />failed</span>
    </span>
  );
}

function Attempts({ delivery }: { delivery: DeliveryTimeline }) {
  const providers = new Set(delivery.attempts.map((attempt) => attempt.provider?.id)).size;
  return (
    <Card title="Attempts" aside={`${count(delivery.attempts.length, "call")}, ${count(providers, "provider")}`} padded={false}>
      {delivery.attempts.length === 0 && <p className={`${style.none} muted`}>No provider has been called.</p>}
      <ol>
        {delivery.attempts.map((attempt) => <AttemptItem key={attempt.number} attempt={attempt} />)}
      </ol>
    </Card>
  );
}

function AttemptItem({ attempt }: { attempt: Attempt }) {
  const end = attempt.to === null ? "now" : clockOf(attempt.to, true).slice(-5);
  return (
    <li className={style.attempt}>
      <span className={style.number}>{attempt.number}</span>
      <div>
        <div className={style.line}>
          <b>{visible(nameOf(attempt))}</b>
          <Tag tone={outcomeTone(attempt)}>{outcomeWord(attempt)}</Tag>
          <span className="small muted num">{clockOf(attempt.from, true)} – {end}</span>
        </div>
        {(attempt.detail || attempt.reason) && (
          <p className="small sub">
            {attempt.reason && <b>{attempt.reason.replaceAll("_", " ")}: </b>}
            {visible(attempt.detail)}
          </p>
        )}
        {attempt.routing && <Why routing={attempt.routing} at={attempt.from} />}
      </div>
      <span className="num nowrap small">{attempt.to === null ? "" : duration(attempt.to - attempt.from)}</span>
    </li>
  );
}

function Why({ routing, at }: { routing: NonNullable<Attempt["routing"]>; at: number }) {
  return (
    <details>
      <summary>Why this provider</summary>
      {routing.reason && <p className="small">{visible(routing.reason)}</p>}
      {routing.candidates.length > 0 && (
        <table className={`${style.candidates} small`}>
          <thead>
            <tr><th>Candidate</th><th>Decision</th><th>Reason at {clockOf(at, true)}</th></tr>
          </thead>
          <tbody>
            {routing.candidates.map((candidate) => {
              const isChosen = candidate.excluded === null;
              const evidence = candidate.evidence;
              return (
                <tr key={candidate.provider.id}>
                  <td>{visible(candidate.provider.name)}</td>
                  <td><Tag tone={isChosen ? "good" : "idle"}>{isChosen ? "Chosen" : "Excluded"}</Tag></td>
                  <td>
                    {visible(candidate.excluded ?? routing.reason ?? "")}
                    {evidence && ` (${evidence.status}, ${errorRate(evidence.error_rate, evidence.attempts)})`}
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      )}
    </details>
  );
}

function Receipts({ delivery }: { delivery: DeliveryTimeline }) {
  if (delivery.receipts.length === 0) return null;
  return (
    <Card title="Receipts" aside={count(delivery.receipts.length, "receipt")} padded={false}>
      <ol>
        {delivery.receipts.map((receipt) => (
          <li key={receipt.id} className={style.attempt}>
            <span />
            <div>
              <div className={style.line}>
                <Tag tone={receiptTone(receipt)}>{receiptWord(receipt)}</Tag>
                <span>{receipt.attempt === null ? "of no known attempt" : `of attempt ${receipt.attempt}, ${visible(nameOf(receipt))}`}</span>
              </div>
              {(receipt.detail || receipt.reason) && (
                <p className="small sub">
                  {receipt.reason && <b>{receipt.reason.replaceAll("_", " ")}: </b>}
                  {visible(receipt.detail)}
                </p>
              )}
            </div>
            <span className="num nowrap small">{clockOf(receipt.at, true)}</span>
          </li>
        ))}
      </ol>
    </Card>
  );
}

function Events({ message, delivery }: { message: Message; delivery: DeliveryTimeline }) {
  const events = message.events.filter((event) => deliveryOf(event) === delivery.id);
  return (
    <Card title="All events" aside="Only ever added">
      <table className={`${style.events} small`} aria-label="All events">
        <thead>
          <tr><th>Time</th><th>Event</th><th>State asserted</th><th>From</th></tr>
        </thead>
        <tbody>
          {events.map((event) => (
            <tr key={event.id}>
              <td className="num nowrap">{clockOf(Date.parse(event.created_at), true)}</td>
              <td>
                {event.type.replaceAll("_", " ")}
                {event.attempt !== null && `, attempt ${event.attempt}`}
                {event.detail && <div className="muted">{visible(event.detail)}</div>}
              </td>
              <td>{event.status ?? <span className="muted">none</span>}</td>
              <td>{event.provider ? visible(event.provider.name) : "Sluice"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

function About({ message }: { message: Message }) {
  const metadata = Object.entries(message.metadata ?? {});
  return (
    <Card title="Message">
      <Facts
        facts={[
          ["Channel", CHANNEL_NAMES[message.channel]],
          ["From", visible(message.from ?? "not set")],
          ["To", visible(message.to.join(", "))],
          ...(message.template ? [["Template", `${message.template.id}, version ${message.template.version}`] as [string, string]] : []),
          ["Class", message.class],
          ["Tags", message.tags.length > 0 ? message.tags.map((tag) => <TagLink key={tag} tag={tag} />) : "none"],
          ["Accepted", <Moment key="at" at={message.created_at} full />],
          ...metadata.map(([name, value]) => [visible(name), visible(typeof value === "string" ? value : JSON.stringify(value))] as [string, string]),
        ]}
      />
    </Card>
  );
}

function TagLink({ tag }: { tag: string }) {
  const { project } = useView();
  return (
    <>
      <Link to="/p/$project/messages" params={{ project }} search={{ tag }}>
        {visible(tag)}
      </Link>{" "}
    </>
  );
}
