import type { SuppressionReason } from "../api/queries";
import type { Tone } from "../message/wording";

export const REASON_NAMES: Record<SuppressionReason, string> = {
  hard_bounce: "Hard bounce",
  complaint: "Complaint",
  unsubscribe: "Unsubscribed",
  manual: "By hand",
};
export const REASON_TONES: Record<SuppressionReason, Tone> = { hard_bounce: "bad", complaint: "bad", unsubscribe: "warn", manual: "idle" };

/** The addresses of a text, one a line; of a line of a CSV file the first cell. Empty lines and repeated ones are left out. */
export function addressesOf(text: string): string[] {
  const cells = text.split(/\r?\n/).map((line) => line.split(/[,;\t]/)[0]!.trim().replace(/^"(.*)"$/, "$1").trim());
  return [...new Set(cells.filter(Boolean))];
}

/** The parts of at most `size`, in order. */
export function chunksOf<Value>(values: Value[], size: number): Value[][] {
  return Array.from({ length: Math.ceil(values.length / size) }, (_, index) => values.slice(index * size, (index + 1) * size));
}
