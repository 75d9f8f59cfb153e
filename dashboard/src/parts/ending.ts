// What stands below a list that loads no more.
import { MAX_ROWS } from "../api/values";
import { count } from "../message/wording";

/** `rows`: those that are loaded; a page may be short, so they may be few although older rows exist. */
export function endingOf(rows: number, isComplete: boolean): string {
  if (isComplete) return "The end of the list.";
  if (rows >= MAX_ROWS) return `The newest ${count(MAX_ROWS, "row")} are loaded: narrow the filters to see older ones.`;
  return "Older ones were not looked at: narrow the filters to see what fits among them.";
}
