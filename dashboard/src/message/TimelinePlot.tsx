// The timeline of one delivery as a picture; the lists below it say the same.
import { useId } from "react";
import type { Tone } from "./wording";
import { visible } from "../parts/text";
import { clockOf, useNow } from "../parts/time";
import { type Axis, duration, makeAxis } from "./axis";
import type { Attempt, DeliveryTimeline, Receipt, Wait } from "./timeline";
import style from "./TimelinePlot.module.css";
import { nameOf, ordinal, outcomeTone, outcomeWord, receiptTone, receiptWord } from "./wording";

const WIDTH = 940;
const LEFT = 160;
const RIGHT = 890; // half a label is beside it
const ROW = 52;
const TOP = 28;
const CUT_LABEL = 18;
const NARROWEST_BAR = 5;

export function TimelinePlot({ delivery }: { delivery: DeliveryTimeline }) {
  const isRunning = delivery.attempts.some((attempt) => attempt.to === null) || delivery.waits.some((wait) => wait.to === null);
  const now = useNow(isRunning ? 1_000 : 3_600_000);
  const id = useId();
  const axis = axisOf(delivery, now);
  const receiptsTop = TOP + delivery.attempts.length * ROW;
  const levels = levelsOf(delivery.receipts, axis);
  const lowest = Math.max(0, ...levels);
  const bottom = receiptsTop + (delivery.receipts.length > 0 ? 54 + lowest * 32 : 2);
  const height = bottom + (axis.cuts.length > 0 ? CUT_LABEL : 6);
  return (
    <svg className={style.plot} viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-labelledby={`${id}t ${id}d`}>
      <title id={`${id}t`}>Attempts and receipts over time</title>
      <desc id={`${id}d`}>{describe(delivery)}</desc>
      <Grid axis={axis} bottom={bottom} />
      {delivery.attempts.map((attempt, index) => (
        <AttemptRow key={attempt.number} attempt={attempt} axis={axis} y={TOP + index * ROW} now={now} isFirst={index === 0} />
      ))}
      {delivery.waits.map((wait) => (
        <WaitLine key={wait.from} wait={wait} delivery={delivery} axis={axis} now={now} />
      ))}
      {delivery.receipts.length > 0 && (
        <g>
          <text x="0" y={receiptsTop + 22} className={style.name}>
            Receipts
          </text>
          <line x1={LEFT} x2={RIGHT} y1={receiptsTop + 18} y2={receiptsTop + 18} className={style.grid} />
          {delivery.receipts.map((receipt, index) => (
            <ReceiptMark key={receipt.id} receipt={receipt} delivery={delivery} axis={axis} y={receiptsTop + 18} level={levels[index]!} />
          ))}
        </g>
      )}
    </svg>
  );
}

function axisOf(delivery: DeliveryTimeline, now: number): Axis {
  const moment = (at: number) => ({ from: at, to: at });
  const busy = [
    moment(delivery.acceptedAt),
    ...delivery.attempts.map((attempt) => ({ from: attempt.from, to: attempt.to ?? now })),
    ...delivery.receipts.map((receipt) => moment(receipt.at)),
    ...(delivery.waits.some((wait) => wait.to === null) ? [moment(now)] : []),
  ];
  return makeAxis(busy, LEFT, RIGHT, clockOf);
}

function Grid({ axis, bottom }: { axis: Axis; bottom: number }) {
  return (
    <g>
      {axis.cuts.map((cut) => (
        <g key={cut.x}>
          <rect x={cut.x} y="20" width={cut.width} height={bottom - 20} className={style.cut} />
          <text x={cut.x + cut.width / 2} y={bottom + 13} textAnchor="middle" className={style.quiet}>
            ≈ {duration(cut.to - cut.from)}
          </text>
        </g>
      ))}
      {axis.ticks.map((tick) => (
        <g key={tick.x}>
          <line x1={tick.x} x2={tick.x} y1="22" y2={bottom} className={style.grid} />
          <text x={tick.x} y="14" textAnchor="middle" className={style.quiet}>
            {tick.text}
          </text>
        </g>
      ))}
    </g>
  );
}

