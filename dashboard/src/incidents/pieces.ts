// The health of each provider over an incident, as pieces of time.
import type { IncidentDetail } from "../api/incidents";

export interface Piece {
  from: number;
  to: number;
  status: string;
}

export interface Strip {
  id: string;
  name: string;
  pieces: Piece[];
}

/** One strip for each provider of the incident, from its beginning to its end, or to `now` while it lasts. */
export function stripsOf(incident: Pick<IncidentDetail, "opened_at" | "resolved_at" | "providers" | "changes">, now: number): Strip[] {
  const from = Date.parse(incident.opened_at);
  const to = Math.max(incident.resolved_at ? Date.parse(incident.resolved_at) : now, from + 1);
  const ids = new Map(incident.providers.map((one) => [one.provider.id, one.provider.name]));
  for (const change of incident.changes) ids.set(change.provider.id, change.provider.name);
  return [...ids].map(([id, name]) => ({ id, name, pieces: piecesOf(id, incident, from, to) }));
}

function piecesOf(id: string, incident: Pick<IncidentDetail, "providers" | "changes">, from: number, to: number): Piece[] {
  const changes = [
    ...incident.providers.filter((one) => one.provider.id === id).map((one) => ({ at: Date.parse(one.since), status: "unhealthy" })),
    ...incident.changes.filter((one) => one.provider.id === id).map((one) => ({ at: Date.parse(one.at), status: one.status })),
  ].sort((one, other) => one.at - other.at);
  const pieces: Piece[] = [];
  let status = changes.findLast((change) => change.at <= from)?.status ?? "healthy";
  let begin = from;
  for (const change of changes) {
    if (change.at <= from || change.at >= to || change.status === status) continue;
    pieces.push({ from: begin, to: change.at, status });
    [begin, status] = [change.at, change.status];
  }
  return [...pieces, { from: begin, to, status }];
}
