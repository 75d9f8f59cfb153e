// The parts of a template, its variables and its places.
import type { TemplateKind } from "../api/queries";

export type Part = "subject" | "html" | "text";
export type Sources = Partial<Record<Part, string>>;

export const KIND_NAMES: Record<TemplateKind, string> = { email: "E-mail", text: "Text message", push: "Push" };

/** The parts that a template of a kind can have, with their names. */
export const PARTS: Record<TemplateKind, [Part, string][]> = {
  email: [["subject", "Subject"], ["html", "HTML"], ["text", "Text"]],
  text: [["text", "Text"]],
  push: [["subject", "Title"], ["text", "Text"]],
};

/** The parts of a kind as the API wants them: null for one that is empty. */
export function bodyOf(kind: TemplateKind, sources: Sources): Record<Part, string | null> {
  const has = (part: Part) => PARTS[kind].some(([one]) => one === part);
  const of = (part: Part) => (has(part) && sources[part] ? sources[part] : null);
  return { subject: of("subject"), html: of("html"), text: of("text") };
}

/** The offset of a line and a column, both from 1, in a text; its end where the text is shorter. */
export function offsetOf(text: string, { line, column }: { line: number; column: number }): number {
  const lines = text.split("\n");
  const before = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  // The API counts characters, the browser UTF-16 units.
  return Math.min(before + [...(lines[line - 1] ?? "")].slice(0, column - 1).join("").length, text.length);
}

type Json = string | Json[] | { [key: string]: Json };

/** Sample values for paths such as "name", "order.total" and "items[].price": each is its own last name. */
export function sampleOf(paths: string[]): { [key: string]: Json } {
  const sample: { [key: string]: Json } = {};
  for (const path of paths) put(sample, path.split("."));
  return sample;
}

function put(target: { [key: string]: Json }, [step, ...rest]: string[]): void {
  const isList = step!.endsWith("[]");
  const name = step!.replace(/(\[\])+$/, "");
  if (rest.length === 0) {
    if (target[name] === undefined) target[name] = isList ? [name] : name;
    return;
  }
  let inner = isList ? (target[name] as Json[] | undefined)?.[0] : target[name];
  if (typeof inner !== "object" || Array.isArray(inner)) {
    inner = {};
    target[name] = isList ? [inner] : inner;
  }
  put(inner, rest);
}

/** The values of a text in JSON, or why it has none. */
export function valuesOf(text: string): { values: Record<string, unknown> } | { error: string } {
  if (text.trim() === "") return { values: {} };
  try {
    const values: unknown = JSON.parse(text);
    if (typeof values === "object" && values !== null && !Array.isArray(values)) return { values: values as Record<string, unknown> };
    return { error: "The values are an object in JSON: {\"name\": \"Ada\"}." };
  } catch (error) {
    return { error: `The values are not JSON: ${(error as Error).message}` };
  }
}
