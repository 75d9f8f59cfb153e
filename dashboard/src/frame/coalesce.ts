// Work that many events ask for, done seldom.

/** After a piece of work comes a pause of so many times its length. */
const PAUSE = 4;

/** Calls `work` with what was added: at most once in `interval` milliseconds, never before the last call has ended, and for a fifth of the time. */
export function coalesce<Item>(work: (items: Item[]) => Promise<unknown>, interval: number) {
  const added = new Set<Item>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let earliest = 0;
  const schedule = () => {
    timer ??= setTimeout(() => void run(), Math.max(interval, earliest - Date.now()));
  };
  const run = async () => {
    const began = Date.now();
    const items = [...added];
    added.clear();
    await work(items);
    earliest = Date.now() + PAUSE * (Date.now() - began);
    timer = undefined;
    if (added.size > 0) schedule();
  };
  return {
    add: (item: Item) => {
      added.add(item);
      schedule();
    },
    stop: () => {
      added.clear();
      clearTimeout(timer);
    },
  };
}
