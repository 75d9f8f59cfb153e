// The numbers of a range as series over all of its intervals.
import type { Analytics, Numbers } from "../api/queries";
import type { Tone } from "../message/wording";
import { percent } from "../parts/percent";

export interface Point {
  /** The beginning and the end of the interval, in milliseconds since 1970. */
  from: number;
  to: number;
  numbers: Numbers | null;
}

/** Shorter times are shown in milliseconds or seconds. */
const MINUTES_FROM = 120_000;
const LENGTH = { hour: 3_600_000, day: 86_400_000 };

/** Every interval of the range in order; `numbers` is null where nothing was accepted. */
export function pointsOf({ from, to, interval, data }: Pick<Analytics, "from" | "to" | "interval" | "data">): Point[] {
  const length = LENGTH[interval];
  const at = new Map(data.map((point) => [Date.parse(point.starts_at), point]));
  const points: Point[] = [];
  for (let start = Date.parse(from); start < Date.parse(to); start += length)
    points.push({ from: start, to: start + length, numbers: at.get(start) ?? null });
  return points;
}

export type Share = "delivered" | "accepted" | "bounced" | "unconfirmed" | "failed";

export const SHARES: [Share, string, Tone][] = [
  ["delivered", "Delivered", "good"],
  ["accepted", "Accepted, no receipt", "idle"],
  ["bounced", "Bounced", "warn"],
  ["unconfirmed", "Unconfirmed", "unsure"],
  ["failed", "Failed", "bad"],
];

/** What became of the messages, in parts that do not overlap: `sent` contains what was delivered and what bounced. */
export function sharesOf(numbers: Numbers | null): Record<Share, number> {
  if (!numbers) return { delivered: 0, accepted: 0, bounced: 0, unconfirmed: 0, failed: 0 };
  const { sent, delivered, bounced, unconfirmed, failed } = numbers;
  return { delivered, accepted: Math.max(0, sent - delivered - bounced), bounced, unconfirmed, failed };
}

export const totalOf = (shares: Record<Share, number>) => Object.values(shares).reduce((sum, one) => sum + one, 0);

/** The end of an axis that contains `value`: 1, 2 or 5 times a power of ten. */
export function endOfAxis(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  // 0.3 / 0.1 is a little less than 3.
  const step = [1, 2, 5, 10].find((one) => value / power <= one + 1e-9)!;
  return step * power;
}

/** How the values of an axis are shown. `unit`: the smallest difference that the text of the values up to `end` shows. */
export interface Scale {
  format: (value: number) => string;
  unit: (end: number) => number | null;
  endOf: (value: number) => number;
}

export const COUNTS: Scale = { format: (value) => value.toLocaleString("en"), unit: () => 1, endOf: endOfAxis };
export const RATES: Scale = { format: percent, unit: () => null, endOf: endOfAxis };
export const DURATIONS: Scale = {
  format: durationText,
  unit: (end) => (end < 1_000 ? 1 : end < 10_000 ? 100 : end < MINUTES_FROM ? 1_000 : 60_000),
  endOf: (value) => (value < MINUTES_FROM ? endOfAxis(value) : 60_000 * endOfAxis(value / 60_000)),
};

/** Where the lines of an axis are: both ends, and the middle unless its text would be rounded. */
export function ticksOf(end: number, { unit }: Scale): number[] {
  const smallest = unit(end);
  return smallest === null || (end / 2) % smallest === 0 ? [0, end / 2, end] : [0, end];
}

/** "640 ms", "9.4 s", "3 min". */
export function durationText(milliseconds: number): string {
  if (milliseconds < 1_000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < MINUTES_FROM) return `${(milliseconds / 1_000).toFixed(milliseconds < 10_000 ? 1 : 0)} s`;
  return `${Math.round(milliseconds / 60_000)} min`;
}
