-- Deletes up to at_most addresses and devices of deleted projects, which a program without the check of the project has
-- written after the deletion; returns their number. With the rights of the owner, like the other functions of retention.
CREATE FUNCTION delete_of_deleted_projects(at_most integer)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    total integer;
BEGIN
    WITH addresses AS (
        DELETE FROM suppressions WHERE id IN (
            SELECT s.id FROM projects p JOIN suppressions s ON s.project_id = p.id
             WHERE p.deleted_at IS NOT NULL LIMIT at_most)
        RETURNING 1
    ), tokens AS (
        DELETE FROM devices WHERE (project_id, token_digest) IN (
            SELECT d.project_id, d.token_digest FROM projects p JOIN devices d ON d.project_id = p.id
             WHERE p.deleted_at IS NOT NULL LIMIT at_most)
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM addresses) + (SELECT count(*) FROM tokens) INTO total;
    RETURN total;
END
$$;
REVOKE ALL ON FUNCTION delete_of_deleted_projects FROM PUBLIC;
