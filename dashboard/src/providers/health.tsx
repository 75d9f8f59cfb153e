import type { Provider } from "../api/queries";
import { count, type Tone } from "../message/wording";
import { Tag } from "../parts/parts";
import { percent } from "../parts/percent";
import { relative, useNow } from "../parts/time";

const TONES: Record<string, Tone> = { healthy: "good", degraded: "warn", unhealthy: "bad" };

export const toneOf = (provider: Provider): Tone => (provider.enabled ? (TONES[provider.health.status] ?? "idle") : "idle");

export function HealthTag({ provider }: { provider: Provider }) {
  const word = provider.enabled ? provider.health.status : "off";
  return <Tag tone={toneOf(provider)}>{word[0]!.toUpperCase() + word.slice(1)}</Tag>;
}

/** "in 6 s"; a probe that is due needs a message. */
export function ProbeTime({ at }: { at: string }) {
  const now = useNow(1_000);
  return <time dateTime={at}>{Date.parse(at) > now ? relative(Date.parse(at), now) : "with the next message"}</time>;
}

/** The rate is an estimate in which each attempt has the weight of its age, so it is no share of a count. */
export function errorRate(rate: number, attempts: number): string {
  const about = Math.round(attempts);
  return about < 1 ? "no recent attempts" : `estimated error rate ${percent(rate)}, from about ${count(about, "recent attempt")}`;
}
