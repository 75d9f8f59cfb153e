// The state of the installation as one sentence, and its parts in words.
import type { Status } from "../api/queries";
import type { Tone } from "../message/wording";

export const PART_TONES: Record<string, Tone> = { up: "good", down: "bad", unused: "idle", unknown: "unsure" };

const CONSEQUENCES = {
  postgres: "Nothing is accepted, and nothing can be looked up.",
  kafka: "Messages are accepted and kept. They are sent when it is back.",
  redis: "Limits and the evidence of health are approximate.",
} as const;

export const SERVICE_NAMES = { postgres: "PostgreSQL", kafka: "Kafka", redis: "Redis" } as const;

/** The worst thing that is true now, and what follows from it. */
export function conditionOf(status: Status): [Tone, string, string] {
  for (const part of ["postgres", "kafka", "redis"] as const)
    if (status[part].status === "down") return [part === "redis" ? "warn" : "bad", `${SERVICE_NAMES[part]} is down.`, CONSEQUENCES[part]];
  const down = status.roles.filter((one) => one.status === "down").map((one) => one.role);
  if (down.length > 0) return ["bad", `${down.join(", ")}: no process runs.`, "What it does waits until one is back. Nothing is lost."];
  if (status.status !== "up") return ["warn", "The installation is impaired.", ""];
  return ["good", "Everything runs.", ""];
}

/** "0.4 s", "12 s", "3 min": how far a role is behind. */
export function lagText(seconds: number | null): string {
  if (seconds === null) return "unknown";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return seconds < 120 ? `${Math.round(seconds)} s` : `${Math.floor(seconds / 60)} min`;
}
