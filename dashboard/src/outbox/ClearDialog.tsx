import { Confirm } from "../parts/dialog";

export default function ClearDialog({ onClear, onClose, error, isPending }: {
  onClear: () => void;
  onClose: () => void;
  error: unknown;
  isPending: boolean;
}) {
  return (
    <Confirm title="Clear the outbox?" act="Clear the outbox" onAct={onClear} onClose={onClose} error={error} isPending={isPending}>
      <p>Every captured message of the project is deleted, those of other people's tests included. The messages themselves and their history stay.</p>
    </Confirm>
  );
}
