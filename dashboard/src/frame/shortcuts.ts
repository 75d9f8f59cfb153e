// Single keys act where no text is being written; all of them can be switched off.
import { useEffect, useRef } from "react";
import { singleKeys } from "./preferences";

export const SHORTCUTS: [string, string][] = [
  ["/", "find an address, an id, a provider, a screen"],
  ["g o", "go to the overview"],
  ["g m", "go to the messages"],
  ["g p", "go to the providers"],
  ["g i", "go to the incidents"],
  ["g x", "go to the outbox"],
  ["g a, g t, g w", "go to the analytics, the templates, the webhooks"],
  ["j, k or ↓, ↑", "next and previous row"],
  ["Enter", "open the row"],
  ["[, ]", "previous and next message of the list"],
  ["f", "filter by the focused cell"],
  ["c", "copy the link of this view"],
  ["?", "show the keys"],
];

const SEQUENCE = 1_200;

/** Calls `keys[key]` for a pressed key, or for two in a row as "g m". */
export function useShortcuts(keys: Record<string, () => void>): void {
  const current = useRef(keys);
  current.current = keys;
  useEffect(() => {
    let first = { key: "", at: 0 };
    const onKey = (event: KeyboardEvent) => {
      if (!singleKeys() || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target)) return;
      const sequence = Date.now() - first.at < SEQUENCE ? `${first.key} ${event.key}` : "";
      first = { key: event.key, at: Date.now() };
      const act = current.current[sequence] ?? current.current[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
}

function isWriting(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.closest("input, textarea, select, [contenteditable], [role=dialog], [role=menu]") !== null;
}
