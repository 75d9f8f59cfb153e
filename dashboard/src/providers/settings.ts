// The settings of a provider, with the limits of the API and what holds where one is not set.
import type { Provider } from "../api/queries";

type Name = keyof Provider["settings"];

interface Setting {
  name: Name;
  label: string;
  unset: string;
  hint: string;
  min: number;
  max: number;
  step: number | "any";
  channel?: Provider["channel"];
}

const SETTINGS: Setting[] = [
  { name: "concurrency", label: "Calls at once", unset: "as configured", hint: "In each worker. Empty: as the worker is configured.", min: 1, max: 1_000, step: 1 },
  { name: "calls_per_second", label: "Calls per second", unset: "any number", hint: "Of all workers together. Empty: any number.", min: 1, max: 10_000, step: 1 },
  { name: "segments_per_second", label: "Segments per second", unset: "any number", hint: "Of all workers together, instead of calls. Empty: any number.", min: 1, max: 10_000, step: 1, channel: "sms" },
  { name: "weight", label: "Weight", unset: "not set", hint: "Its share among providers of equal priority. Empty counts as 1 where another one has a weight.", min: 0, max: 1_000, step: "any" },
  { name: "price", label: "Price", unset: "not set", hint: "Of a message or SMS segment. Without weights, the cheaper of equal priority is tried first.", min: 0, max: 1_000_000, step: "any" },
];

/** Those that a provider of this channel may have. */
export const settingsOf = ({ channel }: Pick<Provider, "channel">) => SETTINGS.filter((setting) => (setting.channel ?? channel) === channel);

/** What a setting is, as text. */
export const settingText = (settings: Provider["settings"], { name, unset }: Setting) =>
  settings[name]?.toLocaleString("en", { maximumFractionDigits: 10 }) ?? unset;
