import type { Incident } from "../api/incidents";
import { Tag } from "../parts/parts";

export const IncidentTag = ({ incident }: { incident: Pick<Incident, "status"> }) => (
  <Tag tone={incident.status === "open" ? "bad" : "good"}>{incident.status === "open" ? "Open" : "Resolved"}</Tag>
);
