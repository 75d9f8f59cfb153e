-- The time that a provider named when it throttled one recipient or sender: this delivery does not call it before.
ALTER TABLE attempts ADD COLUMN not_before timestamptz;
