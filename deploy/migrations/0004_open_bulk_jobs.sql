-- The oldest open job of each project is found without its other ones: a project may have thousands.
CREATE INDEX bulk_jobs_waiting_idx ON bulk_jobs (project_id, id) WHERE status IN ('EXPANDING', 'CANCELLING');
