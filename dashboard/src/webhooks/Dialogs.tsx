// What may be done with an endpoint. This module brings React Aria, so it is loaded when one of them is asked for.
import { useState } from "react";
import type { Schemas } from "../api/client";
import type { Webhook } from "../api/queries";
import { WEBHOOK_STATUSES } from "../api/values";
import { useWrite } from "../frame/write";
import { CHANNEL_NAMES, count } from "../message/wording";
import { Confirm } from "../parts/dialog";
import { FormDialog, SecretDialog } from "../parts/dialogs";
import { Check, Select, TextField, textOf, wordsOf } from "../parts/form";
import { Note } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { visible } from "../parts/text";
import { Moment } from "../parts/time";
import { EVENT_GROUPS } from "./wording";

export type Asked = { act: "create" } | { act: "edit" | "recover" | "rotate" | "delete"; webhook: Webhook } | { act: "secret"; secret: string; until?: string };

interface Props {
  onAsk: (asked: Asked) => void;
  onClose: () => void;
}

export default function Dialogs({ asked, ...props }: Props & { asked: Asked }) {
  switch (asked.act) {
    case "create":
      return <Create {...props} />;
    case "edit":
      return <Edit webhook={asked.webhook} onClose={props.onClose} />;
    case "recover":
      return <Recover webhook={asked.webhook} onClose={props.onClose} />;
    case "rotate":
      return <Rotate webhook={asked.webhook} {...props} />;
    case "delete":
      return <Delete webhook={asked.webhook} onClose={props.onClose} />;
    case "secret":
      return (
        <SecretDialog title="The signing secret" name="Signing secret" secret={asked.secret} onClose={props.onClose}>
          <p>With it the endpoint checks that a request comes from Sluice.</p>
          {asked.until && <p>Until <Moment at={asked.until} full /> requests also carry the signature of the secret before.</p>}
        </SecretDialog>
      );
  }
}

function Create({ onAsk, onClose }: Props) {
  const create = useWrite("webhooks", (client, form: FormData) => client.POST("/v1/webhooks", { body: { ...bodyOf(form), enabled: true } }));
  const submit = (form: FormData) => create.mutate(form, { onSuccess: ({ secret }) => onAsk({ act: "secret", secret }) });
  return (
    <FormDialog title="Add an endpoint" act="Add the endpoint" onSubmit={submit} onClose={onClose} error={create.error} isPending={create.isPending}>
      <Fields error={create.error} />
    </FormDialog>
  );
}

function Edit({ webhook, onClose }: { webhook: Webhook; onClose: () => void }) {
  const edit = useWrite("webhooks", (client, form: FormData) =>
    client.PATCH("/v1/webhooks/{webhook_id}", { params: { path: { webhook_id: webhook.id } }, body: bodyOf(form) }),
  );
  return (
    <FormDialog title="Change the endpoint" act="Save the endpoint" onSubmit={(form) => edit.mutate(form, { onSuccess: onClose })} onClose={onClose} error={edit.error} isPending={edit.isPending}>
      <Fields error={edit.error} webhook={webhook} />
    </FormDialog>
  );
}

const bodyOf = (form: FormData) => ({
  url: textOf(form, "url"),
  description: textOf(form, "description"),
  events: form.getAll("events") as Schemas["WebhookType"][],
  channels: form.getAll("channels") as Schemas["Channel"][],
  tags: wordsOf(form, "tags"),
});

function Fields({ error, webhook }: { error: unknown; webhook?: Webhook }) {
  const events = webhook?.events ?? ["delivered", "bounced", "failed"];
  return (
    <>
      <TextField label="Address" name="url" type="url" required placeholder="https://" defaultValue={webhook?.url} error={error} />
      <TextField label="Description" name="description" maxLength={255} defaultValue={webhook?.description} error={error} />
      {EVENT_GROUPS.map(([name, types], index) => {
        const isChosen = (type: string) => (events as string[]).includes(type);
        return (
          <details key={name} open={index === 0 || types.some(isChosen)}>
            <summary>{name}</summary>
            <fieldset className={parts.checks}>
              <legend className="visually-hidden">{name}</legend>
              {types.map((type) => <Check key={type} name="events" value={type} label={type} defaultChecked={isChosen(type)} />)}
            </fieldset>
          </details>
        );
      })}
      <fieldset className={parts.checks}>
        <legend>Only of these channels</legend>
        {Object.entries(CHANNEL_NAMES).map(([channel, name]) => (
          <Check key={channel} name="channels" value={channel} label={name} defaultChecked={(webhook?.channels as string[] | undefined)?.includes(channel)} />
        ))}
      </fieldset>
      <TextField label="Only with one of these tags" name="tags" hint="Divided by commas; empty: any." defaultValue={webhook?.tags.join(", ")} error={error} />
    </>
  );
}

