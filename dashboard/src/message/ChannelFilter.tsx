// The channels in a field: as a filter of a list, or to choose one.
import type { Channel } from "../api/queries";
import { CHANNEL_NAMES } from "./wording";

export const ChannelOptions = () => Object.entries(CHANNEL_NAMES).map(([value, name]) => <option key={value} value={value}>{name}</option>);

/** `onChange`: with undefined for any channel. */
export function ChannelFilter({ value, onChange }: { value: Channel | undefined; onChange: (channel: Channel | undefined) => void }) {
  return (
    <label>
      Channel
      <select value={value ?? ""} onChange={(event) => onChange((event.target.value || undefined) as Channel | undefined)}>
        <option value="">any</option>
        <ChannelOptions />
      </select>
    </label>
  );
}
