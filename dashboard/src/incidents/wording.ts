// What became of the messages of an incident, and what happened in which order.
import type { Incident, IncidentDetail } from "../api/incidents";
import type { MessageFilters } from "../api/queries";
import { duration } from "../message/axis";
import { CHANNEL_NAMES, type Tone } from "../message/wording";
import { visible } from "../parts/text";
import { clockOf, dayOf, ZONE } from "../parts/time";
import { harmOf } from "./harm";

type Numbers = Incident["numbers"];

export interface Figure {
  name: string;
  value: number;
  meaning: string;
  tone: Tone;
  /** The lists of messages that the number can be looked up in. */
  lists: [string, MessageFilters][];
}

/** The numbers of an incident, those that hurt first. */
export function figuresOf(numbers: Numbers): Figure[] {
  const tone = (value: number, bad: Tone): Tone => (value > 0 ? bad : "idle");
  return [
    {
      name: "Failed", value: numbers.failed, tone: tone(numbers.failed, "bad"), meaning: "FAILED or EXPIRED",
      lists: [["FAILED", { status: "FAILED" }], ["EXPIRED", { status: "EXPIRED" }]],
    },
    {
      name: "Not confirmed", value: numbers.unconfirmed, tone: tone(numbers.unconfirmed, "unsure"), meaning: "it is not known whether it was sent",
      lists: [["UNCONFIRMED", { status: "UNCONFIRMED" }]],
    },
    {
      name: "May have arrived twice", value: numbers.possible_duplicates, tone: tone(numbers.possible_duplicates, "unsure"),
      meaning: "an attempt without an answer was repeated", lists: [["Show them", { possible_duplicate: true }]],
    },
    {
      name: "Waiting", value: numbers.waiting, tone: tone(numbers.waiting, "warn"), meaning: "an attempt is due or in flight",
      lists: [["QUEUED", { status: "QUEUED" }], ["SENDING", { status: "SENDING" }]],
    },
    { name: "Late", value: numbers.late, tone: tone(numbers.late, "warn"), meaning: "accepted more than 5 s after it could go", lists: [] },
    {
      name: "Masked", value: numbers.masked, tone: tone(numbers.masked, "good"), meaning: "another provider accepted it",
      lists: [["Failed over", { failed_over: true }]],
    },
    { name: "Touched", value: numbers.touched, tone: "idle", meaning: "an attempt failed at one of its providers, or went elsewhere", lists: [["Show them", {}]] },
  ];
}

/** "4 min", of an open incident until `now`. */
export const lengthOf = (incident: Pick<Incident, "opened_at" | "resolved_at">, now: number) =>
  duration((incident.resolved_at ? Date.parse(incident.resolved_at) : now) - Date.parse(incident.opened_at));

export const actorOf = (actor: { kind: string; name: string | null }) => visible(actor.name ?? (actor.kind === "operator" ? "the command line" : "Sluice"));

export const titleOf = (incident: Pick<Incident, "channel" | "opened_at">) =>
  `${CHANNEL_NAMES[incident.channel]}, ${dayOf(Date.parse(incident.opened_at))} ${clockOf(Date.parse(incident.opened_at))}`;

const ENDINGS = { recovered: "has its full share again", disabled: "was disabled", removed: "was removed" };

export interface Entry {
  at: string;
  what: string;
  tone: Tone;
}

const TONES: Record<string, Tone> = { healthy: "good", degraded: "warn", unhealthy: "bad" };

/** What happened, in order: changes of health, acts of people, beginning and end. */
export function courseOf(incident: IncidentDetail): Entry[] {
  const entries: (Entry | null)[] = [
    { at: incident.opened_at, what: `The incident begins: ${visible(incident.cause)}`, tone: "bad" },
    ...incident.providers.map((one): Entry | null =>
      one.ended_at && one.ending ? { at: one.ended_at, what: `${visible(one.provider.name)} ${ENDINGS[one.ending]}`, tone: one.ending === "recovered" ? "good" : "idle" } : null),
    ...incident.changes.map((change): Entry => ({
      at: change.at,
      what: `${visible(change.provider.name)} is ${change.status}${change.reason ? `: ${visible(change.reason)}` : ""}`,
      tone: TONES[change.status] ?? "idle",
    })),
    incident.without_provider && { at: incident.without_provider.since, what: "No provider of the channel can be used: messages wait", tone: "bad" },
    incident.without_provider?.until ? { at: incident.without_provider.until, what: "A provider of the channel can be used again", tone: "good" } : null,
    incident.acknowledged && { at: incident.acknowledged.at, what: `${actorOf(incident.acknowledged.actor)} looks after it`, tone: "idle" },
    ...incident.notes.map((note): Entry => ({ at: note.created_at, what: `Note of ${actorOf(note.actor)}: ${visible(note.text.replaceAll(/\s+/g, " "))}`, tone: "idle" })),
    incident.resolved_at ? { at: incident.resolved_at, what: "The incident is resolved", tone: "good" } : null,
  ];
  return entries.filter((entry) => entry !== null).sort((one, other) => Date.parse(one.at) - Date.parse(other.at));
}

/** The incident as text for a ticket or a chat. */
export function reportOf(incident: IncidentDetail, now: number): string {
  const { numbers } = incident;
  const moment = (at: string) => `${dayOf(Date.parse(at))} ${clockOf(Date.parse(at))} ${ZONE}`;
  return [
    `${CHANNEL_NAMES[incident.channel]}: ${harmOf(incident).text}`,
    `${moment(incident.opened_at)} to ${incident.resolved_at ? moment(incident.resolved_at) : "now (it lasts)"}, ${lengthOf(incident, now)}. Cause: ${visible(incident.cause)}`,
    ...figuresOf(numbers).map((figure) => `${figure.name}: ${figure.value.toLocaleString("en")}`),
    ...courseOf(incident).map((entry) => `${moment(entry.at)} ${entry.what}`),
    incident.id,
  ].join("\n");
}
