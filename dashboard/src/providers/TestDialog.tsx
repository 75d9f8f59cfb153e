import { useMutation } from "@tanstack/react-query";
import type { SyntheticEvent } from "react";
import { apiOf, dataOf } from "../api/client";
import type { Provider } from "../api/queries";
import { useView } from "../frame/view";
import type { Tone } from "../message/wording";
import { Dialog } from "../parts/dialog";
import { ErrorNote } from "../parts/panel";
import { Button, Tag } from "../parts/parts";
import parts from "../parts/parts.module.css";
import { visible } from "../parts/text";

const TONES: Record<string, Tone> = { accepted: "good", throttled: "warn", unknown: "unsure" };

/** One real message through just this provider. */
export default function TestDialog({ provider, onClose }: { provider: Provider; onClose: () => void }) {
  const view = useView();
  const test = useMutation({
    mutationFn: (form: FormData) =>
      dataOf(
        apiOf(view).POST("/v1/providers/{provider_id}/test", {
          params: { path: { provider_id: provider.id } },
          body: { to: String(form.get("to")), from: String(form.get("from")) || null },
        }),
      ),
  });
  const submit = (event: SyntheticEvent<HTMLFormElement>) => {
    event.preventDefault();
    test.mutate(new FormData(event.currentTarget));
  };
  return (
    <Dialog title={`Send a test message through ${visible(provider.name)}`} onClose={onClose}>
      <p>One real message. It is not stored and does not move the provider's health.</p>
      <form className="stack" onSubmit={submit}>
        <label className={parts.field}>
          <span>Recipient</span>
          <input name="to" required autoComplete="off" />
        </label>
        <label className={parts.field}>
          <span>Sender</span>
          <input name="from" autoComplete="off" required={provider.channel === "email"} />
        </label>
        {test.error && <ErrorNote error={test.error} />}
        {test.data && (
          <p role="status">
            <Tag tone={TONES[test.data.outcome] ?? "bad"}>{test.data.outcome.replaceAll("_", " ")}</Tag> after{" "}
            {test.data.duration_ms} ms. {visible(test.data.detail)}
          </p>
        )}
        <div className={parts.dialogActions}>
          <Button onClick={onClose}>Close</Button>
          <Button kind="main" type="submit" disabled={test.isPending}>
            {test.isPending ? "Sending" : "Send the test message"}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
