// Lists that the gateway gives by pages, each with the cursor of the next one.
import { infiniteQueryOptions } from "@tanstack/react-query";
import { dataOf, type View } from "./client";
import { MAX_ROWS } from "./values";

export const PAGE_SIZE = 100;

export const keyOf = (view: View, ...rest: unknown[]) => [view.project, view.mode, ...rest];

export interface Page<Row> {
  data: Row[];
  next_cursor: string | null;
}

export interface PageQuery {
  limit: number;
  cursor: string | undefined;
}

/** A list of which `read` fetches one page; with an `interval` in milliseconds it is fetched again. */
export const pagesOf = <Row>(
  key: unknown[],
  read: (page: PageQuery, signal: AbortSignal) => Promise<{ data?: Page<Row> }>,
  interval?: number,
) =>
  infiniteQueryOptions({
    queryKey: key,
    refetchInterval: interval,
    queryFn: ({ pageParam, signal }) => dataOf(read({ limit: PAGE_SIZE, cursor: pageParam }, signal)),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last: Page<Row>, pages: Page<Row>[]) =>
      pages.length * PAGE_SIZE >= MAX_ROWS ? undefined : (last.next_cursor ?? undefined),
  });
