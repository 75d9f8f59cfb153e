import { expect, it } from "vitest";
import { addressesOf, chunksOf } from "./wording";

it.each([
  ["ada@example.com\nbob@example.com\n", ["ada@example.com", "bob@example.com"]],
  ["ada@example.com\r\n\r\n  bob@example.com  ", ["ada@example.com", "bob@example.com"]],
  ['"ada@example.com",hard_bounce,2026-01-01\n"bob@example.com",manual', ["ada@example.com", "bob@example.com"]],
  ["+4915112345678;note\n+4915112345678", ["+4915112345678"]],
  [" \n,\n", []],
])("the addresses of %j are %j", (text, addresses) => {
  expect(addressesOf(text)).toEqual(addresses);
});

it("divides a list in order", () => {
  expect(chunksOf([1, 2, 3, 4, 5], 2)).toEqual([[1, 2], [3, 4], [5]]);
  expect(chunksOf([], 2)).toEqual([]);
});
