import { describe, expect, it } from "vitest";
import type { IncidentDetail } from "../api/incidents";
import { harmOf } from "./harm";
import { stripsOf } from "./pieces";
import { courseOf, figuresOf, lengthOf, reportOf } from "./wording";

const NONE = { touched: 0, masked: 0, late: 0, failed: 0, unconfirmed: 0, possible_duplicates: 0, waiting: 0, counted_at: "2026-03-27T10:00:00Z" };
const SES = { id: "prv_1", name: "SES" };
const MAILGUN = { id: "prv_2", name: "Mail\u202Egun" };
const ACTOR = { kind: "user" as const, id: "usr_1", name: "ada@example.com" };
const at = (seconds: number) => new Date(Date.UTC(2026, 2, 27, 10, 0, seconds)).toISOString();
const ms = (seconds: number) => Date.parse(at(seconds));

const INCIDENT: IncidentDetail = {
  id: "inc_1",
  channel: "email",
  status: "open",
  opened_at: at(0),
  resolved_at: null,
  cause: "5 consecutive failures",
  providers: [{ provider: SES, reason: "5 consecutive failures", since: at(0), ended_at: null, ending: null }],
  without_provider: null,
  numbers: NONE,
  acknowledged: null,
  notes: [],
  changes: [],
};

describe("the harm", () => {
  it.each([
    [{}, "good", "No message was touched."],
    [{ counted_at: null }, "idle", "What became of its messages is not counted yet."],
    [{ touched: 412, masked: 412 }, "good", "No message failed: another provider accepted 412 deliveries."],
    [{ touched: 4, masked: 3, late: 1 }, "warn", "1 delivery was late. None failed."],
    [{ touched: 4, late: 2, waiting: 1 }, "warn", "1 delivery waits. None has failed."],
    [{ touched: 4, waiting: 2, possible_duplicates: 1 }, "unsure", "1 delivery may have arrived twice. None failed."],
    [{ touched: 4, possible_duplicates: 1, unconfirmed: 2 }, "unsure", "It is not known whether 2 deliveries were sent."],
    [{ touched: 5_000, unconfirmed: 2, failed: 1_204 }, "bad", "1,204 deliveries failed."],
  ])("of %j is %s: %s", (changes, tone, text) => {
    expect(harmOf({ numbers: { ...NONE, ...changes } })).toEqual({ tone, text });
  });
});

it("a number of zero draws no attention", () => {
  expect(new Set(figuresOf(NONE).map((figure) => figure.tone))).toEqual(new Set(["idle"]));
});

describe("the course", () => {
  const course = courseOf({
    ...INCIDENT,
    status: "resolved",
    resolved_at: at(90),
    providers: [{ ...INCIDENT.providers[0]!, ended_at: at(90), ending: "recovered" }],
    changes: [{ provider: MAILGUN, at: at(20), status: "degraded", reason: "slow", error_rate: 0.1 }],
    acknowledged: { actor: ACTOR, at: at(10) },
    notes: [{ id: "inn_1", actor: { kind: "operator", id: null, name: null }, text: "called\nthem", created_at: at(30) }],
    without_provider: { since: at(5), until: at(8) },
  });

  it("is in the order of time", () => {
    expect(course.map((entry) => entry.at)).toEqual([0, 5, 8, 10, 20, 30, 90, 90].map(at));
  });

  it("names who did what, with the text of strangers made visible", () => {
    const said = course.map((entry) => entry.what);

    expect(said).toContain("ada@example.com looks after it");
    expect(said).toContain("Note of the command line: called them");
    expect(said).toContain("Mail[U+202E]gun is degraded: slow");
    expect(said).toContain("SES has its full share again");
  });
});

it("the report of an open incident says that it lasts", () => {
  const report = reportOf({ ...INCIDENT, numbers: { ...NONE, touched: 3, masked: 3 } }, ms(120));

  expect(report).toContain("E-mail: No message failed: another provider accepted 3 deliveries.");
  expect(report).toContain("now (it lasts), 2 min");
  expect(report).toContain("Masked: 3\n");
});

it("an open incident lasts until now", () => {
  expect(lengthOf(INCIDENT, ms(45))).toBe("45 s");
});

describe("the strips", () => {
  it("show each status for as long as it lasted", () => {
    const [strip] = stripsOf(
      { ...INCIDENT, changes: [
        { provider: SES, at: at(0), status: "unhealthy", reason: "", error_rate: 1 },
        { provider: SES, at: at(60), status: "healthy", reason: "", error_rate: 0 },
      ] },
      ms(80),
    );

    expect(strip!.pieces).toEqual([
      { from: ms(0), to: ms(60), status: "unhealthy" },
      { from: ms(60), to: ms(80), status: "healthy" },
    ]);
  });

  it("contain a provider that only changed meanwhile, healthy before", () => {
    const strips = stripsOf({ ...INCIDENT, changes: [{ provider: MAILGUN, at: at(30), status: "degraded", reason: "slow", error_rate: 0.1 }] }, ms(60));

    expect(strips.map((strip) => strip.pieces.map((piece) => piece.status))).toEqual([["unhealthy"], ["healthy", "degraded"]]);
  });

  it("begin and end with the incident, whatever was before and after", () => {
    const [strip] = stripsOf({ ...INCIDENT, resolved_at: at(10), providers: [{ ...INCIDENT.providers[0]!, since: at(-500) }], changes: [
      { provider: SES, at: at(20), status: "healthy", reason: "", error_rate: 0 },
    ] }, ms(9_000));

    expect(strip!.pieces).toEqual([{ from: ms(0), to: ms(10), status: "unhealthy" }]);
  });
});
