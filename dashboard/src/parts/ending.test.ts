import { expect, it } from "vitest";
import { endingOf } from "./ending";

it.each([
  [0, true, "The end of the list."],
  [5_000, true, "The end of the list."],
  [5_000, false, "The newest 5,000 rows are loaded: narrow the filters to see older ones."],
  [12, false, "Older ones were not looked at: narrow the filters to see what fits among them."],
])("below %d rows, complete: %s, stands: %s", (rows, isComplete, text) => {
  expect(endingOf(rows, isComplete)).toBe(text);
});
