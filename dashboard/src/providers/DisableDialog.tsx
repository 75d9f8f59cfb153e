import type { Provider } from "../api/queries";
import { Confirm } from "../parts/dialog";
import { visible } from "../parts/text";
import { useEnable } from "./enable";

export default function DisableDialog({ provider, onClose }: { provider: Provider; onClose: () => void }) {
  const enable = useEnable(provider);
  const name = visible(provider.name);
  return (
    <Confirm
      title={`Disable ${name}?`}
      act={`Disable ${name}`}
      onAct={() => enable.mutate(false, { onSuccess: onClose })}
      onClose={onClose}
      error={enable.error}
      isPending={enable.isPending}
    >
      <p>No new message goes to it, from the next second on. Calls under way end as they end, and receipts still count.</p>
    </Confirm>
  );
}
