// Whom an incident hurts, as a sentence.
import type { Incident } from "../api/incidents";
import { deliveries, type Tone } from "../message/wording";

const was = (number: number) => (number === 1 ? "was" : "were");

/** The worst thing that an incident has done to messages, as a sentence. */
export function harmOf({ numbers }: Pick<Incident, "numbers">): { tone: Tone; text: string } {
  if (numbers.failed > 0) return { tone: "bad", text: `${deliveries(numbers.failed)} failed.` };
  if (numbers.unconfirmed > 0)
    return { tone: "unsure", text: `It is not known whether ${deliveries(numbers.unconfirmed)} ${was(numbers.unconfirmed)} sent.` };
  if (numbers.possible_duplicates > 0) return { tone: "unsure", text: `${deliveries(numbers.possible_duplicates)} may have arrived twice. None failed.` };
  if (numbers.waiting > 0) return { tone: "warn", text: `${deliveries(numbers.waiting)} ${numbers.waiting === 1 ? "waits" : "wait"}. None has failed.` };
  if (numbers.late > 0) return { tone: "warn", text: `${deliveries(numbers.late)} ${was(numbers.late)} late. None failed.` };
  if (numbers.counted_at === null) return { tone: "idle", text: "What became of its messages is not counted yet." };
  if (numbers.touched === 0) return { tone: "good", text: "No message was touched." };
  return { tone: "good", text: `No message failed: another provider accepted ${deliveries(numbers.masked)}.` };
}
