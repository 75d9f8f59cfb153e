// What a delivery of a webhook and an endpoint are in, in words and tones.
import type { Webhook, WebhookDelivery, WebhookStatus } from "../api/queries";
import type { Tone } from "../message/wording";

export const TONE_OF_STATUS: Record<WebhookStatus, Tone> = { PENDING: "idle", DELIVERED: "good", EXHAUSTED: "bad", SKIPPED: "warn" };

/** The types of events by the channel in which they happen; those without a prefix are of e-mail and of every channel. */
export const EVENT_GROUPS = [
  ["Messages", ["sent", "delivered", "bounced", "soft_bounce", "complained", "opened", "clicked", "failed", "cancelled", "expired", "unconfirmed"]],
  ["SMS", ["sms_sent", "sms_delivered", "sms_failed"]],
  ["WhatsApp", ["wa_sent", "wa_delivered", "wa_read", "wa_failed", "wa_replied"]],
  ["Telegram", ["tg_sent", "tg_delivered", "tg_read", "tg_failed"]],
  ["Signal", ["sig_sent", "sig_delivered", "sig_read", "sig_failed"]],
  ["Push", ["push_sent", "push_delivered", "push_failed"]],
  ["Providers", ["provider.health_changed"]],
] as const satisfies [string, Webhook["events"]][];

/** A state and its tone: an endpoint is on, off, failing, or was disabled by Sluice. */
export function stateOf(webhook: Webhook): [string, Tone] {
  if (webhook.disabled_reason === "gone") return ["Disabled: it answered 410", "bad"];
  if (webhook.disabled_reason === "failing") return ["Disabled: it kept failing", "bad"];
  if (!webhook.enabled) return ["Off", "idle"];
  return webhook.failing_since ? ["Failing", "warn"] : ["On", "good"];
}

/** "18 of 20 delivered" of those that have ended; "" where none has. */
export function successOf(deliveries: Pick<WebhookDelivery, "status">[]): string {
  const ended = deliveries.filter((one) => one.status === "DELIVERED" || one.status === "EXHAUSTED");
  if (ended.length === 0) return "";
  return `${ended.filter((one) => one.status === "DELIVERED").length} of the newest ${ended.length} delivered`;
}
