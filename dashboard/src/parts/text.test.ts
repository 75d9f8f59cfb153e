import { expect, it } from "vitest";
import { csvCell, visible, visibleLines } from "./text";

it.each([
  ["ada@example.com", "ada@example.com"],
  ["a\u202Egpj.exe", "a[U+202E]gpj.exe"],
  ["a\r\nBcc: b", "a␍␊Bcc: b"],
  ["zero\u200Bwidth\u007f", "zero[U+200B]width␡"],
  ["日本語 é 👍", "日本語 é 👍"],
])("%j is shown as %s", (text, shown) => {
  expect(visible(text)).toBe(shown);
});

it("lines stay lines", () => {
  expect(visibleLines("one\r\n\ttwo\u202E\nthree\u0000")).toBe("one\n\ttwo[U+202E]\nthree␀");
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
