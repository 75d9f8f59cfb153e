import { expect, it } from "vitest";
import type { Numbers } from "../api/queries";
import { COUNTS, DURATIONS, durationText, endOfAxis, pointsOf, RATES, sharesOf, ticksOf, totalOf } from "./series";

const numbers = (changes: Partial<Numbers>): Numbers => ({
  channel: null,
  provider: null,
  tag: null,
  settled: 0,
  sent: 0,
  delivered: 0,
  failed: 0,
  unconfirmed: 0,
  bounced: 0,
  complained: 0,
  opened: 0,
  clicked: 0,
  failovers: 0,
  failure_rate: null,
  cost: 0,
  unpriced: 0,
  cost_per_delivered: null,
  accept_to_sent_ms: null,
  sent_to_delivered_ms: null,
  ...changes,
});

it("has every interval of the range, also those without messages", () => {
  const points = pointsOf({
    from: "2026-11-28T10:00:00Z",
    to: "2026-11-28T13:00:00Z",
    interval: "hour",
    data: [{ ...numbers({ sent: 3 }), starts_at: "2026-11-28T11:00:00+00:00" }],
  });

  expect(points.map(({ numbers }) => numbers?.sent ?? null)).toEqual([null, 3, null]);
  expect(points[2]!.to).toBe(Date.parse("2026-11-28T13:00:00Z"));
});

it("divides messages into parts that do not overlap", () => {
  const shares = sharesOf(numbers({ sent: 10, delivered: 6, bounced: 1, failed: 2, unconfirmed: 1 }));

  expect(shares).toEqual({ delivered: 6, accepted: 3, bounced: 1, unconfirmed: 1, failed: 2 });
  expect(totalOf(shares)).toBe(13);
  expect(sharesOf(numbers({ sent: 1, delivered: 1, bounced: 1 })).accepted).toBe(0);
  expect(totalOf(sharesOf(null))).toBe(0);
});

it.each([
  [0, 1],
  [1, 1],
  [3, 5],
  [11, 20],
  [500, 500],
  [501, 1000],
  [0.3, 0.5],
  [0.05, 0.05],
])("an axis for %s ends at %s", (value, end) => {
  expect(endOfAxis(value)).toBeCloseTo(end, 9);
});

it.each([
  [12.4, "12 ms"],
  [9_400, "9.4 s"],
  [61_000, "61 s"],
  [180_000, "3 min"],
])("%s ms is %s", (value, text) => {
  expect(durationText(value)).toBe(text);
});

it.each([
  ["a count of one has no half", COUNTS, 1, ["0", "1"]],
  ["nor has a count of five", COUNTS, 5, ["0", "5"]],
  ["counts have whole numbers", COUNTS, 37, ["0", "25", "50"]],
  ["a millisecond has no half", DURATIONS, 1, ["0 ms", "1 ms"]],
  ["milliseconds", DURATIONS, 37, ["0 ms", "25 ms", "50 ms"]],
  ["seconds with a decimal", DURATIONS, 4_100, ["0 ms", "2.5 s", "5.0 s"]],
  ["whole minutes", DURATIONS, 190_000, ["0 ms", "5 min"]],
  ["rates", RATES, 0.04, ["0\u00a0%", "2.5\u00a0%", "5.0\u00a0%"]],
])("an axis has the texts of its values: %s", (_, scale, highest, texts) => {
  expect(ticksOf(scale.endOf(highest), scale).map(scale.format)).toEqual(texts);
});
