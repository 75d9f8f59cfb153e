// What is known of one provider: why it is in its state, how it comes back, its credentials and receipts.
import { Link } from "@tanstack/react-router";
import { lazy, Suspense, useState } from "react";
import type { Provider } from "../api/queries";
import { useRole, useView } from "../frame/view";
import { Button, Card, CopyButton, Facts, Tag } from "../parts/parts";
import { percent } from "../parts/percent";
import { visible } from "../parts/text";
import { Moment } from "../parts/time";
import { errorRate, HealthTag } from "./health";
import { settingsOf, settingText } from "./settings";

// Dialogs load when they are asked for.
const SettingsDialog = lazy(() => import("./SettingsDialog"));

export default function ProviderDetails({ provider }: { provider: Provider }) {
  const { health, credentials } = provider;
  const view = useView();
  const mayWrite = useRole() !== "VIEWER";
  const [isAsking, setAsking] = useState(false);
  const name = visible(provider.name);
  const { evidence } = health;
  const notCounted = Object.entries(evidence.not_counted)
    .filter(([, weight]) => weight >= 0.5)
    .map(([outcome, weight]) => `about ${Math.round(weight)} ${outcome.replaceAll("_", " ")}`);
  return (
    <div className="stack stack-wide">
      <Card title={`Why ${name} is ${provider.enabled ? health.status : "off"}`}>
        {health.reason && <p>{visible(health.reason)}</p>}
        <Facts
          facts={[
            ["State", <HealthTag key="state" provider={provider} />],
            ["Errors", health.updated_at ? errorRate(health.error_rate, health.samples) : "no attempts yet"],
            ...(evidence.thresholds
              ? [["Thresholds", `degraded from ${percent(evidence.thresholds.degraded)}, unhealthy above ${percent(evidence.thresholds.unhealthy)}`] as [string, string]]
              : []),
            ...(notCounted.length > 0 ? [["Not counted", `attempts of which it is no cause: ${notCounted.join(", ")}`] as [string, string]] : []),
            ["Evidence of", health.updated_at ? <Moment key="at" at={health.updated_at} /> : "never"],
          ]}
        />
        <Link to="/p/$project/messages" params={{ project: view.project }} search={{ provider: provider.id }}>
          Its messages
        </Link>
      </Card>
      {(health.probe_at || health.suspended_until) && (
        <Card title="Way back">
          <Facts
            facts={[
              ...(health.probe_at ? [["Next probe", <Moment key="probe" at={health.probe_at} />] as [string, React.ReactNode]] : []),
              ...(health.suspended_until ? [["No attempt before", <Moment key="until" at={health.suspended_until} />] as [string, React.ReactNode]] : []),
            ]}
          />
          <p className="small muted">A probe is one real message, which fails over at once.</p>
        </Card>
      )}
      <Card title="Settings" aside={mayWrite && <Button onClick={() => setAsking(true)}>Change the settings…</Button>}>
        <Facts
          facts={[
            ["Package", provider.packageName],
            ["Id", <code key="id">{provider.id}</code>],
            ["Credentials", <Tag key="set" tone={credentials.status === "set" ? "good" : "bad"}>{credentials.status}</Tag>],
            ...Object.entries(credentials.fields).map(([field, value]) => [field, <code key={field}>{visible(value)}</code>] as [string, React.ReactNode]),
            ...settingsOf(provider).map((setting) => [setting.label, settingText(provider.settings, setting)] as [string, string]),
            ["Receipts", provider.receipt_url ? <CopyButton key="url" label="Copy the address for its webhook" text={() => provider.receipt_url ?? ""} /> : "no webhook address"],
            ["Changed", <Moment key="changed" at={provider.updated_at} />],
          ]}
        />
      </Card>
      <Suspense>{isAsking && <SettingsDialog provider={provider} onClose={() => setAsking(false)} />}</Suspense>
    </div>
  );
}
