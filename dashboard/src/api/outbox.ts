// What was captured instead of sent.
import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { apiOf, dataOf, type Schemas, type View } from "./client";
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

const PAGE = 50;
const POLL = 5_000;

export const outboxQuery = (view: View, filters: OutboxFilters) =>
  infiniteQueryOptions({
    queryKey: [view.project, view.mode, "outbox", filters],
    queryFn: ({ pageParam, signal }) =>
      dataOf(apiOf(view).GET("/v1/outbox", { params: { query: { ...filters, limit: PAGE, cursor: pageParam } }, signal })),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next_cursor ?? undefined,
    refetchInterval: POLL,
  });

export const capturedQuery = (view: View, id: string) =>
  queryOptions({
    queryKey: [view.project, view.mode, "captured", id],
    queryFn: ({ signal }) => dataOf(apiOf(view).GET("/v1/outbox/{capture_id}", { params: { path: { capture_id: id } }, signal })),
    staleTime: Infinity,
  });
