import { describe, expect, it } from "vitest";
import type { Status } from "../api/queries";
import { bannersOf } from "./installation";

const UP = { status: "up" as const, since: "2026-03-27T02:47:00Z", latency_ms: 1, error: null };
const DOWN = { ...UP, status: "down" as const, error: "refused" };
const ROLE = { consumers: 1, lag_records: 0, lag_s: 0 };
const WAITING = { channel: "sms" as const, due: 3, scheduled: 5, in_flight: 1, oldest_due_at: "2026-03-27T02:50:00Z" };

const status = (changes: Partial<Status> = {}): Status => ({
  status: "up", version: "1", postgres: UP, kafka: UP, redis: UP, roles: [], waiting: [], measured_at: UP.since, ...changes,
});
const leads = (changes: Partial<Status>) => bannersOf(status(changes)).map((banner) => banner.lead.replace(/\d\d:\d\d:\d\d/, "…"));

describe("the banners", () => {
  it("are none when everything runs, or is unused", () => {
    expect(bannersOf(status({ redis: { ...UP, status: "unused" }, roles: [{ role: "router", status: "unknown", ...ROLE }] }))).toEqual([]);
  });

  it("without PostgreSQL say only that", () => {
    expect(leads({ postgres: DOWN, kafka: DOWN, redis: DOWN, waiting: null })).toEqual(["PostgreSQL is down since …."]);
  });

  it("without Kafka say how many wait", () => {
    const [banner] = bannersOf(status({ kafka: DOWN, waiting: [WAITING] }));

    expect(banner!.text).toContain("4 deliveries wait.");
    expect(bannersOf(status({ kafka: { ...DOWN, since: null }, waiting: null }))[0]!.lead).toBe("Kafka is down.");
  });

  it("name each part that is away", () => {
    expect(leads({ kafka: DOWN, redis: DOWN })).toEqual(["Kafka is down since ….", "Redis is down since …."]);
  });

  it("name a sender only when something waits for it", () => {
    const roles = [{ role: "sms-worker", status: "down" as const, ...ROLE }];

    expect(leads({ roles, waiting: [{ ...WAITING, channel: "email" }, { ...WAITING, due: 0, in_flight: 0 }] })).toEqual([]);
    expect(leads({ roles, waiting: [WAITING, { ...WAITING, channel: "whatsapp" }] })).toEqual(["No sms-worker runs: SMS, WhatsApp wait."]);
  });

  it("name every other role at once", () => {
    expect(leads({ roles: ["router", "health", "event-worker", "new"].map((role) => ({ role, status: "down" as const, ...ROLE })) })).toHaveLength(4);
  });
});
