// What the screens read: one place for keys and intervals.
import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { api, apiOf, dataOf, type Schemas, type View } from "./client";

export type Message = Schemas["MessageResponse"];
export type MessageSummary = Schemas["MessageSummary"];
export type Provider = Schemas["ProviderResponse"];
export type Channel = Schemas["Channel"];
export type State = Schemas["State"];
export type Decision = Schemas["DecisionResponse"];

export interface MessageFilters {
  status?: string;
  channel?: Channel;
  to?: string;
  from?: string;
  tag?: string;
  provider?: string;
  attempted_provider?: string;
  failed_over?: boolean;
  possible_duplicate?: boolean;
  incident?: string;
  template?: string;
  since?: string;
  until?: string;
}

/** At most so many rows of a list are kept in the browser. */
export const MAX_ROWS = 5_000;
const PAGE = 100;

const keyOf = (view: View, ...rest: unknown[]) => [view.project, view.mode, ...rest];

export const meQuery = queryOptions({
  queryKey: ["me"],
  queryFn: () => dataOf(api.GET("/v1/auth/me")),
  staleTime: 60_000,
});

export const messagesQuery = (view: View, filters: MessageFilters) =>
  infiniteQueryOptions({
    queryKey: keyOf(view, "messages", filters),
    queryFn: ({ pageParam, signal }) =>
      dataOf(
        apiOf(view).GET("/v1/messages", {
          params: { query: { ...filters, limit: PAGE, cursor: pageParam } },
          signal,
        }),
      ),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last, pages) => (pages.length * PAGE >= MAX_ROWS ? undefined : (last.next_cursor ?? undefined)),
  });

/** The newest messages that fit the filters, one page. */
export const newestQuery = (view: View, filters: MessageFilters, limit: number) =>
  queryOptions({
    queryKey: keyOf(view, "messages", "newest", filters, limit),
    queryFn: ({ signal }) =>
      dataOf(apiOf(view).GET("/v1/messages", { params: { query: { ...filters, limit } }, signal })),
  });

export const messageQuery = (view: View, id: string) =>
  queryOptions({
    queryKey: keyOf(view, "message", id),
    queryFn: ({ signal }) =>
      dataOf(apiOf(view).GET("/v1/messages/{message_id}", { params: { path: { message_id: id } }, signal })),
  });

export const contentQuery = (view: View, id: string) =>
  queryOptions({
    queryKey: keyOf(view, "content", id),
    queryFn: ({ signal }) =>
      dataOf(apiOf(view).GET("/v1/messages/{message_id}/content", { params: { path: { message_id: id } }, signal })),
  });

export const providersQuery = (view: View) =>
  queryOptions({
    queryKey: keyOf(view, "providers"),
    queryFn: ({ signal }) => dataOf(apiOf(view).GET("/v1/providers", { signal })),
    select: (list) => list.data,
    refetchInterval: 5_000,
  });

export const dryRunQuery = (view: View, body: Schemas["DryRunRequest"]) =>
  queryOptions({
    queryKey: keyOf(view, "dry-run", body),
    queryFn: ({ signal }) => dataOf(apiOf(view).POST("/v1/route/dry-run", { body, signal })),
    refetchInterval: 5_000,
  });