function AttemptRow({ attempt, axis, y, now, isFirst }: { attempt: Attempt; axis: Axis; y: number; now: number; isFirst: boolean }) {
  const tone = outcomeTone(attempt);
  const [x, end] = [axis.x(attempt.from), axis.x(attempt.to ?? now)];
  const width = Math.max(end - x, NARROWEST_BAR);
  const isOpen = attempt.outcome === "unknown" || attempt.outcome === "running";
  const text = `${outcomeWord(attempt).toLowerCase()}, ${duration((attempt.to ?? now) - attempt.from)}`;
  const isRightmost = x + width > RIGHT - 150;
  return (
    <g>
      <text x="0" y={y + 17} className={style.name}>
        {attempt.number} {shorten(visible(nameOf(attempt)))}
      </text>
      <text x="0" y={y + 33} className={style.quiet}>
        {isFirst ? "first by priority" : attempt.routing ? `${ordinal(attempt.number)} choice` : ""}
      </text>
      <rect
        x={x}
        y={y + 6}
        width={width}
        height="20"
        rx="3"
        className={isOpen ? `${style.bar} ${style.dashed} stroke-${tone} ${attempt.outcome === "running" ? style.running : ""}` : `fill-${tone}`}
      />
      <text x={x + width + (isRightmost ? 0 : 6)} y={y + 42} textAnchor={isRightmost ? "end" : "start"} style={{ fill: `var(--${tone})` }}>
        {text}
      </text>
    </g>
  );
}

function WaitLine({ wait, delivery, axis, now }: { wait: Wait; delivery: DeliveryTimeline; axis: Axis; now: number }) {
  const index = delivery.attempts.findIndex((attempt) => attempt.number === wait.after);
  const y = TOP + Math.max(index, 0) * ROW + 16;
  const [x1, x2] = [axis.x(wait.from), axis.x(wait.to ?? now)];
  const hasNext = index >= 0 && index + 1 < delivery.attempts.length;
  return (
    <g className="stroke-idle">
      <line x1={x1} x2={x2} y1={y} y2={y} className={style.dashed} />
      {hasNext && <line x1={x2} x2={x2} y1={y} y2={y + ROW - 10} />}
      <text x={x1 + 8} y={y - 6} className={style.quiet} stroke="none">
        {visible(wait.text).slice(0, 60)}, {duration((wait.to ?? now) - wait.from)}
      </text>
    </g>
  );
}

function ReceiptMark({ receipt, delivery, axis, y, level }: {
  receipt: Receipt;
  delivery: DeliveryTimeline;
  axis: Axis;
  y: number;
  level: number;
}) {
  const tone = receiptTone(receipt);
  const x = axis.x(receipt.at);
  const index = delivery.attempts.findIndex((attempt) => attempt.number === receipt.attempt);
  const textY = y + 20 + level * 32;
  return (
    <g>
      {index >= 0 && <line x1={x} x2={x} y1={TOP + index * ROW + 26} y2={y} className={`${style.dashed} stroke-${tone}`} opacity=".6" />}
      <Mark tone={tone} x={x} y={y} />
      <text x={x} y={textY} textAnchor="middle" style={{ fill: `var(--${tone})` }}>
        {receiptWord(receipt)}
      </text>
      <text x={x} y={textY + 14} textAnchor="middle" className={style.quiet}>
        {receipt.attempt === null ? "" : `of attempt ${receipt.attempt}`}
      </text>
    </g>
  );
}

function Mark({ tone, x, y }: { tone: Tone; x: number; y: number }) {
  const className = `fill-${tone}`;
  if (tone === "good") return <circle cx={x} cy={y} r="6" className={className} />;
  if (tone === "bad") return <rect x={x - 5.5} y={y - 5.5} width="11" height="11" className={className} />;
  if (tone === "warn") return <path d={`M${x} ${y - 7}l7 12h-14z`} className={className} />;
  return <path d={`M${x} ${y - 8}l8 8-8 8-8-8z`} className={className} />;
}

/** Labels of receipts that come close together go below each other. */
function levelsOf(receipts: Receipt[], axis: Axis): number[] {
  const ends: number[] = [];
  return receipts.map((receipt) => {
    const x = axis.x(receipt.at);
    const free = ends.findIndex((end) => x - 46 > end);
    const level = free < 0 ? ends.length : free;
    ends[level] = x + 46;
    return level;
  });
}

const shorten = (name: string) => (name.length > 20 ? `${name.slice(0, 19)}…` : name);

function describe(delivery: DeliveryTimeline): string {
  const since = (time: number) => duration(time - delivery.acceptedAt);
  const sentences = [
    ...delivery.attempts.map((attempt) =>
      `Attempt ${attempt.number} at ${nameOf(attempt)} began after ${since(attempt.from)}: ${outcomeWord(attempt).toLowerCase()}` +
      `${attempt.to === null ? "" : ` after ${since(attempt.to)}`}.`),
    ...delivery.receipts.map((receipt) => `After ${since(receipt.at)} a receipt came: ${receiptWord(receipt)}.`),
  ];
  return `${sentences.join(" ")} The lists below say the same.`;
}
