// Above every screen: what is away, and which incident lasts.
import { useQuery } from "@tanstack/react-query";
import { Link, useLocation } from "@tanstack/react-router";
import { ApiError } from "../api/client";
import { openIncidentsQuery } from "../api/incidents";
import { statusQuery } from "../api/queries";
import { harmOf } from "../incidents/harm";
import { CHANNEL_NAMES } from "../message/wording";
import { Note } from "../parts/parts";
import { Moment } from "../parts/time";
import { bannersOf } from "./installation";
import { useRole, useView } from "./view";

export function Banners() {
  const { data, error } = useQuery(statusQuery(useView()));
  if (error instanceof ApiError && error.isOffline)
    return (
      <Note tone="bad" lead="No connection to the gateway. Trying again every 5 s.">
        <p>What is loaded stays readable.</p>
      </Note>
    );
  // The status itself needs no database; the session of who asks for it does.
  if (error instanceof ApiError && error.status === 503)
    return (
      <Note tone="bad" lead="PostgreSQL does not answer the gateway. Trying again every 5 s.">
        <p>Nothing is accepted, and nothing can be looked up. What is loaded stays readable.</p>
      </Note>
    );
  return (
    <>
      {data && bannersOf(data).map((banner) => (
        <Note key={banner.key} tone={banner.tone} lead={banner.lead}>
          {banner.text && <p>{banner.text}</p>}
        </Note>
      ))}
      <OpenIncidents />
    </>
  );
}

export function useOpenIncidents() {
  return useQuery({ ...openIncidentsQuery(useView()), enabled: useRole() !== "VIEWER" }).data ?? [];
}

function OpenIncidents() {
  const { project } = useView();
  const { pathname } = useLocation();
  const incidents = useOpenIncidents();
  if (pathname.startsWith(`/p/${project}/incidents`)) return null; // these screens say it themselves
  return incidents.map((incident) => {
    const harm = harmOf(incident);
    return (
      <Note
        key={incident.id}
        tone={harm.tone === "good" || harm.tone === "idle" ? "warn" : harm.tone}
        lead={<>{CHANNEL_NAMES[incident.channel]}: an incident since <Moment at={incident.opened_at} />. {harm.text}</>}
      >
        <p><Link to="/p/$project/incidents/$incidentId" params={{ project, incidentId: incident.id }}>Open the incident</Link></p>
      </Note>
    );
  });
}
