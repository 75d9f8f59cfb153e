// What was captured instead of sent.
import { queryOptions } from "@tanstack/react-query";
import { apiOf, dataOf, type Schemas, type View } from "./client";
import { keyOf, pagesOf } from "./pages";
import type { Channel } from "./queries";

export type Captured = Schemas["CapturedSummary"];

export interface OutboxFilters {
  channel?: Channel;
  to?: string;
}

export interface OutboxSearch extends OutboxFilters {
  /** The captured message that is shown. */
  open?: string;
}

export const outboxQuery = (view: View, filters: OutboxFilters) =>
  pagesOf(
    keyOf(view, "outbox", filters),
    (page, signal) => apiOf(view).GET("/v1/outbox", { params: { query: { ...filters, ...page } }, signal }),
    5_000,
  );

export const capturedQuery = (view: View, id: string) =>
  queryOptions({
    queryKey: keyOf(view, "captured", id),
    queryFn: ({ signal }) => dataOf(apiOf(view).GET("/v1/outbox/{capture_id}", { params: { path: { capture_id: id } }, signal })),
    staleTime: Infinity,
  });
