-- Deliveries with several attempts, few among many: what failed over or may have arrived twice is one of them. For the list
-- alone, which repeats the condition in this form, as that of deliveries_state_idx.
CREATE INDEX deliveries_retried_idx ON deliveries (project_id, sandbox, message_id)
 WHERE (attempt_count <= 1) IS FALSE;
