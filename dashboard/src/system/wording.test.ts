import { expect, it } from "vitest";
import type { Status } from "../api/queries";
import { conditionOf, lagText } from "./wording";

const part = (status: "up" | "down" | "unused") => ({ status, since: null, latency_ms: null, error: null });
const status = (changes: Partial<Status>): Status => ({
  status: "up",
  version: "1",
  postgres: part("up"),
  kafka: part("up"),
  redis: part("up"),
  roles: [],
  waiting: [],
  measured_at: "2026-11-28T10:00:00Z",
  ...changes,
});
const role = (name: string, state: "up" | "down" | "unknown") => ({ role: name, status: state, consumers: null, lag_records: null, lag_s: null });

it.each([
  [{}, "good", "Everything runs."],
  [{ redis: part("unused") }, "good", "Everything runs."],
  [{ redis: part("down"), status: "impaired" }, "warn", "Redis is down."],
  [{ kafka: part("down"), redis: part("down"), status: "impaired" }, "bad", "Kafka is down."],
  [{ postgres: part("down"), status: "down" }, "bad", "PostgreSQL is down."],
  [{ roles: [role("router", "down"), role("health", "up")], status: "impaired" }, "bad", "router: no process runs."],
  [{ roles: [role("router", "unknown")], status: "impaired" }, "warn", "The installation is impaired."],
] as const)("with %j it is %s: %s", (changes, tone, lead) => {
  expect(conditionOf(status(changes as Partial<Status>)).slice(0, 2)).toEqual([tone, lead]);
});

it.each([
  [null, "unknown"],
  [0, "0.0 s"],
  [9.94, "9.9 s"],
  [12.4, "12 s"],
  [200, "3 min"],
])("a lag of %s s is %s", (seconds, text) => {
  expect(lagText(seconds)).toBe(text);
});
