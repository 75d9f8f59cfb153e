// An order of providers that is not saved yet, and what it would change.
import type { Provider } from "../api/queries";

export type Order = readonly string[];

/** The order with `id` at `position`, from 0. */
export function moveTo(order: Order, id: string, position: number): string[] {
  const rest = order.filter((one) => one !== id);
  return [...rest.slice(0, position), id, ...rest.slice(position)];
}

/** The order with `moved` before or after `target`. */
export function moveBeside(order: Order, moved: ReadonlySet<string>, target: string, where: "before" | "after"): string[] {
  const block = order.filter((id) => moved.has(id));
  const rest = order.filter((id) => !moved.has(id));
  const index = rest.indexOf(target);
  if (index < 0) return [...order];
  const split = where === "before" ? index : index + 1;
  return [...rest.slice(0, split), ...block, ...rest.slice(split)];
}

export const isSame = (one: Order, other: Order) => one.length === other.length && one.every((id, index) => id === other[index]);

/** A draft over what the gateway has now: new providers follow, removed ones are omitted. */
export function rebase(draft: Order, saved: Order): string[] {
  const known = new Set(saved);
  const kept = draft.filter((id) => known.has(id));
  return [...kept, ...saved.filter((id) => !kept.includes(id))];
}

/** The provider that would get the next message: the first that is enabled and healthy, else a degraded one. */
export function firstUsable(order: Order, providers: readonly Provider[]): Provider | undefined {
  const ordered = order.flatMap((id) => providers.find((one) => one.id === id && one.enabled) ?? []);
  return ordered.find((one) => one.health.status === "healthy") ?? ordered.find((one) => one.health.status === "degraded");
}

/** What a draft does, as a sentence. */
export function effectOf(draft: Order, saved: Order, providers: readonly Provider[]): string {
  const before = firstUsable(saved, providers);
  const after = firstUsable(draft, providers);
  if (!after) return "No provider of this channel can be used now: the order counts once one has recovered.";
  if (before?.id === after.id) return `Nothing changes for the next message: ${after.name} stays first. The order counts when it fails.`;
  return `The next message would go to ${after.name} first${before ? `, in place of ${before.name}` : ""}.`;
}
