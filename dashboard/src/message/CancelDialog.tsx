import { Confirm } from "../parts/dialog";

export default function CancelDialog({ onCancel, onClose, error, isPending }: {
  onCancel: () => void;
  onClose: () => void;
  error: unknown;
  isPending: boolean;
}) {
  return (
    <Confirm title="Cancel the message?" act="Cancel the message" onAct={onCancel} onClose={onClose} error={error} isPending={isPending}>
      <p>No provider is called for it any more. A cancelled message cannot be queued again.</p>
    </Confirm>
  );
}