const GRACES = [
  [86_400, "a day"],
  [604_800, "a week"],
  [3_600, "an hour"],
  [0, "no time: it ends at once"],
] as const;

function Rotate({ webhook, onAsk, onClose }: Props & { webhook: Webhook }) {
  const rotate = useWrite("webhooks", (client, grace_seconds: number) =>
    client.POST("/v1/webhooks/{webhook_id}/rotate", { params: { path: { webhook_id: webhook.id } }, body: { grace_seconds } }),
  );
  const submit = (form: FormData) =>
    rotate.mutate(Number(form.get("grace_seconds")), {
      onSuccess: ({ secret, previous_valid_until }) => onAsk({ act: "secret", secret, until: previous_valid_until }),
    });
  return (
    <FormDialog title="Rotate the secret" act="Make a new secret" onSubmit={submit} onClose={onClose} error={rotate.error} isPending={rotate.isPending}>
      <p>{visible(webhook.url)} gets a new signing secret. Meanwhile requests carry the signatures of both.</p>
      <Select label="The present secret stays valid for" name="grace_seconds" error={rotate.error}>
        {GRACES.map(([seconds, text]) => <option key={seconds} value={seconds}>{text}</option>)}
      </Select>
    </FormDialog>
  );
}

/** Sends the events of a range again, by as many calls as that takes. */
function Recover({ webhook, onClose }: { webhook: Webhook; onClose: () => void }) {
  const [sent, setSent] = useState(0);
  const recover = useWrite("webhooks", async (client, form: FormData) => {
    const statuses = form.getAll("statuses") as Schemas["WebhookStatus"][];
    const since = new Date(textOf(form, "since")).toISOString();
    const until = new Date().toISOString();
    let cursor: string | null = null;
    let replayed = 0;
    do {
      const { data }: { data?: Schemas["ReplayResponse"] } = await client.POST("/v1/webhooks/{webhook_id}/replay", {
        params: { path: { webhook_id: webhook.id } },
        body: { since, until, statuses, cursor },
      });
      replayed += data?.replayed ?? 0;
      setSent(replayed);
      cursor = data?.next_cursor ?? null;
    } while (cursor);
    return { data: { replayed } };
  });
  const yesterday = localTime(Date.now() - 86_400_000);
  return (
    <FormDialog title="Send events again" act="Send them again" onSubmit={(form) => recover.mutate(form)} onClose={onClose} error={recover.error} isPending={recover.isPending} isDone={recover.isSuccess}>
      <p>The events of a range of time go to {visible(webhook.url)} once more, the oldest first, each with the id that it had.</p>
      <TextField label="Events since" name="since" type="datetime-local" required defaultValue={yesterday} error={recover.error} />
      <fieldset className={parts.checks}>
        <legend>Those that are</legend>
        {WEBHOOK_STATUSES.filter((one) => one !== "PENDING").map((one) => <Check key={one} name="statuses" value={one} label={one} defaultChecked={one !== "DELIVERED"} />)}
      </fieldset>
      {(recover.isPending || recover.isSuccess) && <Note tone={recover.isSuccess ? "good" : "idle"} lead={`${count(sent, "event")} due again.`} />}
    </FormDialog>
  );
}

/** As a field of the type `datetime-local` wants it: without a zone, in that of the browser. */
function localTime(time: number): string {
  return new Date(time - new Date(time).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

function Delete({ webhook, onClose }: { webhook: Webhook; onClose: () => void }) {
  const remove = useWrite("webhooks", (client, _: void) =>
    client.DELETE("/v1/webhooks/{webhook_id}", { params: { path: { webhook_id: webhook.id } } }),
  );
  return (
    <Confirm title="Remove the endpoint?" act="Remove the endpoint" onAct={() => remove.mutate(undefined, { onSuccess: onClose })} onClose={onClose} error={remove.error} isPending={remove.isPending}>
      <p>{visible(webhook.url)} gets nothing more. Its secrets are deleted, and events that wait for it are discarded.</p>
    </Confirm>
  );
}
