// One event for an endpoint: each request, its answer, and the same event again.
import type { Schemas } from "../api/client";
import type { Webhook, WebhookDelivery } from "../api/queries";
import { useRole } from "../frame/view";
import { useWrite } from "../frame/write";
import { count } from "../message/wording";
import { ErrorNote } from "../parts/panel";
import { Button, Facts, Tag } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { visible } from "../parts/text";
import { Ago, Moment } from "../parts/time";
import style from "./Delivery.module.css";
import { TONE_OF_STATUS } from "./wording";

export function Delivery({ webhook, delivery }: { webhook: Webhook; delivery: WebhookDelivery }) {
  return (
    <li className={style.delivery}>
      <details>
        <summary className={style.line}>
          <span className="num"><Moment at={delivery.created_at} /></span>
          <code>{delivery.type}</code>
          <Tag tone={TONE_OF_STATUS[delivery.status]}>{delivery.status}</Tag>
          <span className="muted">
            {count(delivery.attempts.length, "attempt")}
            {delivery.next_attempt_at && <>, next <Ago at={delivery.next_attempt_at} /></>}
          </span>
        </summary>
        <div className="stack">
          <Facts facts={[["Event", <code key="event">{delivery.event_id}</code>], ["Delivery", <code key="id">{delivery.id}</code>]]} />
          <ol className="stack" aria-label="Attempts">
            {delivery.attempts.map((attempt) => <Attempt key={attempt.number} attempt={attempt} />)}
          </ol>
          {delivery.attempts.length === 0 && <p className="muted">No request has been made yet.</p>}
        </div>
      </details>
      <Replay webhook={webhook} delivery={delivery} />
    </li>
  );
}

function Attempt({ attempt }: { attempt: Schemas["AttemptResponse"] }) {
  return (
    <li className="stack">
      <p className="row">
        <b>{attempt.number}</b>
        <Tag tone={attempt.error === null ? "good" : "bad"}>{attempt.status ?? "no answer"}</Tag>
        <span className="muted">
          <Moment at={attempt.started_at} full />, {attempt.duration_ms.toLocaleString("en")} ms
        </span>
        {attempt.error && <span>{visible(attempt.error)}</span>}
      </p>
      {attempt.answer && (
        // A long answer is scrolled by keyboard, too.
        <pre className={parts.answer} tabIndex={0} aria-label={`Answer to attempt ${attempt.number}`}>{visible(attempt.answer)}</pre>
      )}
    </li>
  );
}

function Replay({ webhook, delivery }: { webhook: Webhook; delivery: WebhookDelivery }) {
  const mayWrite = useRole() !== "VIEWER";
  const replay = useWrite("webhooks", (client, _: void) =>
    client.POST("/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay", {
      params: { path: { webhook_id: webhook.id, delivery_id: delivery.id } },
    }),
  );
  if (!mayWrite) return null;
  return (
    <div>
      <Button onClick={() => replay.mutate()} disabled={replay.isPending || delivery.status === "PENDING"} aria-label={`Send again: ${delivery.type}`}>
        Send again
      </Button>
      {replay.error && <ErrorNote error={replay.error} />}
    </div>
  );
}
