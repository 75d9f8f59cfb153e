// Plots over the intervals of a range. Each has a table with the same numbers beside it, which a screen reader reads.
import type { ReactNode } from "react";
import type { Tone } from "../message/wording";
import { Shape } from "../parts/parts";
import { clockOf, dayOf } from "../parts/time";
import style from "./Plot.module.css";
import { type Point, type Scale, ticksOf } from "./series";

const WIDTH = 480;
const HEIGHT = 180;
const LEFT = 70;
const BOTTOM = 22;
const TOP = 14;

export interface Series {
  name: string;
  tone: Tone;
  /** The dashes of a line, beside its colour. */
  dash?: string;
  of: (point: Point) => number | null;
}

interface Props {
  title: string;
  points: Point[];
  series: Series[];
  scale: Scale;
  isHourly: boolean;
}

const x = (points: Point[], index: number) => LEFT + ((WIDTH - LEFT) * index) / points.length;
const y = (value: number, end: number) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / end);

export const intervalText = (time: number, isHourly: boolean) => (isHourly ? `${dayOf(time)} ${clockOf(time).slice(0, 5)}` : dayOf(time));

/** Parts of a whole, on each other. */
export function Bars({ onPick, ...props }: Props & { onPick: (point: Point) => void }) {
  const { points, series, scale } = props;
  const end = scale.endOf(Math.max(...points.map((point) => series.reduce((sum, one) => sum + (one.of(point) ?? 0), 0))));
  const width = (WIDTH - LEFT) / points.length;
  return (
    <Frame {...props} end={end}>
      {points.map((point, index) => {
        let below = 0;
        return (
          <g key={point.from} className={style.pick} onClick={() => onPick(point)}>
            <rect x={x(points, index)} y={TOP} width={width} height={HEIGHT - TOP - BOTTOM} fill="transparent" />
            {series.map((one) => {
              const value = one.of(point) ?? 0;
              below += value;
              return value > 0 && (
                <rect
                  key={one.name}
                  className={`fill-${one.tone}`}
                  x={x(points, index) + width * 0.1}
                  y={y(below, end)}
                  width={width * 0.8}
                  height={y(below - value, end) - y(below, end)}
                />
              );
            })}
          </g>
        );
      })}
    </Frame>
  );
}

/** Values beside each other; a line is broken where there is none, and one value alone is a dot. `none`: what it means that there is no value. */
export function Lines({ none, ...props }: Props & { none: string }) {
  const { points, series, scale } = props;
  const values = points.flatMap((point) => series.map((one) => one.of(point)).filter((value) => value !== null));
  if (values.length === 0) return <p className="muted">{none}</p>;
  const end = scale.endOf(Math.max(...values));
  const half = (WIDTH - LEFT) / points.length / 2;
  return (
    <Frame {...props} end={end}>
      {series.map((one) => (
        <g key={one.name}>
          <path className={`${style.line} stroke-${one.tone}`} strokeDasharray={one.dash} d={pathOf(points, one, (index) => x(points, index) + half, end)} />
          {points.map((point, index) => {
            const value = one.of(point);
            return value !== null && <circle key={point.from} className={`fill-${one.tone}`} cx={x(points, index) + half} cy={y(value, end)} r="3" />;
          })}
        </g>
      ))}
    </Frame>
  );
}

function pathOf(points: Point[], series: Series, at: (index: number) => number, end: number): string {
  let isOn = false;
  const steps = points.map((point, index) => {
    const value = series.of(point);
    const step = value === null ? "" : `${isOn ? "L" : "M"}${at(index).toFixed(1)} ${y(value, end).toFixed(1)}`;
    isOn = value !== null;
    return step;
  });
  return steps.join("");
}

function Frame({ title, points, series, scale, isHourly, end, children }: Props & { end: number; children: ReactNode }) {
  const first = points[0];
  const middle = points[Math.floor(points.length / 2)];
  return (
    <figure className="stack">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} className={style.plot} role="img" aria-label={`${title}: the table below has the numbers`}>
        {ticksOf(end, scale).map((value) => (
          <g key={value}>
            <line className={style.grid} x1={LEFT} x2={WIDTH} y1={y(value, end)} y2={y(value, end)} />
            <text className={style.label} x={LEFT - 6} y={y(value, end) + 4} textAnchor="end">{scale.format(value)}</text>
          </g>
        ))}
        {children}
        {first && <text className={style.label} x={LEFT} y={HEIGHT - 4}>{intervalText(first.from, isHourly)}</text>}
        {middle && <text className={`${style.label} ${style.middle}`} x={LEFT + (WIDTH - LEFT) / 2} y={HEIGHT - 4} textAnchor="middle">{intervalText(middle.from, isHourly)}</text>}
        <text className={style.label} x={WIDTH} y={HEIGHT - 4} textAnchor="end">now</text>
      </svg>
      <figcaption className="row small sub">
        {series.map((one) => (
          <span key={one.name} className="legend">
            {one.dash === undefined ? <Shape tone={one.tone} /> : (
              <svg viewBox="0 0 24 4" className={style.sample} aria-hidden="true">
                <path className={`${style.line} stroke-${one.tone}`} strokeDasharray={one.dash} d="M0 2H24" />
              </svg>
            )}
            {one.name}
          </span>
        ))}
      </figcaption>
    </figure>
  );
}
