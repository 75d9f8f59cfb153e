import type { Provider } from "../api/queries";
import type { Tone } from "../message/wording";
import { Tag } from "../parts/parts";

const TONES: Record<string, Tone> = { healthy: "good", degraded: "warn", unhealthy: "bad" };

export const toneOf = (provider: Provider): Tone => (provider.enabled ? (TONES[provider.health.status] ?? "idle") : "idle");

export function HealthTag({ provider }: { provider: Provider }) {
  const word = provider.enabled ? provider.health.status : "off";
  return <Tag tone={toneOf(provider)}>{word[0]!.toUpperCase() + word.slice(1)}</Tag>;
}

/** "41 %", "0.6 %". */
export function percent(rate: number): string {
  const value = rate * 100;
  return `${value >= 10 || value === 0 ? Math.round(value) : value.toFixed(1)} %`;
}
