// One incident: whom it hurt, how it went, what may be done now.
import { type QueryKey, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import type { SyntheticEvent } from "react";
import { apiOf, dataOf } from "../api/client";
import { type IncidentDetail, incidentQuery } from "../api/incidents";
import { type Provider, providersQuery } from "../api/queries";
import { useRole, useView } from "../frame/view";
import style from "../incidents/Incident.module.css";
import { harmOf } from "../incidents/harm";
import { IncidentTag } from "../incidents/IncidentTag";
import { Strips } from "../incidents/Strips";
import { actorOf, courseOf, type Figure, figuresOf, lengthOf, reportOf, titleOf } from "../incidents/wording";
import { CHANNEL_WORDS } from "../message/wording";
import { ErrorNote, Panel, Skeleton } from "../parts/panel";
import { Button, Card, CopyButton, Note, Shape } from "../parts/parts";
import { percent } from "../parts/percent";
import { visible } from "../parts/text";
import { Ago, clockOf, Moment, useNow } from "../parts/time";
import { useTitle } from "../parts/title";
import { ProbeTime } from "../providers/health";

export function IncidentScreen() {
  const { project, incidentId } = useParams({ from: "/p/$project/incidents/$incidentId" });
  const query = useQuery(incidentQuery(useView(), incidentId));
  return (
    <>
      <nav className="small" aria-label="Place">
        <Link to="/p/$project/incidents" params={{ project }}>Incidents</Link>
      </nav>
      {query.error && !query.data && <div className="heading"><h1>Incident {incidentId}</h1></div>}
      <Panel query={query} skeleton={<Skeleton lines={6} height="4rem" />}>
        {(incident) => <Shown incident={incident} />}
      </Panel>
    </>
  );
}

function Shown({ incident }: { incident: IncidentDetail }) {
  const now = useNow(1_000);
  useTitle(titleOf(incident));
  const harm = harmOf(incident);
  const { numbers, acknowledged } = incident;
  return (
    <>
      <div className="heading">
        <div className="row">
          <h1>Incident of {CHANNEL_WORDS[incident.channel]}</h1>
          <IncidentTag incident={incident} />
          <span className="sub">
            {incident.resolved_at ? "began" : "since"} <Moment at={incident.opened_at} full />, {incident.resolved_at ? "lasted" : "for"} {lengthOf(incident, now)}
          </span>
        </div>
        <CopyButton kind="" label="Copy as report" text={() => reportOf(incident, Date.now())} />
      </div>
      <Note tone={harm.tone} lead={harm.text}>
        <p>
          Cause: {visible(incident.cause)}. {numbers.counted_at && <>Counted at <Moment at={numbers.counted_at} />.</>}
          {acknowledged && <> {actorOf(acknowledged.actor)} has looked after it since <Moment at={acknowledged.at} />.</>}
        </p>
      </Note>
      <section className={style.figures} aria-label="Numbers">
        {figuresOf(numbers).map((figure) => <FigureCard key={figure.name} figure={figure} incident={incident} />)}
      </section>
      <div className="split">
        <div className="stack stack-wide">
          <Card title="Health of the providers" aside="The higher, the worse">
            <Strips incident={incident} now={now} />
          </Card>
          <Course incident={incident} />
        </div>
        <div className="stack stack-wide">
          <Acts incident={incident} />
          <Notes incident={incident} />
        </div>
      </div>
    </>
  );
}

function FigureCard({ figure, incident }: { figure: Figure; incident: IncidentDetail }) {
  const { project } = useView();
  return (
    <div className={style.figure}>
      <span className="sub">{figure.name}</span>
      <b className="num"><Shape tone={figure.tone} />{figure.value.toLocaleString("en")}</b>
      <span className="small muted">{figure.meaning}</span>
      {figure.value > 0 && (
        <span className="row small">
          {figure.lists.map(([name, filter]) => (
            <Link key={name} to="/p/$project/messages" params={{ project }} search={{ ...filter, incident: incident.id }}>{name}</Link>
          ))}
        </span>
      )}
    </div>
  );
}

function Course({ incident }: { incident: IncidentDetail }) {
  return (
    <Card title="What happened">
      <ol className={style.course}>
        {courseOf(incident).map((entry, index) => (
          <li key={index}>
            <time className="num small muted" dateTime={entry.at}>{clockOf(Date.parse(entry.at))}</time>
            <span><Shape tone={entry.tone} /></span>
            <span>{entry.what}</span>
          </li>
        ))}
      </ol>
    </Card>
  );
}

/** A change of the incident; what is shown of it is read again. */
function useChange<Input>(change: (input: Input) => Promise<unknown>, keys: QueryKey[]) {
  const queryClient = useQueryClient();
  return useMutation({
    mutationFn: change,
    onSuccess: () => Promise.all(keys.map((queryKey) => queryClient.invalidateQueries({ queryKey }))),
  });
}

function Acts({ incident }: { incident: IncidentDetail }) {
  const view = useView();
  const mayWrite = useRole() !== "VIEWER";
  const { data: providers = [] } = useQuery(providersQuery(view));
  const acknowledge = useChange(
    () => dataOf(apiOf(view).POST("/v1/incidents/{incident_id}/acknowledge", { params: { path: { incident_id: incident.id } } })),
    [incidentQuery(view, incident.id).queryKey],
  );
  if (!mayWrite || incident.status !== "open") return null;
  const away = incident.providers.filter((one) => one.ended_at === null).flatMap((one) => providers.find((each) => each.id === one.provider.id) ?? []);
  return (
    <Card title="You may now">
      <ul className={style.acts}>
        {!incident.acknowledged && (
          <li>
            <Button kind="main" onClick={() => acknowledge.mutate(undefined)} disabled={acknowledge.isPending}>Look after it</Button>
            <span className="small muted">The others of the project see that you do.</span>
            {acknowledge.error && <ErrorNote error={acknowledge.error} />}
          </li>
        )}
        {away.map((provider) => <ProviderActs key={provider.id} provider={provider} />)}
        <li>
          <b>Leave it.</b>
          <span className="small muted">
            Messages take the next provider meanwhile, or wait. A provider is probed with one real message; after enough good ones its share grows, and the incident ends at its full share.
          </span>
        </li>
      </ul>
    </Card>
  );
}

function ProviderActs({ provider }: { provider: Provider }) {
  const view = useView();
  const probe = useChange(
    () => dataOf(apiOf(view).POST("/v1/providers/{provider_id}/probe", { params: { path: { provider_id: provider.id } } })),
    [providersQuery(view).queryKey],
  );
  const { health } = provider;
  const name = visible(provider.name);
  return (
    <li>
      {health.status !== "healthy" && <Button onClick={() => probe.mutate(undefined)} disabled={probe.isPending}>Probe {name} with the next message</Button>}
      <span className="small muted">
        {health.ramp
          ? <>{name} has {percent(health.ramp.share)} of its share, all of it <Ago at={health.ramp.full_share_at} />.</>
          : health.suspended_until
            ? <>No attempt at {name} before <Moment at={health.suspended_until} />.</>
            : health.probe_at && <>The next probe of {name} is due <ProbeTime at={health.probe_at} />.</>}
      </span>
      <Link to="/p/$project/providers/$channel" params={{ project: view.project, channel: provider.channel }} search={{ open: provider.id }}>
        Move or disable {name}
      </Link>
      {probe.error && <ErrorNote error={probe.error} />}
    </li>
  );
}

function Notes({ incident }: { incident: IncidentDetail }) {
  const view = useView();
  const mayWrite = useRole() !== "VIEWER";
  const add = useChange(
    (text: string) => dataOf(apiOf(view).POST("/v1/incidents/{incident_id}/notes", { params: { path: { incident_id: incident.id } }, body: { text } })),
    [incidentQuery(view, incident.id).queryKey],
  );
  const submit = (event: SyntheticEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    const text = String(new FormData(form).get("text")).trim();
    if (text) add.mutate(text, { onSuccess: () => form.reset() });
  };
  return (
    <Card title="Notes" aside={incident.notes.length > 0 ? incident.notes.length : undefined}>
      {incident.notes.length === 0 && <p className="muted">None yet.</p>}
      <ul className="stack">
        {incident.notes.map((note) => (
          <li key={note.id}>
            <div className="small muted"><b>{actorOf(note.actor)}</b>, <Moment at={note.created_at} /></div>
            {note.text.split("\n").map((line, index) => <p key={index}>{visible(line)}</p>)}
          </li>
        ))}
      </ul>
      {mayWrite && (
        <form className={style.note} onSubmit={submit}>
          <label className="visually-hidden" htmlFor="note">A note</label>
          <textarea id="note" name="text" maxLength={10_000} required placeholder="What was seen, done, agreed" />
          <Button type="submit" disabled={add.isPending}>Add the note</Button>
        </form>
      )}
      {add.error && <ErrorNote error={add.error} />}
    </Card>
  );
}
