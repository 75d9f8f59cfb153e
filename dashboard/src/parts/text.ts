// Text of strangers, made safe to look at.

const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Control characters and bidirectional overrides as symbols: an address shows what it is. */
export function visible(text: string): string {
  return text.replace(CONTROLS, (character) => {
    const code = character.codePointAt(0)!;
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    return code === 0x7f ? "\u2421" : `[U+${code.toString(16).toUpperCase().padStart(4, "0")}]`;
  });
}

/** The same of a text of several lines, which stay lines; a tab stays a tab. */
export const visibleLines = (text: string) =>
  text.split(/\r\n|\n/).map((line) => line.split("\t").map(visible).join("\t")).join("\n");

/** A cell of a CSV file; one that a spreadsheet would compute is quoted as text. */
export function csvCell(value: string): string {
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\n\r']/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
