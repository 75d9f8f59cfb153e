// The endpoints that get events, and what became of each event.
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { lazy, Suspense, useState } from "react";
import { type Webhook, webhookDeliveriesQuery, type WebhookStatus, webhooksQuery } from "../api/queries";
import { WEBHOOK_STATUSES } from "../api/values";
import { useRole, useView } from "../frame/view";
import { useWrite } from "../frame/write";
import { CHANNEL_NAMES, count } from "../message/wording";
import { ErrorNote } from "../parts/panel";
import { Pages } from "../parts/pages";
import { Button, Card, Facts, Note, Tag } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { Table } from "../parts/table";
import { visible } from "../parts/text";
import { Moment } from "../parts/time";
import { useTitle } from "../parts/title";
import { Delivery } from "../webhooks/Delivery";
import type { Asked } from "../webhooks/Dialogs";
import { stateOf, successOf } from "../webhooks/wording";

const Dialogs = lazy(() => import("../webhooks/Dialogs"));
const FROM = "/p/$project/webhooks";

export function Webhooks() {
  useTitle("Webhooks");
  const mayWrite = useRole() !== "VIEWER";
  const query = useInfiniteQuery(webhooksQuery(useView()));
  const { open } = useSearch({ from: FROM });
  const [asked, setAsked] = useState<Asked | null>(null);
  const shown = query.data?.pages.flatMap((page) => page.data).find((one) => one.id === open);
  return (
    <>
      <div className="heading">
        <h1>Webhooks</h1>
        {mayWrite && <Button kind="main" onClick={() => setAsked({ act: "create" })}>Add an endpoint…</Button>}
      </div>
      <div className="stack stack-wide">
        <Card title="Endpoints" aside="They get the events of the messages of this view, signed." padded={false}>
          <Pages query={query} empty={<p>No endpoint yet. Sluice sends events to the ones that are added here: what was delivered, what bounced, what failed.</p>}>
            {(rows) => <Endpoints rows={rows} open={open} />}
          </Pages>
        </Card>
        {shown && <Endpoint key={shown.id} webhook={shown} onAsk={setAsked} />}
      </div>
      <Suspense>{asked && <Dialogs asked={asked} onAsk={setAsked} onClose={() => setAsked(null)} />}</Suspense>
    </>
  );
}

function EndpointTag({ webhook }: { webhook: Webhook }) {
  const [word, tone] = stateOf(webhook);
  return <Tag tone={tone}>{word}</Tag>;
}

function Endpoints({ rows, open }: { rows: Webhook[]; open: string | undefined }) {
  const { project } = useView();
  return (
    <Table
      label="Endpoints"
      rows={rows}
      keyOf={(row) => row.id}
      isCurrent={(row) => row.id === open}
      columns={[
        ["Address", (row) => <><Link to={FROM} params={{ project }} search={{ open: row.id }}>{visible(row.url)}</Link>{row.description && <div className="muted">{visible(row.description)}</div>}</>],
        ["State", (row) => <EndpointTag webhook={row} />],
        ["Events", (row) => (row.events.length > 3 ? count(row.events.length, "type") : row.events.join(", "))],
        ["Since", (row) => <Moment at={row.failing_since ?? row.created_at} />],
      ]}
    />
  );
}

function Endpoint({ webhook, onAsk }: { webhook: Webhook; onAsk: (asked: Asked) => void }) {
  const [, tone] = stateOf(webhook);
  const update = useWrite("webhooks", (client, enabled: boolean) =>
    client.PATCH("/v1/webhooks/{webhook_id}", { params: { path: { webhook_id: webhook.id } }, body: { enabled } }),
  );
  const enable = <Button onClick={() => update.mutate(true)} disabled={update.isPending}>Enable the endpoint</Button>;
  return (
    <>
      {webhook.disabled_reason && (
        <Note tone={tone} lead={`Sluice disabled ${visible(webhook.url)}.`} actions={enable}>
          <p>
            {webhook.disabled_reason === "gone" ? "It answered 410: it does not want events any more." : "It did not accept an event for too long."} Events
            are kept as SKIPPED and can be sent again once it is enabled.
          </p>
        </Note>
      )}
      <Card title={visible(webhook.url)} aside={<code>{webhook.id}</code>}>
        <Facts
          facts={[
            ["State", <EndpointTag key="state" webhook={webhook} />],
            ...(webhook.failing_since ? [["Failing since", <Moment key="since" at={webhook.failing_since} full />] as [string, React.ReactNode]] : []),
            ["Events", webhook.events.join(", ")],
            ["Channels", webhook.channels.map((one) => CHANNEL_NAMES[one]).join(", ") || "all"],
            ["Tags", visible(webhook.tags.join(", ")) || "any"],
            ["Changed", <Moment key="changed" at={webhook.updated_at} full />],
          ]}
        />
        {update.error && <ErrorNote error={update.error} />}
        <div className={parts.actions}>
          <SendTest webhook={webhook} />
          <Button onClick={() => onAsk({ act: "edit", webhook })}>Change…</Button>
          <Button onClick={() => onAsk({ act: "recover", webhook })}>Send again…</Button>
          <Button onClick={() => onAsk({ act: "rotate", webhook })}>Rotate the secret…</Button>
          {webhook.enabled ? <Button onClick={() => update.mutate(false)} disabled={update.isPending}>Disable the endpoint</Button> : !webhook.disabled_reason && enable}
          <Button kind="stop" onClick={() => onAsk({ act: "delete", webhook })}>Remove…</Button>
        </div>
      </Card>
      <Deliveries webhook={webhook} />
    </>
  );
}

function SendTest({ webhook }: { webhook: Webhook }) {
  const test = useWrite("webhooks", (client, _: void) =>
    client.POST("/v1/webhooks/{webhook_id}/test", { params: { path: { webhook_id: webhook.id } }, body: {} }),
  );
  return (
    <>
      <Button onClick={() => test.mutate()} disabled={test.isPending}>Send a test event</Button>
      {test.error && <ErrorNote error={test.error} />}
    </>
  );
}

function Deliveries({ webhook }: { webhook: Webhook }) {
  const { status } = useSearch({ from: FROM });
  const navigate = useNavigate({ from: FROM });
  const query = useInfiniteQuery(webhookDeliveriesQuery(useView(), webhook.id, status));
  const success = status ? "" : successOf(query.data?.pages.flatMap((page) => page.data) ?? []);
  return (
    <Card title="Deliveries" aside={success} padded={false}>
      <div className={parts.pad}>
        <label className="row">
          Status
          <select
            value={status ?? ""}
            onChange={(event) => void navigate({ search: (last) => ({ ...last, status: (event.target.value || undefined) as WebhookStatus | undefined }), replace: true })}
          >
            <option value="">any</option>
            {WEBHOOK_STATUSES.map((one) => <option key={one}>{one}</option>)}
          </select>
        </label>
      </div>
      <Pages query={query} empty={<p>{status ? `No delivery is ${status}.` : "No event yet. A test event shows whether the endpoint answers."}</p>}>
        {(rows) => <ul aria-label="Deliveries">{rows.map((row) => <Delivery key={row.id} webhook={webhook} delivery={row} />)}</ul>}
      </Pages>
    </Card>
  );
}
