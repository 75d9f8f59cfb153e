// The outages of the project's providers, newest first, each with what became of the messages.
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { type Incident, type IncidentFilters, incidentsQuery } from "../api/incidents";
import { useView } from "../frame/view";
import style from "../incidents/Incident.module.css";
import { harmOf } from "../incidents/harm";
import { IncidentTag } from "../incidents/IncidentTag";
import { lengthOf } from "../incidents/wording";
import { ChannelFilter } from "../message/ChannelFilter";
import { CHANNEL_NAMES } from "../message/wording";
import { Pages } from "../parts/pages";
import parts from "../parts/parts.module.css";
import { visible } from "../parts/text";
import { Moment, useNow } from "../parts/time";
import { useTitle } from "../parts/title";

export function Incidents() {
  useTitle("Incidents");
  const filters = useSearch({ from: "/p/$project/incidents", select: ({ status, channel }) => ({ status, channel }) });
  const query = useInfiniteQuery(incidentsQuery(useView(), filters));
  return (
    <>
      <div className="heading">
        <h1>Incidents</h1>
      </div>
      <Filters filters={filters} />
      <section className={parts.card} aria-label="Incidents">
        <Pages query={query} empty={<Nothing isFiltered={Boolean(filters.status ?? filters.channel)} />}>
          {(incidents) => <List incidents={incidents} />}
        </Pages>
      </section>
    </>
  );
}

function Filters({ filters }: { filters: IncidentFilters }) {
  const navigate = useNavigate({ from: "/p/$project/incidents" });
  const change = (some: IncidentFilters) => void navigate({ search: (last) => ({ ...last, ...some }), replace: true });
  return (
    <form className={parts.filters} role="search" aria-label="Filter the incidents">
      <label>
        State
        <select value={filters.status ?? ""} onChange={(event) => change({ status: (event.target.value || undefined) as IncidentFilters["status"] })}>
          <option value="">any</option>
          <option>open</option>
          <option>resolved</option>
        </select>
      </label>
      <ChannelFilter value={filters.channel} onChange={(channel) => change({ channel })} />
    </form>
  );
}

function Nothing({ isFiltered }: { isFiltered: boolean }) {
  return <p>{isFiltered ? "No incident fits these filters." : "There was no incident yet. One begins when a provider turns unhealthy, or when a channel has none left."}</p>;
}

function List({ incidents }: { incidents: Incident[] }) {
  const { project } = useView();
  const now = useNow(5_000);
  return (
    <table className={style.list}>
      <thead>
        <tr><th>State</th><th>Channel</th><th>Began</th><th>Lasted</th><th>Harm</th><th>Providers</th></tr>
      </thead>
      <tbody>
        {incidents.map((incident) => {
          const harm = harmOf(incident);
          return (
            <tr key={incident.id}>
              <td><IncidentTag incident={incident} /></td>
              <td>{CHANNEL_NAMES[incident.channel]}</td>
              <td className="num"><Moment at={incident.opened_at} /></td>
              <td className="num">{lengthOf(incident, now)}</td>
              <td>
                <Link to="/p/$project/incidents/$incidentId" params={{ project, incidentId: incident.id }}>{harm.text}</Link>
                <div className="small muted">{visible(incident.cause)}</div>
              </td>
              <td>{incident.providers.map((one) => visible(one.provider.name)).join(", ") || <span className="muted">none was left</span>}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}
