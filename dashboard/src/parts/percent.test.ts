import { expect, it } from "vitest";
import { percent } from "./percent";

it.each([
  [0, "0~%"], [0.0004, "<~0.1~%"], [0.006, "0.6~%"], [0.0994, "9.9~%"], [0.0996, "10~%"], [0.414, "41~%"], [1, "100~%"],
])("the rate %d is %s, which stays on its line", (rate, text) => {
  expect(percent(rate)).toBe(text.replaceAll("~", "\u00a0"));
});
