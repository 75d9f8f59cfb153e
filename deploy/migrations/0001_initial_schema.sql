-- The schema. Times are timestamptz in UTC; ids are UUIDv7, which sort by time.
--
-- The tables that grow (messages, deliveries, attempts, events, receipts, receipt_ids) are partitioned by id range, and an id begins
-- with its time: a week is one partition of each, and retention is a DROP. Attempts, events, receipts and their ids lie by the id
-- of their delivery, and a delivery's id is made in the millisecond of its message's, so that everything about one
-- message falls into the same week. These tables carry no foreign keys: each would cost a look-up per row.
--
-- The logins of the roles, their privileges and the policies of row-level security are in sluice.store.logins, which
-- every `sluice migrate` applies.

CREATE TABLE organizations (
    id         uuid PRIMARY KEY,
    name       text NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE projects (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations (id),
    slug            text NOT NULL,
    name            text NOT NULL,
    default_sender  text,
    created_at      timestamptz NOT NULL,
    CONSTRAINT projects_slug_taken UNIQUE (slug)
);

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    project_id   uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name         text NOT NULL,
    key_prefix   text NOT NULL UNIQUE,  -- the public part of the key
    key_hash     bytea NOT NULL,        -- SHA-256 of the whole key: 160 random bits need no slow hash
    is_test      boolean NOT NULL,      -- an sp_test_ key: the sandbox replaces every provider
    is_active    boolean NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL
);
CREATE INDEX api_keys_project_idx ON api_keys (project_id);

CREATE TABLE providers (
    id                    uuid PRIMARY KEY,
    project_id            uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    package               text NOT NULL,          -- 'provider-smtp'
    channel               text NOT NULL,
    name                  text NOT NULL,
    priority              integer NOT NULL,       -- the lower number is tried first
    enabled               boolean NOT NULL DEFAULT true,
    encrypted_credentials bytea NOT NULL,         -- see sluice.store.cipher
    credentials_version   integer NOT NULL DEFAULT 1,  -- authenticated with them: an older value is refused
    settings              jsonb NOT NULL DEFAULT '{}',
    version               integer NOT NULL DEFAULT 1,
    created_at            timestamptz NOT NULL,
    updated_at            timestamptz NOT NULL,
    deleted_at            timestamptz             -- kept for the receipts of what was sent through it
);
CREATE INDEX providers_project_idx ON providers (project_id, channel, priority);

-- One notification channel for every cache: the payload is '<table>:<project id>'.
CREATE FUNCTION notify_config_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed record := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    IF TG_TABLE_NAME = 'projects' THEN
        PERFORM pg_notify('sluice_config', TG_TABLE_NAME || ':' || changed.id);
    ELSE
        PERFORM pg_notify('sluice_config', TG_TABLE_NAME || ':' || changed.project_id);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER notify_config_change AFTER INSERT OR UPDATE OR DELETE ON providers
   FOR EACH ROW EXECUTE FUNCTION notify_config_change();
CREATE TRIGGER notify_config_change AFTER INSERT OR UPDATE OR DELETE ON api_keys
   FOR EACH ROW EXECUTE FUNCTION notify_config_change();
CREATE TRIGGER notify_config_change AFTER INSERT OR UPDATE OR DELETE ON projects
   FOR EACH ROW EXECUTE FUNCTION notify_config_change();

CREATE TABLE messages (
    id                 uuid NOT NULL PRIMARY KEY,
    project_id         uuid NOT NULL,
    channel            text NOT NULL,
    delivery_class     text NOT NULL,
    sender             text,
    content            text NOT NULL,    -- JSON of sluice.model.message.Content; never searched, so not jsonb
    tags               text[] NOT NULL,
    metadata           text,             -- JSON of the caller, returned in events
    idempotency_key    text,
    sandbox            boolean NOT NULL,
    send_at            timestamptz,
    expires_at         timestamptz NOT NULL,
    created_at         timestamptz NOT NULL
) PARTITION BY RANGE (id);
CREATE INDEX messages_project_idx ON messages (project_id, id);

CREATE TABLE deliveries (
    id                    uuid NOT NULL PRIMARY KEY,
    message_id            uuid NOT NULL,
    project_id            uuid NOT NULL,
    channel               text NOT NULL,
    delivery_class        text NOT NULL,
    recipient             text NOT NULL,
    preferred_provider_id uuid,                        -- provider to try first
    sandbox               boolean NOT NULL,
    state                 text NOT NULL,
    attempt_count         smallint NOT NULL DEFAULT 0, -- claimed so far; the compare-and-set of every transition
    last_event_sequence   smallint NOT NULL DEFAULT 1,
    retry_round           smallint NOT NULL DEFAULT 1,
    unknown_attempts      smallint NOT NULL DEFAULT 0, -- attempts that ended Unknown
    in_flight             boolean NOT NULL DEFAULT false,
    provider_id           uuid,                        -- of the newest attempt
    due_at                timestamptz,                 -- when the recovery loop may enqueue it; null once settled
    enqueued_at           timestamptz,                 -- when it entered the dispatch queue; null: in the backlog
    expires_at            timestamptz NOT NULL
) PARTITION BY RANGE (id);
-- A delivery that is not settled is in exactly one of these two. Enqueued deliveries are looked up by when they were
-- enqueued, so that a long queue is not read again and again to find that it is still on its way.
CREATE INDEX deliveries_due_idx ON deliveries (due_at) WHERE due_at IS NOT NULL AND enqueued_at IS NULL;
CREATE INDEX deliveries_enqueued_idx ON deliveries (enqueued_at) WHERE due_at IS NOT NULL AND enqueued_at IS NOT NULL;
-- The backlog, by whose turn it is. A delivery that is enqueued at once is never in it.
CREATE INDEX deliveries_backlog_idx ON deliveries (channel, (delivery_class <> 'urgent'), project_id, due_at)
 WHERE due_at IS NOT NULL AND enqueued_at IS NULL AND NOT in_flight;

