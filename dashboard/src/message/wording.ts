// The sentences about a message: what happened, whose fault it was, what follows.
import type { Message, State } from "../api/queries";
import { duration } from "./axis";
import type { Attempt, DeliveryTimeline } from "./timeline";

export type Tone = "good" | "warn" | "bad" | "unsure" | "idle";

export const TONE_OF_STATE: Record<State, Tone> = {
  QUEUED: "idle",
  SENDING: "idle",
  SENT: "good",
  UNCONFIRMED: "unsure",
  EXPIRED: "bad",
  SOFT_BOUNCE: "warn",
  FAILED: "bad",
  DELIVERED: "good",
  BOUNCED: "bad",
  COMPLAINED: "bad",
  CANCELLED: "idle",
};

export const CHANNEL_NAMES = {
  email: "E-mail",
  sms: "SMS",
  whatsapp: "WhatsApp",
  telegram: "Telegram",
  signal: "Signal",
  push: "Push",
} as const;

/** The same within a sentence. */
export const CHANNEL_WORDS: Record<keyof typeof CHANNEL_NAMES, string> = { ...CHANNEL_NAMES, email: "e-mail", push: "push" };

const ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth"];

export const ordinal = (number: number) => ORDINALS[number - 1] ?? `${number}th`;

/** "accepted by Mailgun EU, through the second provider, in 9.4 s". */
export function summarize(message: Message, deliveries: DeliveryTimeline[]): string {
  if (deliveries.length > 1) return summaryOfSeveral(message, deliveries);
  const delivery = deliveries[0];
  if (!delivery) return "There is no history yet.";
  const took = duration(lastOf(delivery) - delivery.acceptedAt);
  const reason = lastReason(delivery);
  switch (message.status) {
    case "QUEUED":
    case "SENDING":
      return waiting(delivery);
    case "SENT":
      return `Accepted in ${took}${through(delivery)}. No receipt has come yet.`;
    case "DELIVERED":
      return `Delivered in ${took}${through(delivery)}.`;
    case "UNCONFIRMED":
      return "Not confirmed: a provider gave no answer, and no receipt has come. It may have arrived.";
    case "EXPIRED":
      return "Expired: it was not sent before its expires_at.";
    case "FAILED":
      return `Failed after ${count(delivery.attempts.length, "attempt")}${reason}.`;
    case "SOFT_BOUNCE":
      return `Not delivered for now${through(delivery)}${reason}.`;
    case "BOUNCED":
      return `Bounced${through(delivery)}${reason}.`;
    case "COMPLAINED":
      return "Delivered, and the recipient reported it as spam.";
    case "CANCELLED":
      return "Cancelled before a provider was called.";
  }
}

function summaryOfSeveral(message: Message, deliveries: DeliveryTimeline[]): string {
  const counts = new Map<State, number>();
  for (const { state } of deliveries) counts.set(state, (counts.get(state) ?? 0) + 1);
  const parts = [...counts].map(([state, number]) => `${number} ${state}`);
  // One answer of the API has the history of 50 deliveries.
  const shown = message.next_cursor ? `The first ${deliveries.length} of ${count(message.to.length, "recipient")}` : count(deliveries.length, "recipient");
  return `${shown}: ${parts.join(", ")}.`;
}

function waiting(delivery: DeliveryTimeline): string {
  const wait = delivery.waits.at(-1);
  const running = delivery.attempts.find((attempt) => attempt.outcome === "running");
  if (running) return `Attempt ${running.number} runs at ${nameOf(running)}.`;
  return wait?.to === null ? `Not sent yet: ${wait.text}.` : "Not sent yet.";
}

function through(delivery: DeliveryTimeline): string {
  const last = delivery.attempts.findLast((attempt) => attempt.outcome === "accepted") ?? delivery.attempts.at(-1);
  if (!last) return "";
  const providers = new Set(delivery.attempts.map((attempt) => attempt.provider?.id));
  if (providers.size < 2) return `, through ${nameOf(last)}`;
  return `, through the ${ordinal(providers.size)} provider, ${nameOf(last)}`;
}

function lastReason(delivery: DeliveryTimeline): string {
  const said = delivery.receipts.findLast((receipt) => receipt.reason) ?? delivery.attempts.findLast((attempt) => attempt.reason);
  return said?.reason ? `: ${said.reason.replaceAll("_", " ")}` : "";
}

function lastOf(delivery: DeliveryTimeline): number {
  const asserted = delivery.receipts.find((receipt) => ["delivered", "bounced", "soft_bounce"].includes(receipt.type));
  return asserted?.at ?? delivery.attempts.at(-1)?.to ?? delivery.acceptedAt;
}

export const nameOf = (attempt: { provider: { name: string } | null }) => attempt.provider?.name ?? "no provider";

/** Why a message may have arrived twice, and which class forbids it; null where it cannot. */
export function duplicateWarning(message: Message, delivery: DeliveryTimeline): { lead: string; text: string } | null {
  if (!delivery.mayHaveArrivedTwice) return null;
  const unknown = delivery.attempts.find((attempt) => attempt.outcome === "unknown");
  const repeated = delivery.receipts.find((receipt) => receipt.isRepeated);
  const second = repeated ? ` ${nameOf(repeated)} reported a delivery as well.` : "";
  const text = unknown
    ? `${nameOf(unknown)} did not answer attempt ${unknown.number}, so it was repeated, as class ${message.class} allows.${second}`
    : `Two attempts were reported as delivered.${second}`;
  return { lead: `${delivery.recipient} may have received this twice.`, text };
}

const OUTCOMES: Record<Attempt["outcome"], [string, Tone]> = {
  running: ["Running", "idle"],
  accepted: ["Accepted", "good"],
  refused: ["Refused", "bad"],
  failed: ["Failed", "bad"],
  unknown: ["Unknown", "unsure"],
};

export const outcomeWord = (attempt: Attempt) => OUTCOMES[attempt.outcome][0];
export const outcomeTone = (attempt: Attempt) => OUTCOMES[attempt.outcome][1];

const RECEIPT_TONES: Record<string, Tone> = {
  delivered: "good",
  bounced: "bad",
  soft_bounce: "warn",
  complained: "bad",
  deferred: "warn",
};

export const receiptTone = (receipt: { type: string; isRepeated?: boolean }): Tone =>
  receipt.isRepeated ? "unsure" : (RECEIPT_TONES[receipt.type] ?? "idle");

export const receiptWord = (receipt: { type: string; isRepeated: boolean }) =>
  `${receipt.type.replaceAll("_", " ")}${receipt.isRepeated ? " too" : ""}`;

/** "1 attempt", "2 attempts", "1,204 messages", "2 addresses". */
export function count(number: number, noun: string): string {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
}

/** "1 delivery", "1,204 deliveries". */
export const deliveries = (number: number) => (number === 1 ? "1 delivery" : `${number.toLocaleString("en")} deliveries`);
