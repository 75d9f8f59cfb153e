// Folds the history of a message into what the timeline shows: per delivery its attempts, waits and receipts.
import type { Message, State } from "../api/queries";

type Event = Message["events"][number];
type Reference = NonNullable<Event["provider"]>;

/** How a call ended. `running`: not yet. `unknown`: without an answer, so the message may have been sent. */
export type AttemptOutcome = "running" | "accepted" | "refused" | "failed" | "unknown";

export interface Attempt {
  number: number;
  provider: Reference | null;
  from: number;
  to: number | null;
  outcome: AttemptOutcome;
  reason: string | null;
  detail: string;
  routing: Event["routing"];
}

export interface Receipt {
  id: string;
  at: number;
  type: string;
  attempt: number | null;
  provider: Reference | null;
  reason: string | null;
  detail: string;
  /** A second delivery: the attempt is not the first one of which a delivery was reported. */
  isRepeated: boolean;
}

/** A time without a call, between attempts or before the next one. */
export interface Wait {
  after: number | null;
  from: number;
  to: number | null;
  text: string;
}

export interface DeliveryTimeline {
  id: string;
  recipient: string;
  state: State;
  acceptedAt: number;
  attempts: Attempt[];
  waits: Wait[];
  receipts: Receipt[];
  /** As the API decides, which knows under which references the calls were made; or two attempts were reported as delivered. */
  mayHaveArrivedTwice: boolean;
}

/** Ascending: the highest rank among the asserted states is the state. */
const RANKED: State[] = [
  "QUEUED", "SENDING", "SENT", "UNCONFIRMED", "EXPIRED", "SOFT_BOUNCE", "FAILED", "DELIVERED", "BOUNCED", "COMPLAINED", "CANCELLED",
];
const RECEIPTS = new Set(["delivered", "bounced", "soft_bounce", "complained", "deferred", "opened", "clicked", "read"]);
const MAY_HAVE_BEEN_SENT = "the message may have been sent";
/** Shorter pauses are the way through the system. */
const SHORTEST_WAIT = 250;

/** The deliveries of a message, those that need attention first. */
export function foldTimeline(message: Pick<Message, "events"> & { deliveries: Pick<Message["deliveries"][number], "id" | "possible_duplicate">[] }): DeliveryTimeline[] {
  const deliveries = new Map<string, Event[]>();
  for (const event of message.events) {
    const id = deliveryOf(event);
    deliveries.set(id, [...(deliveries.get(id) ?? []), event]);
  }
  const doubled = new Set(message.deliveries.filter((one) => one.possible_duplicate).map((one) => one.id.slice(one.id.indexOf("_") + 1)));
  const folded = [...deliveries].map(([id, events]) => foldDelivery(id, events, doubled.has(id)));
  return folded.sort((one, other) => urgency(one) - urgency(other));
}

/** The id of the delivery of an event, without the prefix of its kind. */
export const deliveryOf = (event: Pick<Event, "id">) => event.id.slice(event.id.indexOf("_") + 1, event.id.lastIndexOf("_"));

function urgency(delivery: DeliveryTimeline): number {
  if (["FAILED", "BOUNCED", "COMPLAINED", "EXPIRED"].includes(delivery.state)) return 0;
  return delivery.state === "UNCONFIRMED" || delivery.mayHaveArrivedTwice ? 1 : 2;
}

function foldDelivery(id: string, events: Event[], mayBeDoubled: boolean): DeliveryTimeline {
  const ordered = [...events].sort((one, other) => at(one) - at(other) || sequence(one) - sequence(other));
  const attempts = new Map<number, Attempt>();
  const receipts: Receipt[] = [];
  let rank = 0;
  let postponed: Event | null = null;
  const waits: Wait[] = [];
  for (const event of ordered) {
    if (event.status) rank = Math.max(rank, RANKED.indexOf(event.status));
    if (RECEIPTS.has(event.type)) receipts.push(receiptOf(event));
    else if (event.type === "sending") {
      waits.push(...waitBefore(event, [...attempts.values()], postponed));
      attempts.set(event.attempt ?? attempts.size + 1, begin(event, attempts.size + 1));
      postponed = null;
    } else if (event.type === "postponed") postponed = event;
    else end(event, attempts);
  }
  const state = RANKED[rank] ?? "QUEUED";
  const all = [...attempts.values()];
  if (state === "QUEUED" || state === "SENDING") waits.push(...waitNow(all, postponed, ordered[0]));
  markRepeated(receipts);
  return {
    id,
    recipient: ordered.find((event) => event.recipient)?.recipient ?? "",
    state,
    acceptedAt: ordered[0] ? at(ordered[0]) : 0,
    attempts: all,
    waits,
    receipts,
    mayHaveArrivedTwice: mayBeDoubled || receipts.some((receipt) => receipt.isRepeated),
  };
}

const at = (event: Event) => Date.parse(event.created_at);
const sequence = (event: Event) => Number(event.id.slice(event.id.lastIndexOf("_") + 1));

function begin(event: Event, number: number): Attempt {
  return {
    number: event.attempt ?? number,
    provider: event.provider,
    from: at(event),
    to: null,
    outcome: "running",
    reason: null,
    detail: "",
    routing: event.routing,
  };
}

/** The end of an attempt, where one with the number of the event is open. */
function end(event: Event, attempts: Map<number, Attempt>): void {
  const attempt = event.attempt === null ? undefined : attempts.get(event.attempt);
  if (!attempt || attempt.to !== null) return;
  attempt.to = at(event);
  attempt.detail = event.detail;
  attempt.reason = event.reason;
  attempt.outcome = outcomeOf(event);
}

function outcomeOf(event: Event): AttemptOutcome {
  if (event.type === "sent") return "accepted";
  if (event.type === "unconfirmed" || event.detail.includes(MAY_HAVE_BEEN_SENT)) return "unknown";
  return event.type === "failed" ? "refused" : "failed";
}

function receiptOf(event: Event): Receipt {
  const { id, type, attempt, provider, reason, detail } = event;
  return { id, at: at(event), type, attempt, provider, reason, detail, isRepeated: false };
}

function waitBefore(event: Event, attempts: Attempt[], postponed: Event | null): Wait[] {
  const last = attempts.at(-1);
  const from = postponed ? at(postponed) : last?.to;
  if (from == null || at(event) - from < SHORTEST_WAIT) return [];
  return [{ after: last?.number ?? null, from, to: at(event), text: postponed ? postponed.detail : pauseAfter(last) }];
}

function waitNow(attempts: Attempt[], postponed: Event | null, accepted: Event | undefined): Wait[] {
  const last = attempts.at(-1);
  if (last?.outcome === "running") return [];
  if (postponed) return [{ after: last?.number ?? null, from: at(postponed), to: null, text: postponed.detail }];
  if (last?.to) return [{ after: last.number, from: last.to, to: null, text: pauseAfter(last) }];
  return accepted ? [{ after: null, from: at(accepted), to: null, text: "waits for its first attempt" }] : [];
}

function pauseAfter(attempt: Attempt | undefined): string {
  return attempt?.outcome === "unknown" ? "waits for a receipt" : "waits for the next attempt";
}

function markRepeated(receipts: Receipt[]): void {
  const first = receipts.find((receipt) => receipt.type === "delivered");
  for (const receipt of receipts)
    receipt.isRepeated = receipt.type === "delivered" && receipt.attempt !== first?.attempt;
}
