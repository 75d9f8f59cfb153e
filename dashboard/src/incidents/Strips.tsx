// The health of the providers over an incident as strips; the list below says the same.
import type { IncidentDetail } from "../api/incidents";
import { duration } from "../message/axis";
import type { Tone } from "../message/wording";
import { visible } from "../parts/text";
import { clockOf } from "../parts/time";
import style from "./Incident.module.css";
import { stripsOf } from "./pieces";

const TONES: Record<string, Tone> = { healthy: "good", degraded: "warn", unhealthy: "bad" };
/** Beside the colour: how high a piece is. */
const HEIGHTS: Record<string, number> = { healthy: 6, degraded: 11, unhealthy: 18 };
const WIDTH = 1_000;
const ROW = 18;

export function Strips({ incident, now }: { incident: IncidentDetail; now: number }) {
  const strips = stripsOf(incident, now);
  const from = Date.parse(incident.opened_at);
  const to = strips[0]?.pieces.at(-1)?.to ?? now;
  const x = (time: number) => ((time - from) / (to - from)) * WIDTH;
  return (
    <div className="stack">
      {strips.map((strip) => (
        <div key={strip.id} className={style.strip}>
          <b>{visible(strip.name)}</b>
          <svg viewBox={`0 0 ${WIDTH} ${ROW}`} preserveAspectRatio="none" role="img" aria-label={strip.pieces.map((piece) => `${piece.status} for ${duration(piece.to - piece.from)}`).join(", ")}>
            {strip.pieces.map((piece) => {
              const height = HEIGHTS[piece.status] ?? ROW;
              return (
                <rect
                  key={piece.from}
                  x={x(piece.from)}
                  y={ROW - height}
                  width={Math.max(x(piece.to) - x(piece.from), 2)}
                  height={height}
                  className={`fill-${TONES[piece.status] ?? "idle"}`}
                />
              );
            })}
          </svg>
        </div>
      ))}
      <div className={`${style.stripEnds} small muted num`}>
        <span>{clockOf(from)}</span>
        <span>{incident.resolved_at ? clockOf(to) : "now"}</span>
      </div>
    </div>
  );
}
