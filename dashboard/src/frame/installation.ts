// What a person has to know of the installation, wherever they are: what is away, since when, what follows.
import type { Channel, Status } from "../api/queries";
import { CHANNEL_NAMES, deliveries, type Tone } from "../message/wording";
import { clockOf } from "../parts/time";

export interface Banner {
  key: string;
  tone: Tone;
  lead: string;
  text: string;
}

/** The channels that each role sends. */
const SENT_BY: Record<string, Channel[]> = {
  "email-worker": ["email"],
  "sms-worker": ["sms", "whatsapp", "telegram", "signal"],
  "push-worker": ["push"],
};
const WITHOUT: Record<string, string> = {
  router: "New messages are accepted and wait for it.",
  gateway: "Such requests wait. Those over HTTP are accepted.",
  health: "Health stays as it was last: a provider that fails is not taken out.",
  "event-worker": "Webhooks, incidents and analytics wait for it.",
};

/** The parts that are away, the worst first. */
export function bannersOf(status: Status): Banner[] {
  const since = (part: Status["kafka"]) => (part.since ? ` since ${clockOf(Date.parse(part.since))}` : "");
  if (status.postgres.status === "down")
    return [{ key: "postgres", tone: "bad", lead: `PostgreSQL is down${since(status.postgres)}.`, text: "Nothing is accepted, and nothing can be looked up. What is loaded stays readable." }];
  const banners: Banner[] = [];
  if (status.kafka.status === "down")
    banners.push({
      key: "kafka", tone: "bad", lead: `Kafka is down${since(status.kafka)}.`,
      text: `Messages are accepted and kept; ${deliveries(waitingOf(status))} ${waitingOf(status) === 1 ? "waits" : "wait"}. They go out when it is back.`,
    });
  if (status.redis.status === "down")
    banners.push({ key: "redis", tone: "warn", lead: `Redis is down${since(status.redis)}.`, text: "Limits and the evidence of health are approximate meanwhile. Everything else works." });
  return [...banners, ...status.roles.flatMap((role) => bannerOfRole(role, status) ?? [])];
}

function waitingOf(status: Status, channels?: Channel[]): number {
  return (status.waiting ?? [])
    .filter((one) => !channels || channels.includes(one.channel))
    .reduce((sum, one) => sum + one.due + one.in_flight, 0);
}

/** A sender counts only when something waits for it: not every installation runs all of them. */
function bannerOfRole({ role, status: state }: Status["roles"][number], status: Status): Banner | null {
  if (state !== "down") return null;
  const channels = SENT_BY[role];
  if (!channels)
    return { key: role, tone: "warn", lead: role === "gateway" ? "No gateway reads requests from Kafka." : `No ${role} runs.`, text: WITHOUT[role] ?? "" };
  const number = waitingOf(status, channels);
  if (number === 0) return null;
  const oldest = (status.waiting ?? []).filter((one) => channels.includes(one.channel)).map((one) => one.oldest_due_at).filter((at) => at !== null).sort()[0];
  const names = channels.filter((channel) => waitingOf(status, [channel]) > 0).map((channel) => CHANNEL_NAMES[channel]).join(", ");
  return {
    key: role, tone: "bad", lead: `No ${role} runs: ${names} ${number === 1 ? "waits" : "wait"}.`,
    text: `${deliveries(number)}${oldest ? `, the oldest due since ${clockOf(Date.parse(oldest))}` : ""}.`,
  };
}
