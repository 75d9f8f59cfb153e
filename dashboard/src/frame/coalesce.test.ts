import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { coalesce } from "./coalesce";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const lasting = (milliseconds: number) => vi.fn((_: string[]) => new Promise((resolve) => setTimeout(resolve, milliseconds)));

it("does the work once for what was added within the interval", async () => {
  const work = lasting(0);
  const changes = coalesce(work, 1_000);

  for (const id of ["a", "b", "a"]) changes.add(id);
  await vi.advanceTimersByTimeAsync(999);
  expect(work).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(1);

  expect(work.mock.calls).toEqual([[["a", "b"]]]);
});

it("waits for the end of long work, and then for four times its length", async () => {
  const work = lasting(2_000);
  const changes = coalesce(work, 1_000);
  changes.add("a");
  await vi.advanceTimersByTimeAsync(1_500);

  changes.add("b");
  await vi.advanceTimersByTimeAsync(1_500 + 7_999);
  expect(work).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(1);

  expect(work.mock.calls).toEqual([[["a"]], [["b"]]]);
});

it("does nothing after the stop, not even when work was under way", async () => {
  const work = lasting(100);
  const changes = coalesce(work, 1_000);
  changes.add("a");
  await vi.advanceTimersByTimeAsync(1_050);

  changes.add("b");
  changes.stop();
  await vi.advanceTimersByTimeAsync(60_000);

  expect(work).toHaveBeenCalledTimes(1);
});
