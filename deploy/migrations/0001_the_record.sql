-- The record. Times are timestamptz in UTC; ids are UUIDv7, which sort by time.
--
-- The four tables that grow (messages, deliveries, attempts, events) are partitioned by id range, and an id begins
-- with its time: a week is one partition of each, and retention is a DROP. Attempts and events lie by the id of
-- their delivery, and a delivery's id is made in the millisecond of its message's, so that everything about one
-- message falls into the same week. These tables carry no foreign keys: each would cost a look-up per row.

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
    lookup       text NOT NULL UNIQUE,  -- the public part of the key
    digest       bytea NOT NULL,        -- SHA-256 of the whole key: 160 random bits need no slow hash
    sandbox      boolean NOT NULL,      -- an sp_test_ key: every provider is replaced by the sandbox
    is_active    boolean NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL
);
CREATE INDEX api_keys_project ON api_keys (project_id);

CREATE TABLE providers (
    id          uuid PRIMARY KEY,
    project_id  uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    package     text NOT NULL,          -- 'provider-smtp'
    channel     text NOT NULL,
    name        text NOT NULL,
    priority    integer NOT NULL,       -- the lower number is tried first
    enabled     boolean NOT NULL DEFAULT true,
    credentials bytea NOT NULL,         -- sealed, see sluice.store.cipher
    settings    jsonb NOT NULL DEFAULT '{}',
    version     integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    deleted_at  timestamptz             -- kept for the receipts of what was sent through it
);
CREATE INDEX providers_project ON providers (project_id, channel, priority);

-- One channel for every cache: the payload is '<table>:<project id>'.
CREATE FUNCTION tell_changes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed record := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    IF TG_TABLE_NAME = 'projects' THEN
        PERFORM pg_notify('sluice_changes', TG_TABLE_NAME || ':' || changed.id);
    ELSE
        PERFORM pg_notify('sluice_changes', TG_TABLE_NAME || ':' || changed.project_id);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER tell_changes AFTER INSERT OR UPDATE OR DELETE ON providers FOR EACH ROW EXECUTE FUNCTION tell_changes();
CREATE TRIGGER tell_changes AFTER INSERT OR UPDATE OR DELETE ON api_keys FOR EACH ROW EXECUTE FUNCTION tell_changes();
CREATE TRIGGER tell_changes AFTER INSERT OR UPDATE OR DELETE ON projects FOR EACH ROW EXECUTE FUNCTION tell_changes();

CREATE TABLE messages (
    id                 uuid NOT NULL PRIMARY KEY,
    project_id         uuid NOT NULL,
    channel            text NOT NULL,
    class              text NOT NULL,
    sender             text,
    content            text NOT NULL,    -- JSON of sluice.model.message.Content; never searched, so not jsonb
    tags               text[] NOT NULL,
    metadata           text,             -- JSON of the caller, given back in events
    idempotency_key    text,
    sandbox            boolean NOT NULL,
    send_at            timestamptz,
    expires_at         timestamptz NOT NULL,
    created_at         timestamptz NOT NULL
) PARTITION BY RANGE (id);
CREATE INDEX messages_project ON messages (project_id, id);

CREATE TABLE deliveries (
    id           uuid NOT NULL PRIMARY KEY,
    message_id   uuid NOT NULL,
    project_id   uuid NOT NULL,
    channel      text NOT NULL,
    class        text NOT NULL,
    recipient    text NOT NULL,
    preferred    uuid,                        -- provider to try first
    sandbox      boolean NOT NULL,
    state        text NOT NULL,
    attempts     smallint NOT NULL DEFAULT 0, -- claimed so far; the compare-and-set of every transition
    events       smallint NOT NULL DEFAULT 1, -- number of the newest event
    round        smallint NOT NULL DEFAULT 1,
    ambiguous    smallint NOT NULL DEFAULT 0, -- attempts that ended Unknown
    in_flight    boolean NOT NULL DEFAULT false,
    provider_id  uuid,                        -- of the newest attempt
    due_at       timestamptz,                 -- when anyone may drive it again; null once settled
    published_at timestamptz,                 -- when it was put on the conveyor; null while it is not waiting there
    expires_at   timestamptz NOT NULL
) PARTITION BY RANGE (id);
-- A delivery that is not settled is in exactly one of these. What waits on the conveyor is looked up by when it was
-- put there, so that a backlog is not read again and again to find that it is still on its way.
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE due_at IS NOT NULL AND published_at IS NULL;
CREATE INDEX deliveries_published ON deliveries (published_at) WHERE due_at IS NOT NULL AND published_at IS NOT NULL;

CREATE TABLE attempts (
    delivery_id  uuid NOT NULL,
    number       smallint NOT NULL,
    project_id   uuid NOT NULL,
    provider_id  uuid NOT NULL,
    round        smallint NOT NULL,
    reference    text NOT NULL,     -- what the provider was given as our reference or idempotency key
    decision     text NOT NULL,     -- JSON: every candidate and why it was taken or left out
    started_at   timestamptz NOT NULL,
    finished_at  timestamptz,
    outcome      text,              -- null while in flight
    reason       text,
    provider_ref text,
    PRIMARY KEY (delivery_id, number)
) PARTITION BY RANGE (delivery_id);

CREATE TABLE events (
    delivery_id uuid NOT NULL,
    number      smallint NOT NULL,
    project_id  uuid NOT NULL,
    kind        text NOT NULL,
    state       text,               -- what the event asserts; null when it asserts none
    at          timestamptz NOT NULL,
    attempt     smallint,
    provider_id uuid,
    detail      text NOT NULL DEFAULT '',
    PRIMARY KEY (delivery_id, number)
) PARTITION BY RANGE (delivery_id);

-- Events that were settled and not yet acknowledged by the broker: a row for a batch, deleted after the
-- acknowledgement. What outlives its due_at is announced again by the recovery loop.
CREATE TABLE announcements (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    due_at       timestamptz NOT NULL,
    delivery_ids uuid[] NOT NULL,
    numbers      smallint[] NOT NULL
);

CREATE TABLE idempotency_keys (
    project_id  uuid NOT NULL,
    key         text NOT NULL,
    fingerprint bytea NOT NULL,     -- SHA-256 of the canonical body
    message_id  uuid NOT NULL,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (project_id, key)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

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
CREATE INDEX sandbox_messages_newest ON sandbox_messages (project_id, captured_at);
