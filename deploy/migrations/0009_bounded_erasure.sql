-- The erasure in bounded steps. A program before this file calls erase_contents, which a later migration removes.

-- Erases the contents of settled messages of a project in a range of ids, with the payloads of their receipts, until
-- at_most messages and deliveries were looked at; returns the number of erased messages, and the first id that was not
-- reached, the end of the range at last. Messages of the project alone are read: the range may have many of others. An
-- e-mail to several recipients keeps an empty envelope: a later receipt without a name is about none of them alone.
CREATE FUNCTION erase_next_contents(project uuid, from_id uuid, before uuid, at_most integer,
                                    OUT erased integer, OUT reached uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    found_id uuid;
    of_message uuid[];
    is_waiting boolean;
    settled uuid[] := '{}';
    sent uuid[] := '{}';  -- their deliveries
    budget integer := at_most;
BEGIN
    FOR found_id IN
        SELECT id FROM (  -- by the order of the index, which begins with the mode
            (SELECT id FROM messages WHERE project_id = project AND NOT sandbox AND id >= from_id AND id < before
              ORDER BY id LIMIT at_most + 1)
            UNION ALL
            (SELECT id FROM messages WHERE project_id = project AND sandbox AND id >= from_id AND id < before
              ORDER BY id LIMIT at_most + 1)
        ) AS of_both_modes ORDER BY id LIMIT at_most + 1
    LOOP
        IF budget <= 0 THEN
            reached := found_id;
            EXIT;
        END IF;
        SELECT coalesce(array_agg(d.id), '{}'), coalesce(bool_or(d.due_at IS NOT NULL), false)
          INTO of_message, is_waiting
          FROM deliveries d
         WHERE d.id BETWEEN (left(found_id::text, 13) || '-0000-0000-000000000000')::uuid
                        AND (left(found_id::text, 13) || '-ffff-ffff-ffffffffffff')::uuid
           AND d.message_id = found_id;
        budget := budget - 1 - cardinality(of_message);
        IF NOT is_waiting THEN
            settled := settled || found_id;
            sent := sent || of_message;
        END IF;
    END LOOP;
    reached := coalesce(reached, before);

    -- Each table once: a statement of its own for each message would begin with all partitions.
    UPDATE receipts r SET payload = ''
      FROM (SELECT * FROM unnest(sent) AS k (id) LIMIT cardinality(sent)) AS k  -- see sluice.store.db
     WHERE r.delivery_id = k.id AND r.payload <> '';
    UPDATE deliveries d SET envelope = '{}' FROM addresses_of_deliveries(sent) a
     WHERE d.id = a.delivery_id AND d.envelope IS NULL AND cardinality(a.addresses) > 1;
    UPDATE messages m SET content = '{}', metadata = NULL
      FROM (SELECT * FROM unnest(settled) AS k (id) LIMIT cardinality(settled)) AS k
     WHERE m.id = k.id AND m.content <> '{}';
    GET DIAGNOSTICS erased = ROW_COUNT;
END
$$;
REVOKE ALL ON FUNCTION erase_next_contents FROM PUBLIC;

-- Erases up to at_most processed chunks of a project's bulk jobs in a range of ids, and up to at_most messages of those
-- that have ended; returns the number of both.
CREATE FUNCTION erase_bulk_contents(project uuid, from_id uuid, before uuid, at_most integer)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    chunks integer;
    jobs integer;
BEGIN
    WITH due AS (
        SELECT c.job_id, c.number FROM bulk_jobs j JOIN bulk_chunks c ON c.job_id = j.id
         WHERE j.project_id = project AND j.id >= from_id AND j.id < before AND c.message_ids IS NOT NULL
           AND (c.rows <> '' OR c.recipients IS NOT NULL)
         LIMIT at_most
    )
    UPDATE bulk_chunks c SET rows = '', recipients = NULL FROM due
     WHERE c.job_id = due.job_id AND c.number = due.number;
    GET DIAGNOSTICS chunks = ROW_COUNT;
    WITH due AS (
        SELECT id FROM bulk_jobs
         WHERE project_id = project AND id >= from_id AND id < before AND finished_at IS NOT NULL AND message <> '{}'
         LIMIT at_most
    )
    UPDATE bulk_jobs j SET message = '{}' FROM due WHERE j.id = due.id;
    GET DIAGNOSTICS jobs = ROW_COUNT;
    RETURN chunks + jobs;
END
$$;
REVOKE ALL ON FUNCTION erase_bulk_contents FROM PUBLIC;

-- PostgreSQL's functions refuse JSON with NUL, which messages may contain that are older than the check of requests: one
-- of them would stop the erasure of its project.
CREATE OR REPLACE FUNCTION addresses_of_deliveries(ids uuid[], OUT delivery_id uuid, OUT addresses text[])
RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT d.id,
           CASE WHEN d.channel <> 'email' THEN ARRAY[d.recipient]
                WHEN d.envelope IS NOT NULL THEN d.envelope
                ELSE ARRAY(SELECT json_array_elements_text(c.list)
                             FROM (SELECT replace(m.content, '\u0000', '\ufffd')::json AS content) AS j
                            CROSS JOIN LATERAL (VALUES (j.content -> 'to'), (j.content -> 'cc'),
                                                       (j.content -> 'bcc')) AS c (list)
                            WHERE json_typeof(c.list) = 'array')
           END
      FROM (SELECT * FROM unnest(ids) AS k (id) LIMIT cardinality(ids)) AS k  -- see sluice.store.db
      JOIN deliveries d ON d.id = k.id
      JOIN messages m ON m.id = d.message_id
$$;
