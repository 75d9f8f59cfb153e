-- A deleted provider keeps its credentials for the receipts of what it sent, until all of that is deleted too.

-- Drops the credentials of providers that were deleted before the given time; returns their number. With the rights of
-- the owner: the logins that delete what is too old cannot change providers.
CREATE FUNCTION drop_credentials(before timestamptz)
RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    WITH dropped AS (
        UPDATE providers SET encrypted_credentials = ''
         WHERE deleted_at < before AND encrypted_credentials <> ''
        RETURNING id
    )
    SELECT count(*)::integer FROM dropped
$$;
REVOKE ALL ON FUNCTION drop_credentials FROM PUBLIC;
