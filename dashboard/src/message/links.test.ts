import { expect, it } from "vitest";
import { hostOf, size } from "./links";

it.each([
  ["https://example.com/a?b=c", "example.com"],
  ["https://paypal.com@evil.example/login", "evil.example"],
  ["http://127.0.0.1:81/x", "127.0.0.1:81"],
  ["https://аpple.com/", "xn--pple-43d.com"],
  ["mailto:ada@example.com", "mailto:"],
  ["javascript:alert(1)", "javascript:"],
  ["/relative", "no address"],
  ["{{link}}", "no address"],
])("the link %s leads to %s", (link, host) => {
  expect(hostOf(link)).toBe(host);
});

it.each([[0, "0 B"], [999, "999 B"], [1_000, "1 kB"], [999_499, "999 kB"], [999_500, "1.0 MB"], [2_345_678, "2.3 MB"]])("%d bytes are %s", (bytes, text) => {
  expect(size(bytes)).toBe(text);
});
