import { expect, it } from "vitest";
import { bodyOf, offsetOf, sampleOf, valuesOf } from "./sources";

it.each([
  ["one\ntwo", 1, 1, 0],
  ["one\ntwo", 2, 2, 5],
  ["👍👍 {{", 1, 4, 5],
  ["one", 9, 9, 3],
  ["", 1, 1, 0],
])("in %j line %i, column %i is at %i", (text, line, column, offset) => {
  expect(offsetOf(text, { line, column })).toBe(offset);
});

it.each([
  [["name"], { name: "name" }],
  [["order.total", "order.id"], { order: { total: "total", id: "id" } }],
  [["items[].price", "items[].name"], { items: [{ price: "price", name: "name" }] }],
  [["tags[]"], { tags: ["tags"] }],
  [["items", "items[].price"], { items: [{ price: "price" }] }],
  [["user", "user.name"], { user: { name: "name" } }],
  [["user.name", "user"], { user: { name: "name" } }],
  [[], {}],
])("the sample of %j", (paths, sample) => {
  expect(sampleOf(paths)).toEqual(sample);
});

it.each([
  ['{"a": 1}', { values: { a: 1 } }],
  ["  ", { values: {} }],
])("the values of %j", (text, found) => {
  expect(valuesOf(text)).toEqual(found);
});

it.each(["[1]", "1", "null", "{", "{'a': 1}"])("%s has no values", (text) => {
  expect(valuesOf(text)).toHaveProperty("error");
});

it("sends only the parts of its kind, and null for an empty one", () => {
  const sources = { subject: "Hi", html: "<p>", text: "" };

  expect(bodyOf("email", sources)).toEqual({ subject: "Hi", html: "<p>", text: null });
  expect(bodyOf("text", { ...sources, text: "Hello" })).toEqual({ subject: null, html: null, text: "Hello" });
});
