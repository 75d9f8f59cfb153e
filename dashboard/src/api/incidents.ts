// Incidents, as the screens read them.
import { queryOptions } from "@tanstack/react-query";
import { apiOf, dataOf, type Schemas, type View } from "./client";
import { keyOf, pagesOf } from "./pages";
import type { Channel } from "./queries";

export type Incident = Schemas["IncidentResponse"];
export type IncidentDetail = Schemas["IncidentDetailResponse"];

export interface IncidentFilters {
  status?: Schemas["IncidentStatus"];
  channel?: Channel;
}

const POLL = 5_000;

export const incidentsQuery = (view: View, filters: IncidentFilters) =>
  pagesOf(
    keyOf(view, "incidents", filters),
    (page, signal) => apiOf(view).GET("/v1/incidents", { params: { query: { ...filters, ...page } }, signal }),
    POLL,
  );

/** Those that last: at most one for each channel. */
export const openIncidentsQuery = (view: View) =>
  queryOptions({
    queryKey: keyOf(view, "open-incidents"),
    queryFn: ({ signal }) => dataOf(apiOf(view).GET("/v1/incidents", { params: { query: { status: "open" } }, signal })),
    select: (page) => page.data,
    refetchInterval: POLL,
  });

export const incidentQuery = (view: View, id: string) =>
  queryOptions({
    queryKey: keyOf(view, "incident", id),
    queryFn: ({ signal }) =>
      dataOf(apiOf(view).GET("/v1/incidents/{incident_id}", { params: { path: { incident_id: id } }, signal })),
    refetchInterval: POLL,
  });
