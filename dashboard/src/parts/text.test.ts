import { expect, it } from "vitest";
import { csvCell, visible } from "./text";

it.each([
  ["ada@example.com", "ada@example.com"],
  ["a\u202Egpj.exe", "a[U+202E]gpj.exe"],
  ["a\r\nBcc: b", "a␍␊Bcc: b"],
  ["zero\u200Bwidth\u007f", "zero[U+200B]width␡"],
  ["日本語 é 👍", "日本語 é 👍"],
])("%j is shown as %s", (text, shown) => {
  expect(visible(text)).toBe(shown);
});

it.each([
  ["=1+1", `"'=1+1"`],
  ["+49151", `"'+49151"`],
  ["-2", `"'-2"`],
  ["@sum", `"'@sum"`],
  ["plain", "plain"],
  ['say "x", y', '"say ""x"", y"'],
])("the cell %j is written as %s", (value, cell) => {
  expect(csvCell(value)).toBe(cell);
});
