// What the router would do now with a message of this channel. Nothing is sent.
import { useQuery } from "@tanstack/react-query";
import { type SyntheticEvent, useState } from "react";
import type { Schemas } from "../api/client";
import { type Channel, dryRunQuery } from "../api/queries";
import { useView } from "../frame/view";
import type { Tone } from "../message/wording";
import { Panel } from "../parts/panel";
import { Button, Card, Tag } from "../parts/parts";
import { visible } from "../parts/text";
import { Moment } from "../parts/time";
import style from "../screens/Providers.module.css";
import { errorRate } from "./health";

type Request = Schemas["DryRunRequest"];
type Candidate = Schemas["CandidateResponse"];

export default function DryRun({ channel }: { channel: Channel }) {
  const [request, setRequest] = useState<Request>({ channel, class: "standard" });
  const query = useQuery(dryRunQuery(useView(), request));
  const submit = (event: SyntheticEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setRequest({ channel, to: String(form.get("to")).trim() || null, class: String(form.get("class")) as Request["class"] });
  };
  return (
    <Card title="What would happen now" aside="Asks the router. Nothing is sent.">
      <form className={style.ask} onSubmit={submit}>
        <label>
          Recipient
          <input name="to" autoComplete="off" placeholder="any" />
        </label>
        <label>
          Class
          <select name="class" defaultValue="standard">
            <option>standard</option>
            <option>urgent</option>
            <option>once</option>
          </select>
        </label>
        <Button type="submit">Ask</Button>
      </form>
      <Panel query={query}>
        {(decision) => (
          <>
            {decision.decision !== "selected" && (
              <p>
                <b>{decision.decision === "deferred" ? "The message would wait" : "No provider is left"}</b>
                {decision.until && <> until <Moment at={decision.until} /></>}.
              </p>
            )}
            <ol className={style.why}>
              {decision.candidates.map((candidate, index) => (
                <li key={candidate.provider.id}>
                  <span className="muted num">{index + 1}</span>
                  <span><DecisionTag candidate={candidate} /></span>
                  <span>
                    <b>{visible(candidate.provider.name)}</b>: {visible(candidate.excluded ?? decision.reason ?? "")}
                    {candidate.evidence && <span className="muted"> ({errorRate(candidate.evidence.error_rate, candidate.evidence.attempts)})</span>}
                  </span>
                </li>
              ))}
            </ol>
          </>
        )}
      </Panel>
    </Card>
  );
}

const EVIDENCE: Record<string, Tone> = { healthy: "idle", degraded: "warn", unhealthy: "bad" };

function DecisionTag({ candidate }: { candidate: Candidate }) {
  if (candidate.excluded == null) return <Tag tone="good">Chosen</Tag>;
  const tone = EVIDENCE[candidate.evidence?.status ?? "healthy"] ?? "idle";
  return <Tag tone={tone}>{tone === "bad" ? "Excluded" : "In reserve"}</Tag>;
}
