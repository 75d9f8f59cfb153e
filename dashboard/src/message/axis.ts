// The time axis of a timeline: time to pixels, where idle stretches are cut out.

export interface Cut {
  from: number;
  to: number;
  x: number;
  width: number;
}

export interface Tick {
  x: number;
  text: string;
}

export interface Axis {
  x(time: number): number;
  cuts: Cut[];
  ticks: Tick[];
}

interface Span {
  from: number;
  to: number;
}

/** A stretch without calls and receipts that takes more than this share of the whole is cut. */
const LONGEST_IDLE = 0.2;
/** A shorter one, in milliseconds, is never cut. */
const SHORTEST_CUT = 1_000;
const STEPS = [10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5, 72e5, 216e5, 864e5];
/** Pixels between the middles of two labels, so that none covers another. A cut is as wide: what follows it begins with one. */
const CLOSEST_LABELS = 76;
const CUT_WIDTH = CLOSEST_LABELS;

/** An axis over one `busy` span or more (a moment is a span of no length), from the pixel `left` to `right`. */
export function makeAxis(busy: Span[], left: number, right: number, clock: (time: number, fraction: boolean) => string): Axis {
  const pieces = keptPieces(busy);
  const kept = pieces.reduce((sum, piece) => sum + piece.to - piece.from, 0);
  const scale = (right - left - CUT_WIDTH * (pieces.length - 1)) / Math.max(kept, 1);
  const cuts: Cut[] = [];
  const starts: number[] = [];
  let x = left;
  pieces.forEach((piece, index) => {
    const before = pieces[index - 1];
    if (before) {
      cuts.push({ from: before.to, to: piece.from, x, width: CUT_WIDTH });
      x += CUT_WIDTH;
    }
    starts.push(x);
    x += (piece.to - piece.from) * scale;
  });
  const position = (time: number) => {
    const index = Math.max(0, pieces.findLastIndex((piece) => time >= piece.from));
    const piece = pieces[index]!;
    return starts[index]! + (Math.min(Math.max(time, piece.from), piece.to) - piece.from) * scale;
  };
  return { x: position, cuts, ticks: ticksOf(pieces, starts, scale, clock) };
}

/** The busy spans with a margin around them; neighbours are joined unless a long idle stretch is between. */
function keptPieces(busy: Span[]): Span[] {
  const ordered = [...busy].sort((one, other) => one.from - other.from);
  const begin = ordered[0]?.from ?? 0;
  const whole = Math.max(...ordered.map((span) => span.to), begin + 1) - begin;
  const pieces: Span[] = [];
  for (const span of ordered) {
    const last = pieces.at(-1);
    if (last && span.from - last.to <= Math.max(whole * LONGEST_IDLE, SHORTEST_CUT)) last.to = Math.max(last.to, span.to);
    else pieces.push({ ...span });
  }
  const kept = pieces.reduce((sum, piece) => sum + piece.to - piece.from, 0);
  const margin = Math.max(kept * 0.12, 5);
  return pieces.map((piece, index) => {
    const next = pieces[index + 1];
    const before = pieces[index - 1];
    return {
      from: before ? Math.max(piece.from - margin, (before.to + piece.from) / 2) : piece.from,
      to: next ? Math.min(piece.to + margin, (piece.to + next.from) / 2) : piece.to + margin,
    };
  });
}

function ticksOf(pieces: Span[], starts: number[], scale: number, clock: (time: number, fraction: boolean) => string): Tick[] {
  const step = STEPS.find((one) => one * scale >= CLOSEST_LABELS) ?? STEPS.at(-1)!;
  return pieces.flatMap((piece, index) => {
    const x = starts[index]!;
    const ticks = [{ x, text: clock(piece.from, step < 1_000) }];
    const end = Math.min(x + (piece.to - piece.from) * scale, (starts[index + 1] ?? Infinity) - CLOSEST_LABELS);
    for (let offset = step; x + offset * scale <= end; offset += step) ticks.push({ x: x + offset * scale, text: `+${duration(offset)}` });
    return ticks;
  });
}

/** A duration in the unit that reads best: "240 ms", "9.4 s", "7 min", "3 h", "2 days". */
export function duration(milliseconds: number): string {
  const value = Math.abs(milliseconds);
  if (value < 1_000) return `${Math.round(value)} ms`;
  if (value < 59_500) return `${trim(value / 1_000)} s`;
  if (value < 3_570_000) return `${trim(value / 60_000, 10)} min`;
  if (value < 86_400_000 * 2) return `${trim(value / 3_600_000)} h`;
  return `${trim(value / 86_400_000)} days`;
}

function trim(value: number, whole = 20): string {
  return String(value >= whole ? Math.round(value) : Math.round(value * 10) / 10);
}
