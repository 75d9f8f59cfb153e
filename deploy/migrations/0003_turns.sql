-- What waits in the record for its time and then for room on the conveyor, by whose turn it is. A delivery that goes
-- straight on to the conveyor is never in it.
CREATE INDEX deliveries_waiting ON deliveries (channel, (class <> 'urgent'), project_id, due_at)
 WHERE due_at IS NOT NULL AND published_at IS NULL AND NOT in_flight;
