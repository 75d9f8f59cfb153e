// The values that a view's address can have; they are with the router in the first chunk.
import type { GroupBy, SuppressionReason, TemplateKind, WebhookStatus } from "./queries";

export const WEBHOOK_STATUSES: WebhookStatus[] = ["PENDING", "DELIVERED", "EXHAUSTED", "SKIPPED"];
export const REASONS: SuppressionReason[] = ["hard_bounce", "complaint", "unsubscribe", "manual"];
export const KINDS: TemplateKind[] = ["email", "text", "push"];
export const RANGES = [1, 7, 30];
export const GROUPS: GroupBy[] = ["channel", "provider", "tag"];

/** At most so many rows of a list are kept in the browser. */
export const MAX_ROWS = 5_000;
