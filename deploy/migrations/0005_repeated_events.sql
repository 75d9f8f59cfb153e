-- What an attempt showed beside its outcome: its event is published from the row, so that a repeat is equal.
ALTER TABLE attempts
    ADD COLUMN scope         text,              -- of a declined, throttled or lost attempt: see sluice.model.outcome
    ADD COLUMN retry_after_s double precision,  -- of a throttled attempt: the pause before the next call, in seconds
    ADD COLUMN duration_ms   integer;           -- of the call, as the worker measured it; null: no worker saw it end
