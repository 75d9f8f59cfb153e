// Points in time, absolute with their zone and relative beside it.
import { useEffect, useState } from "react";

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-CA", { year: "numeric", month: "2-digit", day: "2-digit" });
const zoned = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" });

/** "UTC", "CET": the zone in which all times are shown. */
export const ZONE = zoned.formatToParts(new Date()).find((part) => part.type === "timeZoneName")?.value ?? "local time";

/** "10:00:08"; with `fraction`: "10:00:08.31". */
export function clockOf(time: number, fraction = false): string {
  const hundredths = String(Math.floor((time % 1_000) / 10)).padStart(2, "0");
  return fraction ? `${clock.format(time)}.${hundredths}` : clock.format(time);
}

export const dayOf = (time: number) => day.format(time);

/** "12 s ago", "3 min ago", "in 24 s". */
export function relative(time: number, now: number): string {
  const seconds = Math.round((now - time) / 1_000);
  const size = Math.abs(seconds);
  const text =
    size < 60 ? `${size} s` : size < 3_600 ? `${Math.floor(size / 60)} min` : size < 172_800 ? `${Math.floor(size / 3_600)} h` : `${Math.floor(size / 86_400)} days`;
  return seconds >= 0 ? `${text} ago` : `in ${text}`;
}

/** The current time, again every `interval` milliseconds while the tab is visible. */
export function useNow(interval: number): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || setNow(Date.now()), interval);
    return () => clearInterval(timer);
  }, [interval]);
  return now;
}

/** A moment: today only the clock, otherwise with its day; how long ago as the tooltip. */
export function Moment({ at, full = false }: { at: string; full?: boolean }) {
  const time = Date.parse(at);
  const isToday = dayOf(time) === dayOf(Date.now());
  const text = full ? `${dayOf(time)} ${clockOf(time)} ${ZONE}` : isToday ? clockOf(time) : `${dayOf(time)} ${clockOf(time)}`;
  return (
    <time dateTime={at} title={`${dayOf(time)} ${clockOf(time)} ${ZONE}, ${relative(time, Date.now())}`}>
      {text}
    </time>
  );
}

export function Ago({ at }: { at: string }) {
  const now = useNow(1_000);
  return <time dateTime={at}>{relative(Date.parse(at), now)}</time>;
}
