import { expect, it } from "vitest";
import type { Webhook } from "../api/queries";
import { EVENT_GROUPS, stateOf, successOf } from "./wording";

const webhook = (changes: Partial<Webhook>): Webhook => ({
  id: "wh_1",
  url: "https://shop.example/hook",
  events: ["delivered"],
  channels: [],
  tags: [],
  description: "",
  enabled: true,
  disabled_reason: null,
  failing_since: null,
  test: false,
  created_at: "2026-11-28T10:00:00Z",
  updated_at: "2026-11-28T10:00:00Z",
  ...changes,
});

it.each([
  [{}, "On", "good"],
  [{ failing_since: "2026-11-28T10:00:00Z" }, "Failing", "warn"],
  [{ enabled: false }, "Off", "idle"],
  [{ enabled: false, disabled_reason: "failing", failing_since: "2026-11-28T10:00:00Z" }, "Disabled: it kept failing", "bad"],
  [{ enabled: false, disabled_reason: "gone" }, "Disabled: it answered 410", "bad"],
] as const)("an endpoint with %j is %s", (changes, word, tone) => {
  expect(stateOf(webhook(changes))).toEqual([word, tone]);
});

it("counts as success what has ended", () => {
  const of = (...statuses: ("PENDING" | "DELIVERED" | "EXHAUSTED" | "SKIPPED")[]) => successOf(statuses.map((status) => ({ status })));

  expect(of("DELIVERED", "EXHAUSTED", "PENDING", "SKIPPED", "DELIVERED")).toBe("2 of the newest 3 delivered");
  expect(of("PENDING", "SKIPPED")).toBe("");
});

it("offers each type of event once", () => {
  const types = EVENT_GROUPS.flatMap(([, events]) => events as readonly string[]);

  expect(new Set(types).size).toBe(types.length);
});
