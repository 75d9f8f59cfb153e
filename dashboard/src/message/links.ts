// Where links lead, and how large files are, as text.

/** Where a link leads: the host that a browser would ask, or the scheme where it asks none. */
export function hostOf(link: string): string {
  try {
    const { host, protocol } = new URL(link);
    return host || protocol;
  } catch {
    return "no address";
  }
}

/** "812 B", "14 kB", "2.3 MB". */
export function size(bytes: number): string {
  if (bytes < 1_000) return `${bytes} B`;
  if (bytes < 999_500) return `${Math.round(bytes / 1_000)} kB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