CREATE TABLE attempts (
    delivery_id         uuid NOT NULL,
    number              smallint NOT NULL,
    project_id          uuid NOT NULL,
    provider_id         uuid NOT NULL,
    retry_round         smallint NOT NULL,
    client_reference    text NOT NULL,     -- our reference or idempotency key, as the provider received it
    routing_decision    text NOT NULL,     -- JSON: the provider chosen, and why each other candidate was excluded
    started_at          timestamptz NOT NULL,
    finished_at         timestamptz,
    outcome             text,              -- null while in flight
    error               text,
    provider_message_id text,
    PRIMARY KEY (delivery_id, number)
) PARTITION BY RANGE (delivery_id);

CREATE TABLE events (
    delivery_id uuid NOT NULL,
    sequence    smallint NOT NULL,
    project_id  uuid NOT NULL,
    type        text NOT NULL,
    state       text,               -- what the event asserts; null when it asserts none
    occurred_at timestamptz NOT NULL,
    attempt     smallint,
    provider_id uuid,
    reason      text,               -- of a refusal or a negative receipt: a word of sluice.model.reasons
    detail      text NOT NULL DEFAULT '',
    PRIMARY KEY (delivery_id, sequence)
) PARTITION BY RANGE (delivery_id);

-- Receipts of providers. The primary key makes a repeated receipt change nothing; the rows lie in the partition of
-- their delivery, so that they go with it.
CREATE TABLE receipts (
    delivery_id uuid NOT NULL,
    provider_id uuid NOT NULL,
    receipt_id  text NOT NULL,
    project_id  uuid NOT NULL,
    attempt     smallint NOT NULL,
    type        text NOT NULL,
    received_at timestamptz NOT NULL,
    payload     text NOT NULL DEFAULT '',  -- as the provider sent it, at most 8 KiB
    PRIMARY KEY (delivery_id, provider_id, receipt_id)
) PARTITION BY RANGE (delivery_id);

-- The provider message ids by which receipts are found that do not carry our reference: several for a message in parts.
-- A table of its own, so that attempts at all other providers pay for no index.
CREATE TABLE receipt_ids (
    delivery_id         uuid NOT NULL,
    attempt             smallint NOT NULL,
    provider_id         uuid NOT NULL,
    provider_message_id text NOT NULL,
    PRIMARY KEY (delivery_id, attempt, provider_message_id)
) PARTITION BY RANGE (delivery_id);
CREATE INDEX receipt_ids_message_idx ON receipt_ids (provider_id, provider_message_id);

-- Settled events that Kafka has not acknowledged yet: a row covers a batch and is deleted after the acknowledgement.
-- The recovery loop publishes the events again once retry_at has passed.
CREATE TABLE event_outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at   timestamptz NOT NULL DEFAULT now(),
    retry_at     timestamptz NOT NULL,
    delivery_ids uuid[] NOT NULL,
    sequences    smallint[] NOT NULL
);

CREATE TABLE idempotency_keys (
    project_id  uuid NOT NULL,
    sandbox     boolean NOT NULL,   -- test and live requests have keys of their own
    key         text NOT NULL,
    fingerprint bytea NOT NULL,     -- SHA-256 of the canonical body
    message_id  uuid NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (project_id, sandbox, key)
);
CREATE INDEX idempotency_keys_expiry_idx ON idempotency_keys (expires_at);

CREATE TABLE attachments (
    project_id uuid NOT NULL,
    sha256     text NOT NULL,
    content    bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, sha256)
);

CREATE TABLE sandbox_messages (
    reference   text PRIMARY KEY,   -- a repeat of one attempt is captured once
    project_id  uuid NOT NULL,
    message_id  uuid NOT NULL,
    channel     text NOT NULL,
    recipient   text NOT NULL,
    content     text NOT NULL,
    captured_at timestamptz NOT NULL
);
CREATE INDEX sandbox_messages_newest_idx ON sandbox_messages (project_id, captured_at);

-- The dispatch queue without ids and recipients. Every gateway counts it for all projects, whose deliveries its login
-- does not see; a view reads with the rights of its owner.
CREATE VIEW dispatch_queue AS
SELECT project_id, channel, delivery_class FROM deliveries WHERE due_at IS NOT NULL AND enqueued_at IS NOT NULL;

-- Creates one partition, with the rights of the owner: the login of the router, which calls it, cannot create tables.
-- Row-level security of a partition applies to statements that name it; only the owner may do that.
CREATE FUNCTION create_partition(parent text, suffix text, bounds_from uuid, bounds_to uuid, fill integer)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    partition_name text := parent || '_' || suffix;
    bounds text := CASE WHEN suffix = 'default' THEN 'DEFAULT'
                        ELSE format('FOR VALUES FROM (%L) TO (%L)', bounds_from, bounds_to) END;
BEGIN
    IF parent NOT IN ('messages', 'deliveries', 'attempts', 'events', 'receipts', 'receipt_ids')
       OR suffix !~ '^(default|[0-9]{4}w[0-9]{2})$' THEN
        RAISE EXCEPTION 'create_partition: % is no partition of a table that grows', partition_name;
    END IF;
    EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I %s WITH (fillfactor = %s)',
                   partition_name, parent, bounds, fill);
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', partition_name);
    EXECUTE format('CREATE POLICY owner ON public.%I TO CURRENT_USER USING (true)', partition_name);
END
$$;
REVOKE ALL ON FUNCTION create_partition FROM PUBLIC;
