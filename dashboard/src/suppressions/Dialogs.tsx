// What may be done with suppressions. This module brings React Aria, so it is loaded when one of them is asked for.
import { useRef, useState } from "react";
import { type Channel, type Suppression, type SuppressionFilters, type SuppressionReason } from "../api/queries";
import { REASONS } from "../api/values";
import { useWrite } from "../frame/write";
import { ChannelOptions } from "../message/ChannelFilter";
import { CHANNEL_WORDS, count } from "../message/wording";
import { Confirm } from "../parts/dialog";
import { FormDialog } from "../parts/dialogs";
import { Select, TextArea, TextField, textOf } from "../parts/form";
import { Note } from "../parts/parts";
import { visible } from "../parts/text";
import { addressesOf, chunksOf, REASON_NAMES } from "./wording";

export type Asked = { act: "add" } | { act: "remove"; suppression: Suppression } | { act: "removeAll"; filters: SuppressionFilters };

const AT_ONCE = 1_000;

export default function Dialogs({ asked, onClose }: { asked: Asked; onClose: () => void }) {
  switch (asked.act) {
    case "add":
      return <Add onClose={onClose} />;
    case "remove":
      return <Remove suppression={asked.suppression} onClose={onClose} />;
    case "removeAll":
      return <RemoveAll filters={asked.filters} onClose={onClose} />;
  }
}

function Add({ onClose }: { onClose: () => void }) {
  const [done, setDone] = useState<{ added: number; given: number } | null>(null);
  const text = useRef<HTMLDivElement>(null);
  const add = useWrite("suppressions", async (client, form: FormData) => {
    const addresses = addressesOf(textOf(form, "addresses"));
    let added = 0;
    for (const chunk of chunksOf(addresses, AT_ONCE)) {
      const { data } = await client.POST("/v1/suppressions", {
        body: {
          channel: textOf(form, "channel") as Channel,
          reason: textOf(form, "reason") as SuppressionReason,
          detail: textOf(form, "detail"),
          addresses: chunk,
        },
      });
      added += data?.added ?? 0;
      setDone({ added, given: addresses.length });
    }
    return { data: { added } };
  });
  const onFile = async (file: File | undefined) => {
    const area = text.current?.querySelector("textarea");
    if (file && area) area.value = await file.text();
  };
  return (
    <FormDialog title="Suppress addresses" act="Suppress them" onSubmit={(form) => add.mutate(form)} onClose={onClose} error={add.error} isPending={add.isPending} isDone={add.isSuccess}>
      <p>Messages to these addresses fail with the reason suppressed, and no provider is called.</p>
      <Select label="Channel" name="channel" error={add.error}>
        <ChannelOptions />
      </Select>
      <div ref={text} className="stack">
        <TextArea label="Addresses" name="addresses" required rows={6} hint="One a line; of a line with commas the first cell." error={add.error} />
        <label className="row small">
          From a file
          <input type="file" accept=".csv,.txt,text/*" onChange={(event) => void onFile(event.target.files?.[0])} />
        </label>
      </div>
      <Select label="Reason" name="reason" defaultValue="manual" error={add.error}>
        {REASONS.map((reason) => <option key={reason} value={reason}>{REASON_NAMES[reason]}</option>)}
      </Select>
      <TextField label="Note" name="detail" maxLength={500} error={add.error} />
      {done && <Note tone={add.isSuccess ? "good" : "idle"} lead={`${count(done.added, "new suppression")} of ${count(done.given, "address")}. The others keep their reason.`} />}
    </FormDialog>
  );
}

function Remove({ suppression, onClose }: { suppression: Suppression; onClose: () => void }) {
  const remove = useWrite("suppressions", (client, _: void) =>
    client.DELETE("/v1/suppressions/{suppression_id}", { params: { path: { suppression_id: suppression.id } } }),
  );
  return (
    <Confirm title="Remove the suppression?" act="Remove the suppression" onAct={() => remove.mutate(undefined, { onSuccess: onClose })} onClose={onClose} error={remove.error} isPending={remove.isPending}>
      <p>
        Messages to {visible(suppression.address)} by {CHANNEL_WORDS[suppression.channel]} are sent again.
        {suppression.reason !== "manual" && ` It was suppressed because of: ${REASON_NAMES[suppression.reason].toLowerCase()}. Another such event suppresses it once more.`}
      </p>
    </Confirm>
  );
}

function RemoveAll({ filters, onClose }: { filters: SuppressionFilters; onClose: () => void }) {
  const remove = useWrite("suppressions", (client, _: void) => client.DELETE("/v1/suppressions", { params: { query: filters } }));
  const said = [
    filters.channel && `channel ${CHANNEL_WORDS[filters.channel]}`,
    filters.reason && `reason ${REASON_NAMES[filters.reason].toLowerCase()}`,
    filters.address && `address ${visible(filters.address)}`,
  ].filter(Boolean);
  if (remove.data)
    return (
      <Confirm title="Removed" act="Close" onAct={onClose} onClose={onClose} isDangerous={false}>
        <p role="status">{count(remove.data.removed, "suppression")} removed.</p>
      </Confirm>
    );
  return (
    <Confirm title="Remove all that match?" act="Remove all that match" onAct={() => remove.mutate()} onClose={onClose} error={remove.error} isPending={remove.isPending}>
      <p>Every suppression with {said.join(" and ")}, also those that are not loaded here. Messages to these addresses are sent again.</p>
    </Confirm>
  );
}
