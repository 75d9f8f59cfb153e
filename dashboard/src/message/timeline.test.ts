import { describe, expect, it } from "vitest";
import type { Message } from "../api/queries";
import { foldTimeline } from "./timeline";
import { summarize } from "./wording";

type Event = Message["events"][number];

const START = Date.parse("2026-03-27T10:00:00Z");
const SES = { id: "prv_1", name: "SES Frankfurt" };
const MAILGUN = { id: "prv_2", name: "Mailgun EU" };
const NO_ANSWER = "no answer within 5 s; the message may have been sent: a duplicate is possible";

let sequence = 0;

/** An event `seconds` after the acceptance, of the delivery `dlv`. */
function event(seconds: number, type: string, rest: Partial<Event> & { delivery?: string } = {}): Event {
  const { delivery = "dlv", ...fields } = rest;
  sequence += 1;
  return {
    id: `evt_${delivery}_${sequence}`,
    type,
    status: null,
    provider: null,
    recipient: "ann@example.com",
    attempt: null,
    reason: null,
    detail: "",
    routing: null,
    created_at: new Date(START + seconds * 1_000).toISOString(),
    ...fields,
  };
}

const fold = (...events: Event[]) => foldTimeline({ events, deliveries: [] });
const accepted = event(0, "accepted", { status: "QUEUED" });

describe("attempts", () => {
  it("begin with sending and end with the event of the same number", () => {
    const [delivery] = fold(
      accepted,
      event(0.1, "sending", { attempt: 1, provider: SES, status: "SENDING" }),
      event(0.3, "sent", { attempt: 1, provider: SES, status: "SENT" }),
    );

    expect(delivery!.attempts).toMatchObject([{ number: 1, provider: SES, from: START + 100, to: START + 300, outcome: "accepted" }]);
    expect(delivery!.state).toBe("SENT");
  });

  it.each([
    ["attempt_failed", "refused the connection", "failed"],
    ["attempt_failed", NO_ANSWER, "unknown"],
    ["unconfirmed", "", "unknown"],
    ["failed", "550 no such user", "refused"],
  ])("that end in %s with %j are %s", (type, detail, outcome) => {
    const [delivery] = fold(accepted, event(1, "sending", { attempt: 1, provider: SES }), event(2, type, { attempt: 1, detail }));

    expect(delivery!.attempts[0]!.outcome).toBe(outcome);
  });

  it("run until their end has come", () => {
    const [delivery] = fold(accepted, event(1, "sending", { attempt: 1, provider: SES, status: "SENDING" }));

    expect(delivery!.attempts).toMatchObject([{ to: null, outcome: "running" }]);
    expect(delivery!.waits).toEqual([]);
  });

  it("are in the order of their events, however the history is ordered", () => {
    const events = [
      accepted,
      event(1, "sending", { attempt: 1, provider: SES }),
      event(2, "attempt_failed", { attempt: 1 }),
      event(2, "sending", { attempt: 2, provider: MAILGUN }),
      event(3, "sent", { attempt: 2, status: "SENT" }),
    ];

    expect(fold(...[...events].reverse())).toEqual(fold(...events));
  });
});

describe("waits", () => {
  it("between attempts say for what", () => {
    const [delivery] = fold(
      accepted,
      event(0, "sending", { attempt: 1, provider: SES }),
      event(5, "attempt_failed", { attempt: 1, detail: NO_ANSWER }),
      event(8, "sending", { attempt: 2, provider: MAILGUN }),
    );

    expect(delivery!.waits).toEqual([{ after: 1, from: START + 5_000, to: START + 8_000, text: "waits for a receipt" }]);
  });

  it("of a postponed delivery have its reason, and no end yet", () => {
    const [delivery] = fold(accepted, event(1, "postponed", { detail: "every provider is throttled" }));

    expect(delivery!.waits).toEqual([{ after: null, from: START + 1_000, to: null, text: "every provider is throttled" }]);
  });

  it("are not shown while they are the way through the system", () => {
    const [delivery] = fold(
      accepted,
      event(0.1, "sending", { attempt: 1, provider: SES }),
      event(0.2, "attempt_failed", { attempt: 1 }),
      event(0.3, "sending", { attempt: 2, provider: MAILGUN }),
    );

    expect(delivery!.waits).toEqual([]);
  });
});

describe("a message that may have arrived twice", () => {
  const unknownThenAccepted = [
    accepted,
    event(0, "sending", { attempt: 1, provider: SES }),
    event(5, "attempt_failed", { attempt: 1, detail: NO_ANSWER }),
    event(8, "sending", { attempt: 2, provider: MAILGUN }),
    event(8.2, "sent", { attempt: 2, status: "SENT" }),
  ];

  it.each([true, false])("is one where the API says so: %s", (possible_duplicate) => {
    const deliveries = [{ id: "dlv_dlv", possible_duplicate }, { id: "dlv_other", possible_duplicate: !possible_duplicate }];

    expect(foldTimeline({ events: unknownThenAccepted, deliveries })[0]!.mayHaveArrivedTwice).toBe(possible_duplicate);
  });

  it("has two attempts with receipts of a delivery, and the second one is marked", () => {
    const [delivery] = fold(
      ...unknownThenAccepted,
      event(9, "delivered", { attempt: 2, provider: MAILGUN, status: "DELIVERED" }),
      event(430, "delivered", { attempt: 1, provider: SES }),
    );

    expect(delivery!.receipts.map((receipt) => receipt.isRepeated)).toEqual([false, true]);
    expect(delivery!.mayHaveArrivedTwice).toBe(true);
  });
});

describe("the state", () => {
  it("is the highest rank, so that a late receipt takes nothing back", () => {
    const [delivery] = fold(
      event(9, "sent", { attempt: 1, status: "SENT" }),
      event(3, "delivered", { attempt: 1, status: "DELIVERED" }),
      accepted,
    );

    expect(delivery!.state).toBe("DELIVERED");
  });

  it("puts failures of several recipients first", () => {
    const folded = fold(
      event(0, "delivered", { delivery: "a", status: "DELIVERED" }),
      event(0, "failed", { delivery: "b", status: "FAILED" }),
      event(0, "unconfirmed", { delivery: "c", status: "UNCONFIRMED" }),
    );

    expect(folded.map((delivery) => delivery.state)).toEqual(["FAILED", "UNCONFIRMED", "DELIVERED"]);
    expect(summarize({ status: "FAILED" } as Message, folded)).toBe("3 recipients: 1 FAILED, 1 UNCONFIRMED, 1 DELIVERED.");
    const partial = { status: "FAILED", to: Array(120).fill("+1"), next_cursor: "c" } as unknown as Message;
    expect(summarize(partial, folded)).toBe("The first 3 of 120 recipients: 1 FAILED, 1 UNCONFIRMED, 1 DELIVERED.");
  });
});

describe("the sentence", () => {
  it("names the way and the time", () => {
    const folded = fold(
      accepted,
      event(0, "sending", { attempt: 1, provider: SES }),
      event(1, "attempt_failed", { attempt: 1, detail: "refused" }),
      event(1, "sending", { attempt: 2, provider: MAILGUN }),
      event(2, "sent", { attempt: 2, provider: MAILGUN, status: "SENT" }),
      event(9.4, "delivered", { attempt: 2, provider: MAILGUN, status: "DELIVERED" }),
    );

    expect(summarize({ status: "DELIVERED" } as Message, folded)).toBe("Delivered in 9.4 s, through the second provider, Mailgun EU.");
  });
});
