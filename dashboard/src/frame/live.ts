// What changes while a view is open: the event stream where it works, otherwise polling.
import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { createContext, useContext, useEffect, useState } from "react";
import type { View } from "../api/client";
import { keyOf } from "../api/pages";
import { coalesce } from "./coalesce";

export interface Live {
  kind: "connecting" | "live" | "polling" | "stopped";
  /** When the last event, answer or connection came. */
  at: number;
}

const TYPES = [
  "accepted", "sending", "attempt_failed", "postponed", "sent", "failed", "expired", "cancelled", "unconfirmed",
  "delivered", "bounced", "soft_bounce", "complained", "deferred", "opened", "clicked", "read", "reset",
];
const COALESCE = 1_000;
const POLL = 10_000;
const RECONNECT = 60_000;
const BREAKS = 2;

const LiveContext = createContext<Live>({ kind: "stopped", at: 0 });
export const LiveProvider = LiveContext.Provider;
export const useLive = () => useContext(LiveContext);

/** One stream per visible tab. An event names a message; what is shown of it is fetched again, at most once a second and for a fifth of the time. */
export function useLiveView(view: View): Live {
  const queryClient = useQueryClient();
  const [live, setLive] = useState<Live>({ kind: "connecting", at: Date.now() });
  useEffect(() => {
    let connection = connect(view, queryClient, setLive);
    const onVisibility = () => {
      connection();
      if (document.hidden) setLive((last) => ({ ...last, kind: "stopped" }));
      else {
        void refresh(view, queryClient, null);
        connection = connect(view, queryClient, setLive);
      }
    };
    document.addEventListener("visibilitychange", onVisibility);
    return () => {
      document.removeEventListener("visibilitychange", onVisibility);
      connection();
    };
  }, [view, queryClient]);
  return live;
}

function connect(view: View, queryClient: QueryClient, report: (live: Live) => void): () => void {
  const query = new URLSearchParams({ project: view.project, mode: view.mode });
  const changed = coalesce<string>((messages) => refresh(view, queryClient, messages), COALESCE);
  let breaks = 0;
  let stream: EventSource | null = null;
  let poll: ReturnType<typeof setInterval> | undefined;

  const onEvent = (event: MessageEvent<string>) => {
    breaks = 0;
    report({ kind: "live", at: Date.now() });
    if (event.type === "reset") void refresh(view, queryClient, null); // some events are missing
    else changed.add((JSON.parse(event.data) as { message_id: string }).message_id);
  };
  const open = () => {
    stream = new EventSource(`/v1/events/stream?${query}`);
    stream.onopen = () => {
      clearInterval(poll);
      report({ kind: "live", at: Date.now() });
    };
    stream.onerror = () => {
      breaks += 1;
      if (breaks < BREAKS && stream?.readyState !== EventSource.CLOSED) return;
      stream?.close();
      report({ kind: "polling", at: Date.now() });
      clearInterval(poll);
      const began = Date.now();
      poll = setInterval(() => {
        void refresh(view, queryClient, null);
        report({ kind: "polling", at: Date.now() });
        if (Date.now() - began < RECONNECT) return;
        clearInterval(poll);
        open();
      }, POLL);
    };
    for (const type of TYPES) stream.addEventListener(type, onEvent as EventListener);
  };
  open();
  return () => {
    stream?.close();
    changed.stop();
    clearInterval(poll);
  };
}

/** Fetch again what is shown of these messages; of everything without a list. */
function refresh(view: View, queryClient: QueryClient, messages: string[] | null): Promise<unknown> {
  if (messages === null) return queryClient.invalidateQueries({ queryKey: keyOf(view) });
  const keys = [keyOf(view, "messages"), ...messages.map((id) => keyOf(view, "message", id))];
  return Promise.all(keys.map((queryKey) => queryClient.invalidateQueries({ queryKey })));
}
