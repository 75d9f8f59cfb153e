import { describe, expect, it } from "vitest";
import type { Provider } from "../api/queries";
import { effectOf, moveBeside, moveTo, rebase } from "./draft";

const provider = (id: string, status = "healthy", enabled = true) => ({ id, name: id.toUpperCase(), enabled, health: { status } }) as Provider;

describe("a draft", () => {
  it.each([
    ["c", 0, ["c", "a", "b"]],
    ["a", 2, ["b", "c", "a"]],
    ["b", 1, ["a", "b", "c"]],
    ["a", 9, ["b", "c", "a"]],
  ])("moves %s to position %d", (id, position, order) => {
    expect(moveTo(["a", "b", "c"], id, position)).toEqual(order);
  });

  it.each([
    [["c"], "a", "before", ["c", "a", "b"]],
    [["a"], "c", "after", ["b", "c", "a"]],
    [["a", "b"], "c", "after", ["c", "a", "b"]],
    [["a"], "a", "before", ["a", "b", "c"]],
  ] as const)("moves %j beside %s, %s it", (moved, target, where, order) => {
    expect(moveBeside(["a", "b", "c"], new Set(moved), target, where)).toEqual(order);
  });

  it("keeps its order over a provider that was added and one that was removed meanwhile", () => {
    expect(rebase(["c", "a", "b"], ["a", "c", "d"])).toEqual(["c", "a", "d"]);
  });
});

describe("the effect", () => {
  it("names the provider that would be first, past those that cannot be used", () => {
    const providers = [provider("a"), provider("b", "unhealthy"), provider("c"), provider("d", "healthy", false)];

    expect(effectOf(["d", "b", "c", "a"], ["a", "b", "c", "d"], providers)).toBe("The next message would go to C first, in place of A.");
    expect(effectOf(["a", "c", "b", "d"], ["a", "b", "c", "d"], providers)).toContain("A stays first");
  });

  it("is honest where no provider can be used", () => {
    expect(effectOf(["a"], ["a"], [provider("a", "unhealthy")])).toContain("No provider");
  });
});
