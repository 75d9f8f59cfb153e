// The list from which a message was opened: for previous, next and back.

let ids: string[] = [];

export function rememberList(shown: string[]): void {
  ids = shown;
}

/** The neighbours of a message in that list. */
export function neighbours(id: string): { previous: string | undefined; next: string | undefined } {
  const index = ids.indexOf(id);
  return index < 0 ? { previous: undefined, next: undefined } : { previous: ids[index - 1], next: ids[index + 1] };
}
