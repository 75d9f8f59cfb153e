// A list that comes by pages: its four states, and the next page at a button.
import type { InfiniteData, UseInfiniteQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import type { Page } from "../api/pages";
import { endingOf } from "./ending";
import { Empty, Panel, Skeleton } from "./panel";
import { Button } from "./parts";
import style from "./parts.module.css";

/** Shows `children` of all loaded rows; `empty` where there are none. */
export function Pages<Row>({ query, empty, children }: {
  query: UseInfiniteQueryResult<InfiniteData<Page<Row>>>;
  empty: ReactNode;
  children: (rows: Row[]) => ReactNode;
}) {
  return (
    <Panel query={query} skeleton={<div className={style.pad}><Skeleton /></div>}>
      {({ pages }) => {
        const rows = pages.flatMap((page) => page.data);
        if (rows.length === 0) return <Empty>{empty}</Empty>;
        return (
          <>
            {children(rows)}
            {query.hasNextPage && (
              <p className={style.more}>
                <Button onClick={() => void query.fetchNextPage()} disabled={query.isFetchingNextPage}>
                  {query.isFetchingNextPage ? "Loading more" : "Show more"}
                </Button>
              </p>
            )}
            {!query.hasNextPage && pages.at(-1)?.next_cursor && (
              <p className={`${style.more} small muted`}>{endingOf(rows.length, false)}</p>
            )}
          </>
        );
      }}
    </Panel>
  );
}
