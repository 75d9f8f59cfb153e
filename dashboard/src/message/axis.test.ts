import { describe, expect, it } from "vitest";
import { duration, makeAxis } from "./axis";

const clock = (time: number) => `${time}`;
const moment = (at: number) => ({ from: at, to: at });

describe("the axis", () => {
  it("cuts an idle stretch that takes more than a fifth, and marks how long it is", () => {
    const axis = makeAxis([{ from: 0, to: 10_000 }, moment(432_000)], 100, 900, clock);

    expect(axis.cuts).toHaveLength(1);
    expect(axis.cuts[0]!.to - axis.cuts[0]!.from).toBeGreaterThan(400_000);
    expect(axis.x(10_000)).toBeLessThan(axis.cuts[0]!.x);
    expect(axis.x(432_000)).toBeGreaterThan(axis.cuts[0]!.x + axis.cuts[0]!.width - 1);
  });

  it("keeps short pauses", () => {
    expect(makeAxis([moment(0), { from: 12, to: 20 }], 100, 900, clock).cuts).toEqual([]);
    expect(makeAxis([moment(0), { from: 500, to: 5_000 }, { from: 5_500, to: 6_000 }], 100, 900, clock).cuts).toEqual([]);
  });

  it.each([
    ["one moment", [moment(5)]],
    ["a moment twice", [moment(5), moment(5)]],
    ["a year", [moment(0), moment(31_536_000_000)]],
  ])("stays within its borders with %s", (_, busy) => {
    const axis = makeAxis(busy, 100, 900, clock);

    for (const time of [-1e12, 0, 5, 1e12]) expect(axis.x(time)).toSatisfy((x: number) => x >= 100 && x <= 900);
    expect(axis.ticks.length).toBeLessThan(30);
  });

  it.each([
    ["long pieces", [{ from: 0, to: 10_000 }, { from: 432_000, to: 442_000 }]],
    ["moments", [0, 1e6, 2e6, 3e6, 4e6].map(moment)],
    ["a moment at each end", [moment(0), { from: 5e6, to: 6e6 }, moment(9e6)]],
  ])("has room for the label of every tick and cut with %s", (_, busy) => {
    const axis = makeAxis(busy, 160, 890, clock);
    const apart = (places: number[]) => places.slice(1).map((x, index) => x - places[index]!);

    expect(axis.cuts.length).toBeGreaterThan(0);
    for (const gap of apart(axis.ticks.map((tick) => tick.x))) expect(gap).toBeGreaterThan(75.9);
    for (const gap of apart(axis.cuts.map((cut) => cut.x + cut.width / 2))) expect(gap).toBeGreaterThan(75.9);
  });

  it("keeps the order of times", () => {
    const axis = makeAxis([moment(0), { from: 60_000, to: 60_100 }, moment(9e6)], 0, 1_000, clock);
    const positions = [0, 30_000, 60_000, 60_100, 5e6, 9e6].map((time) => axis.x(time));

    expect(positions).toEqual([...positions].sort((one, other) => one - other));
  });
});

it.each([
  [0, "0 ms"], [12.4, "12 ms"], [999, "999 ms"], [1_234, "1.2 s"], [9_400, "9.4 s"], [45_000, "45 s"], [59_900, "1 min"],
  [432_000, "7.2 min"], [3_590_000, "1 h"], [200_000_000, "2.3 days"],
])("%d ms are %s", (milliseconds, text) => {
  expect(duration(milliseconds)).toBe(text);
});
