// Incidents and the state of the installation, as the screens read them.
import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { apiOf, dataOf, type Schemas, type View } from "./client";
import type { Channel } from "./queries";

export type Incident = Schemas["IncidentResponse"];
export type IncidentDetail = Schemas["IncidentDetailResponse"];
export type Status = Schemas["StatusResponse"];

export interface IncidentFilters {
  status?: Schemas["IncidentStatus"];
  channel?: Channel;
}

const PAGE = 50;
const POLL = 5_000;

export const incidentsQuery = (view: View, filters: IncidentFilters) =>
  infiniteQueryOptions({
    queryKey: [view.project, view.mode, "incidents", filters],
    queryFn: ({ pageParam, signal }) =>
      dataOf(apiOf(view).GET("/v1/incidents", { params: { query: { ...filters, limit: PAGE, cursor: pageParam } }, signal })),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next_cursor ?? undefined,
    refetchInterval: POLL,
  });

/** Those that last: at most one for each channel. */
export const openIncidentsQuery = (view: View) =>
  queryOptions({
    queryKey: [view.project, view.mode, "open-incidents"],
    queryFn: ({ signal }) => dataOf(apiOf(view).GET("/v1/incidents", { params: { query: { status: "open" } }, signal })),
    select: (page) => page.data,
    refetchInterval: POLL,
  });

export const incidentQuery = (view: View, id: string) =>
  queryOptions({
    queryKey: [view.project, view.mode, "incident", id],
    queryFn: ({ signal }) =>
      dataOf(apiOf(view).GET("/v1/incidents/{incident_id}", { params: { path: { incident_id: id } }, signal })),
    refetchInterval: POLL,
  });

export const statusQuery = (view: View) =>
  queryOptions({
    queryKey: [view.project, view.mode, "status"],
    queryFn: ({ signal }) => dataOf(apiOf(view).GET("/v1/status", { signal })),
    refetchInterval: POLL,
  });
