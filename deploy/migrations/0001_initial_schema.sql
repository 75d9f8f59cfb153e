-- The schema. Times are timestamptz in UTC; ids are UUIDv7, which sort by time.
--
-- The tables that grow (messages, message_terms, deliveries, attempts, events, receipts, receipt_ids,
-- webhook_deliveries, webhook_attempts, bulk_jobs, bulk_chunks, analytics_progress) are partitioned by id range, and an
-- id begins with its time: a week is one partition of each, and retention is a DROP. Attempts, events, receipts, their
-- ids, webhook deliveries and the progress of analytics lie by the id of their delivery, and a delivery's id is made in
-- the millisecond of its message's, so that everything about one message falls into the same week. These tables carry no
-- foreign keys: each would cost a look-up per row.

-- webhook_deliveries, webhook_attempts, bulk_jobs, bulk_chunks, incident_deliveries) are partitioned by id range, and an
-- id begins with its time: a week is one partition of each, and retention is a DROP. Attempts, events, receipts, their ids and webhook
-- deliveries lie by the id of their delivery, and a delivery's id is made in the millisecond of its message's, so that
-- everything about one message falls into the same week. These tables carry no foreign keys: each would cost a look-up
-- per row.
--
-- The logins of the roles are in sluice.store.logins, their privileges and the policies of row-level security in
-- sluice.store.tables: every `sluice migrate` applies them.

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
    routing_policy  text NOT NULL DEFAULT 'adaptive' CHECK (routing_policy IN ('adaptive', 'seed', 'static')),
    created_at      timestamptz NOT NULL,
    content_retention_days integer CHECK (content_retention_days > 0),  -- null: contents stay as long as their messages
    contents_erased_to     timestamptz,  -- contents of older messages are erased
    deleted_at             timestamptz,  -- its messages are kept until their retention ends
    has_suppressions boolean NOT NULL DEFAULT false  -- false: none was ever added, and nothing has to be looked up
);
CREATE UNIQUE INDEX projects_slug_taken ON projects (slug) WHERE deleted_at IS NULL;

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    project_id   uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    name         text NOT NULL,
    head         text NOT NULL,         -- what the key begins with: 'sp_live_', 'sp_test_' or 'mzl_'
    key_prefix   text NOT NULL UNIQUE,  -- the public part of the key, behind the head
    key_hash     bytea NOT NULL,        -- SHA-256 of the whole key: 160 random bits need no slow hash
    is_test      boolean NOT NULL,      -- an sp_test_ key: the sandbox replaces every provider
    is_active    boolean NOT NULL DEFAULT true,  -- false: refused until it is activated again
    created_by   uuid,                  -- a user; null: the command line
    created_at   timestamptz NOT NULL,
    deleted_at   timestamptz            -- the audit log still names it
);
CREATE INDEX api_keys_project_idx ON api_keys (project_id, id);

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
    template_id        uuid,             -- what the content was rendered from; null: the request had the content
    template_version   integer,
    idempotency_key    text,
    sandbox            boolean NOT NULL,
    send_at            timestamptz,
    expires_at         timestamptz NOT NULL,
    created_at         timestamptz NOT NULL
) PARTITION BY RANGE (id);
-- The newest messages, of all channels and of one: a project may have few of a kind among millions of another.
CREATE INDEX messages_project_idx ON messages (project_id, sandbox, id);
CREATE INDEX messages_channel_idx ON messages (project_id, sandbox, channel, id);

-- What messages are found by: senders, recipients, tags, bulk jobs. The term is a hash: see sluice.model.terms.
CREATE TABLE message_terms (
    project_id uuid NOT NULL,
    term       bigint NOT NULL,
    message_id uuid NOT NULL,
    PRIMARY KEY (project_id, term, message_id)
) PARTITION BY RANGE (message_id);

CREATE TABLE deliveries (
    id                    uuid NOT NULL PRIMARY KEY,
    message_id            uuid NOT NULL,
    project_id            uuid NOT NULL,
    channel               text NOT NULL,
    delivery_class        text NOT NULL,
    recipient             text NOT NULL,
    envelope              text[],                      -- of a divided e-mail: its addresses; null: all of the content
    preferred_provider_id uuid,                        -- provider to try first
    sandbox               boolean NOT NULL,
    awaited               boolean NOT NULL DEFAULT false, -- a send request waits for the end of the only retry round
    state                 text NOT NULL,
    attempt_count         smallint NOT NULL DEFAULT 0, -- claimed so far; the compare-and-set of every transition
    last_event_sequence   smallint NOT NULL DEFAULT 1,
    retry_round           smallint NOT NULL DEFAULT 1,
    unknown_attempts      smallint NOT NULL DEFAULT 0, -- attempts that ended Unknown
    in_flight             boolean NOT NULL DEFAULT false,
    provider_id           uuid,                        -- of the newest attempt
    due_at                timestamptz,                 -- when the recovery loop may enqueue it; null once settled
    enqueued_at           timestamptz,                 -- when it entered the dispatch queue; null: in the backlog
    expires_at            timestamptz NOT NULL,
    traceparent           text                         -- of the span that accepted its message; null: not traced
) PARTITION BY RANGE (id);
-- A delivery that is not settled is in exactly one of these two. Enqueued deliveries are looked up by when they were
-- enqueued, so that a long queue is not read again and again to find that it is still on its way.
CREATE INDEX deliveries_due_idx ON deliveries (due_at) WHERE due_at IS NOT NULL AND enqueued_at IS NULL;
CREATE INDEX deliveries_enqueued_idx ON deliveries (enqueued_at) WHERE due_at IS NOT NULL AND enqueued_at IS NOT NULL;
-- The backlog, by whose turn it is. A delivery that is enqueued at once is never in it.
CREATE INDEX deliveries_backlog_idx ON deliveries (channel, (delivery_class <> 'urgent'), project_id, due_at)
 WHERE due_at IS NOT NULL AND enqueued_at IS NULL AND NOT in_flight;
-- Deliveries that ended badly or have not ended: few among many. Those in the other two states are found among the newest.
-- For the list alone, which repeats the condition in this form: from one that the planner understands it concludes that
-- a claim may read this index, and reads every open delivery once the statistics have none.
CREATE INDEX deliveries_state_idx ON deliveries (project_id, sandbox, state, message_id)
 WHERE (state IN ('SENT', 'DELIVERED')) IS FALSE;

CREATE TABLE attempts (
    delivery_id         uuid NOT NULL,
    number              smallint NOT NULL,
    project_id          uuid NOT NULL,
    provider_id         uuid NOT NULL,
    retry_round         smallint NOT NULL,
    client_reference    text NOT NULL,     -- our reference or idempotency key, as the provider received it
    routing_decision    text NOT NULL,     -- JSON of sluice.routing.decision
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
    recipient   text,               -- of a receipt: whom of several recipients of one envelope it is about
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
-- The id first: a session that serves several providers knows the id only.
CREATE INDEX receipt_ids_message_idx ON receipt_ids (provider_message_id, provider_id);

-- Tokens that a provider signs in place of the body of its webhook requests: each is accepted with one body only. They are
-- deleted after two days, when no signature over them is accepted any more.
CREATE TABLE receipt_tokens (
    provider_id uuid NOT NULL,
    token       text NOT NULL,
    digest      bytea NOT NULL,  -- SHA-256 of the body
    received_at timestamptz NOT NULL,
    PRIMARY KEY (provider_id, token)
);
CREATE INDEX receipt_tokens_age_idx ON receipt_tokens (received_at);

-- Settled events that Kafka has not acknowledged yet: a row covers a batch and is deleted after the acknowledgement.
-- The recovery loop publishes the events again once retry_at has passed.
CREATE TABLE event_outbox (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at   timestamptz NOT NULL DEFAULT now(),
    retry_at     timestamptz NOT NULL,
    delivery_ids uuid[] NOT NULL,
    sequences    smallint[] NOT NULL
);

-- Records on the bus that said something else than the row of their delivery. They were refused.
CREATE TABLE bus_disagreements (
    delivery_id  uuid NOT NULL,
    field        text NOT NULL,    -- the column of deliveries that differs
    count        integer NOT NULL,
    last_seen_at timestamptz NOT NULL,
    PRIMARY KEY (delivery_id, field)
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
    used_at    timestamptz NOT NULL,   -- by the newest message, to the day
    PRIMARY KEY (project_id, sha256)
);
CREATE INDEX attachments_used_idx ON attachments (used_at);

CREATE TABLE sandbox_messages (
    reference   text PRIMARY KEY,   -- a repeat of one attempt is captured once
    project_id  uuid NOT NULL,
    message_id  uuid NOT NULL,
    channel     text NOT NULL,
    recipient   text NOT NULL,
    content     text NOT NULL,
    captured_at timestamptz NOT NULL,
    receipts    text[] NOT NULL DEFAULT '{}',  -- types of the receipts of a magic recipient, in order
    receipts_due_at timestamptz                -- null: none, or written
);
CREATE INDEX sandbox_messages_receipts_idx ON sandbox_messages (receipts_due_at) WHERE receipts_due_at IS NOT NULL;
CREATE INDEX sandbox_messages_newest_idx ON sandbox_messages (project_id, captured_at, reference);
CREATE INDEX sandbox_messages_age_idx ON sandbox_messages (captured_at);

-- People. Users and their sessions belong to no project; a membership is a user's role in one.

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    email         text NOT NULL,       -- as it was written
    email_key     text NOT NULL,       -- normalised, in lower case: two users never share it
    name          text NOT NULL,
    password_hash text,                -- argon2id; null until the first password is set
    is_confirmed  boolean NOT NULL,    -- the address is the person's: false after a sign-up, which proves nothing
    created_at    timestamptz NOT NULL,
    CONSTRAINT users_email_taken UNIQUE (email_key)
);

CREATE TABLE sessions (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_hash   bytea NOT NULL UNIQUE,  -- SHA-256 of the token, or of the newest refresh token: 256 random bits
    address      text,                   -- of the client at login
    user_agent   text,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,   -- to a minute
    expires_at   timestamptz NOT NULL
);
CREATE INDEX sessions_user_idx ON sessions (user_id, id);

CREATE TABLE memberships (
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role       text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (project_id, user_id)
);
CREATE INDEX memberships_user_idx ON memberships (user_id);

CREATE TABLE invitations (
    id         uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    email      text NOT NULL,
    email_key  text NOT NULL,
    role       text NOT NULL,
    token_hash bytea NOT NULL UNIQUE,
    invited_by uuid,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT invitations_once UNIQUE (project_id, email_key)
);

-- Links that log a user in once: the set-up of an installation and a forgotten password.
CREATE TABLE login_links (
    token_hash    bytea PRIMARY KEY,
    user_id       uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose       text NOT NULL,       -- 'setup' or 'password_reset'
    loopback_only boolean NOT NULL,    -- works from the machine of the gateway only
    expires_at    timestamptz NOT NULL
);
CREATE INDEX login_links_user_idx ON login_links (user_id);

-- Who changed what. A row is written in the transaction of its change and never updated; it contains no secret.
CREATE TABLE audit_log (
    id          uuid PRIMARY KEY,
    project_id  uuid,                  -- null: a change of a user's own account
    actor_kind  text NOT NULL,         -- 'user', 'key', 'operator' (the command line) or 'system'
    actor_id    uuid,
    action      text NOT NULL,         -- 'created', 'updated', 'deleted', ...
    noun        text NOT NULL,         -- 'project', 'member', 'key', ...
    object_id   text NOT NULL,         -- public id
    changes     jsonb NOT NULL,        -- the fields that changed
    address     text,
    occurred_at timestamptz NOT NULL
);
CREATE INDEX audit_log_project_idx ON audit_log (project_id, id);

-- The gateways keep sessions in memory: the payload is the id of the user whose sessions or roles changed. The use of a
-- session does not count. With the rights of the owner, because not every login that changes a project sees its members.
CREATE FUNCTION notify_account_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    changed record := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    IF TG_TABLE_NAME = 'users' THEN
        PERFORM pg_notify('sluice_accounts', changed.id::text);
    ELSIF TG_TABLE_NAME = 'projects' THEN
        PERFORM pg_notify('sluice_accounts', user_id::text) FROM memberships WHERE project_id = changed.id;
    ELSE
        PERFORM pg_notify('sluice_accounts', changed.user_id::text);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER notify_account_change AFTER UPDATE OR DELETE ON users
   FOR EACH ROW EXECUTE FUNCTION notify_account_change();
CREATE TRIGGER notify_account_change AFTER UPDATE ON projects
   FOR EACH ROW EXECUTE FUNCTION notify_account_change();
CREATE TRIGGER notify_account_change AFTER DELETE ON sessions
   FOR EACH ROW EXECUTE FUNCTION notify_account_change();
CREATE TRIGGER notify_account_change AFTER INSERT OR UPDATE OR DELETE ON memberships
   FOR EACH ROW EXECUTE FUNCTION notify_account_change();

-- Sending domains of projects, and what the newest check of their DNS records has found.
CREATE TABLE domains (
    id         uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    domain     text NOT NULL,                -- in punycode and lower case
    token      text NOT NULL,                -- in the TXT record that proves the ownership
    statuses   jsonb NOT NULL DEFAULT '{}',  -- by the purpose of a record
    checked_at timestamptz,
    created_at timestamptz NOT NULL,
    CONSTRAINT domains_once UNIQUE (project_id, domain)
);

-- Webhooks of the customer: where the events of a project are sent to.

CREATE TABLE webhook_endpoints (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    sandbox         boolean NOT NULL,       -- gets the events of test messages; otherwise those of live ones
    url             text NOT NULL,
    description     text NOT NULL,
    events          text[] NOT NULL,        -- values of sluice.model.webhooks.WebhookType
    channels        text[] NOT NULL,        -- empty: all
    tags            text[] NOT NULL,        -- empty: all messages; otherwise those with one of the tags
    enabled         boolean NOT NULL,
    disabled_reason text,                   -- 'gone' or 'failing', if Sluice disabled it
    failing_since   timestamptz,            -- the first failed attempt after the newest successful one
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL
);
CREATE INDEX webhook_endpoints_project_idx ON webhook_endpoints (project_id, id);

-- The newest version signs; older ones sign beside it until they expire.
CREATE TABLE webhook_secrets (
    endpoint_id      uuid NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    project_id       uuid NOT NULL,
    version          integer NOT NULL,      -- authenticated with the secret
    encrypted_secret bytea NOT NULL,        -- see sluice.store.cipher
    expires_at       timestamptz,           -- null: the newest
    PRIMARY KEY (endpoint_id, version)
);

-- One event for one endpoint. The primary key makes a repeated event change nothing; the rows lie in the partition of
-- the event's delivery, so that they go with it.
CREATE TABLE webhook_deliveries (
    delivery_id   uuid NOT NULL,            -- of the event; of a test a new id
    sequence      smallint NOT NULL,        -- of the event; of a test 0
    endpoint_id   uuid NOT NULL,
    id            uuid NOT NULL,            -- begins with the time of the event
    project_id    uuid NOT NULL,
    type          text NOT NULL,            -- a value of sluice.model.webhooks.WebhookType
    status        text NOT NULL,            -- PENDING, DELIVERED, EXHAUSTED, SKIPPED
    due_at        timestamptz,              -- when it may be claimed; null once settled
    in_flight     boolean NOT NULL DEFAULT false,
    attempt_count smallint NOT NULL DEFAULT 0,
    retry_step    smallint NOT NULL DEFAULT 0,  -- attempts since the event, or since the newest replay
    occurred_at   timestamptz NOT NULL,     -- of the event
    finished_at   timestamptz,
    PRIMARY KEY (delivery_id, sequence, endpoint_id)
) PARTITION BY RANGE (delivery_id);
CREATE INDEX webhook_deliveries_endpoint_idx ON webhook_deliveries (endpoint_id, id);
-- What an endpoint missed is little among much, and is what a customer looks for and replays.
CREATE INDEX webhook_deliveries_missed_idx ON webhook_deliveries (endpoint_id, id)
 WHERE status IN ('EXHAUSTED', 'SKIPPED');
-- Those that are not settled, by endpoint: an endpoint's backlog is not read to find the due ones of another.
CREATE INDEX webhook_deliveries_due_idx ON webhook_deliveries (endpoint_id, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE webhook_attempts (
    delivery_id uuid NOT NULL,
    sequence    smallint NOT NULL,
    endpoint_id uuid NOT NULL,
    number      smallint NOT NULL,
    project_id  uuid NOT NULL,
    started_at  timestamptz NOT NULL,
    duration_ms integer NOT NULL,
    status      smallint,                   -- of the response; null without one
    error       text,                       -- why it failed; null for a success
    answer      text NOT NULL,              -- the first 4 KiB of the response's body
    PRIMARY KEY (delivery_id, sequence, endpoint_id, number)
) PARTITION BY RANGE (delivery_id);

-- Quotas. Each gateway counts what it accepts in memory, and adds it here every second.

CREATE TABLE project_usage (
    project_id uuid NOT NULL,
    sandbox    boolean NOT NULL,
    day        date NOT NULL,        -- in UTC
    messages   bigint NOT NULL,
    urgent     bigint NOT NULL,
    PRIMARY KEY (day, project_id, sandbox)
);
-- The dispatch queue without ids and recipients. Every gateway counts it for all projects, whose deliveries its login
-- does not see; a view reads with the rights of its owner.
CREATE VIEW dispatch_queue AS
SELECT project_id, channel, delivery_class FROM deliveries WHERE due_at IS NOT NULL AND enqueued_at IS NOT NULL;

-- The bytes of the stored attachments of each project, without content or names: every gateway compares all with their quota.
CREATE VIEW attachment_bytes AS
SELECT project_id, sum(octet_length(content))::bigint AS bytes FROM attachments GROUP BY project_id;

-- Creates one partition, with the rights of the owner: the login of the router, which calls it, cannot create tables.
-- Row-level security of a partition applies to statements that name it; only the owner may do that.
CREATE FUNCTION create_partition(parent text, suffix text, bounds_from uuid, bounds_to uuid, fill integer)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    partition_name text := parent || '_' || suffix;
    bounds text := CASE WHEN suffix = 'default' THEN 'DEFAULT'
                        ELSE format('FOR VALUES FROM (%L) TO (%L)', bounds_from, bounds_to) END;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid = to_regclass('public.' || quote_ident(parent)))
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

-- Retention, with the rights of the owner: the logins that delete what is too old can neither drop tables nor read
-- contents.

-- Drops the partitions of a week such as 2026w48 in one transaction, so that no message loses a part of its rows; returns
-- their names, or null when a delivery is not settled. A DROP waits for running statements, and every later statement for
-- the DROP.
CREATE FUNCTION drop_week(week text)
RETURNS text[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    deliveries_name text := 'deliveries_' || week;
    partition_name text;
    dropped text[] := '{}';
    is_waiting boolean;
BEGIN
    IF week !~ '^[0-9]{4}w[0-9]{2}$' THEN
        RAISE EXCEPTION 'drop_week: % is no week', week;
    END IF;
    IF to_regclass('public.' || deliveries_name) IS NOT NULL THEN
        EXECUTE format('LOCK TABLE public.%I IN SHARE MODE', deliveries_name);
        EXECUTE format('SELECT EXISTS (SELECT FROM public.%I WHERE due_at IS NOT NULL)', deliveries_name) INTO is_waiting;
        IF is_waiting THEN
            RETURN NULL;
        END IF;
    END IF;
    FOR partition_name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE c.relnamespace = 'public'::regnamespace AND right(c.relname, 8) = '_' || week
         ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE public.%I', partition_name);
        dropped := dropped || partition_name;
    END LOOP;
    RETURN dropped;
END
$$;
REVOKE ALL ON FUNCTION drop_week FROM PUBLIC;

-- Deletes up to at_most settled messages with ids before the given one from the default partitions, where a clock that
-- was wrong has put them; returns the number of deliveries.
CREATE FUNCTION delete_strays(before uuid, at_most integer)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    settled uuid[];
    gone uuid[];
BEGIN
    SELECT array_agg(s.message_id) INTO settled
      FROM (SELECT message_id FROM deliveries_default WHERE id < before GROUP BY message_id
            HAVING bool_and(due_at IS NULL) LIMIT at_most) s;
    WITH d AS (DELETE FROM deliveries_default WHERE message_id = ANY(settled) RETURNING id)
    SELECT array_agg(id) INTO gone FROM d;
    DELETE FROM attempts WHERE delivery_id = ANY(gone);
    DELETE FROM events WHERE delivery_id = ANY(gone);
    DELETE FROM receipts WHERE delivery_id = ANY(gone);
    DELETE FROM receipt_ids WHERE delivery_id = ANY(gone);
    DELETE FROM webhook_deliveries WHERE delivery_id = ANY(gone);
    DELETE FROM webhook_attempts WHERE delivery_id = ANY(gone);
    DELETE FROM analytics_progress WHERE delivery_id = ANY(gone);

    DELETE FROM incident_deliveries WHERE delivery_id = ANY(gone);
    DELETE FROM message_terms WHERE message_id = ANY(settled);
    DELETE FROM messages WHERE id = ANY(settled);
    RETURN coalesce(cardinality(gone), 0);
END
$$;
REVOKE ALL ON FUNCTION delete_strays FROM PUBLIC;

-- Erases the contents of up to at_most settled messages of a project in a range of ids, the last one excluded, and with
-- the last of them the payloads of the range's receipts; returns the number of messages.
CREATE FUNCTION erase_contents(project uuid, from_id uuid, before uuid, at_most integer)
RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    erased integer;
BEGIN
    WITH due AS (
        SELECT m.id FROM messages m
         WHERE m.project_id = project AND m.id >= from_id AND m.id < before AND m.content <> '{}'
           AND NOT EXISTS (SELECT 1 FROM deliveries d
                            WHERE d.message_id = m.id AND d.id >= from_id AND d.id < before AND d.due_at IS NOT NULL)
         ORDER BY m.id LIMIT at_most
    )
    UPDATE messages m SET content = '{}', metadata = NULL FROM due
     WHERE m.id = due.id AND m.id >= from_id AND m.id < before;
    GET DIAGNOSTICS erased = ROW_COUNT;
    IF erased < at_most THEN
        UPDATE receipts SET payload = ''
         WHERE project_id = project AND delivery_id >= from_id AND delivery_id < before AND payload <> '';
        UPDATE bulk_chunks SET rows = '', recipients = NULL
         WHERE project_id = project AND job_id >= from_id AND job_id < before AND message_ids IS NOT NULL
           AND (rows <> '' OR recipients IS NOT NULL);
        UPDATE bulk_jobs SET message = '{}'
         WHERE project_id = project AND id >= from_id AND id < before AND finished_at IS NOT NULL AND message <> '{}';
    END IF;
    RETURN erased;
END
$$;
REVOKE ALL ON FUNCTION erase_contents FROM PUBLIC;

-- What the gateway asks before it knows a project, with the rights of the owner.

-- The projects in which a user has a role, as arrays of one length; null for none.
CREATE FUNCTION roles_of_user(of_user uuid, OUT project_ids uuid[], OUT slugs text[], OUT roles text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT array_agg(m.project_id), array_agg(p.slug), array_agg(m.role)
      FROM memberships m JOIN projects p ON p.id = m.project_id
     WHERE m.user_id = of_user AND p.deleted_at IS NULL
$$;
REVOKE ALL ON FUNCTION roles_of_user FROM PUBLIC;

-- The project of the invitation with this token, valid or not; null without one.
CREATE FUNCTION project_of_invitation(hash bytea)
RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT project_id FROM invitations WHERE token_hash = hash
$$;
REVOKE ALL ON FUNCTION project_of_invitation FROM PUBLIC;

-- Templates. A version is never changed or deleted, because messages refer to it.

CREATE TABLE templates (
    id         uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    kind       text NOT NULL,          -- of the content that it yields: 'email', 'text' or 'push'
    name       text NOT NULL,
    version    integer NOT NULL,       -- the current one
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz             -- no message is made from it any more
);
CREATE INDEX templates_project_idx ON templates (project_id, id);

CREATE TABLE template_versions (
    template_id uuid NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    version     integer NOT NULL,
    project_id  uuid NOT NULL,
    sources     json NOT NULL,         -- by part: subject, html, text, data.<key>; in this order
    variables   text[] NOT NULL,       -- what the sources read
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (template_id, version)
);

-- The gateways keep templates in memory: the payload is the id of the template that changed.
CREATE FUNCTION notify_template_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('sluice_templates', NEW.id::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER notify_template_change AFTER UPDATE ON templates
   FOR EACH ROW EXECUTE FUNCTION notify_template_change();

-- Suppressions: addresses that a project sends nothing to on a channel.
CREATE TABLE suppressions (
    id             uuid PRIMARY KEY,
    project_id     uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    channel        text NOT NULL,
    address        text NOT NULL,      -- normalised: see sluice.model.suppression
    reason         text NOT NULL,      -- 'hard_bounce', 'complaint', 'unsubscribe' or 'manual'
    detail         text NOT NULL,      -- the provider's words, or a note
    delivery_id    uuid,               -- the event that added it
    event_sequence smallint,
    provider_id    uuid,
    created_at     timestamptz NOT NULL,
    CONSTRAINT suppressions_once UNIQUE (project_id, channel, address)
);
CREATE INDEX suppressions_project_idx ON suppressions (project_id, id);

-- The addresses that deliveries are for: of an e-mail without an envelope of its own, those of the content. With the
-- rights of the owner: the logins that compare them with the suppressions cannot read contents.
CREATE FUNCTION addresses_of_deliveries(ids uuid[], OUT delivery_id uuid, OUT addresses text[])
RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT d.id,
           CASE WHEN d.channel <> 'email' THEN ARRAY[d.recipient]
                WHEN d.envelope IS NOT NULL THEN d.envelope
                ELSE ARRAY(SELECT json_array_elements_text(c.list)
                             FROM (VALUES (m.content::json -> 'to'), (m.content::json -> 'cc'),
                                          (m.content::json -> 'bcc')) AS c (list)
                            WHERE json_typeof(c.list) = 'array')
           END
      FROM (SELECT * FROM unnest(ids) AS k (id) LIMIT cardinality(ids)) AS k  -- see sluice.store.db
      JOIN deliveries d ON d.id = k.id
      JOIN messages m ON m.id = d.message_id
$$;
REVOKE ALL ON FUNCTION addresses_of_deliveries FROM PUBLIC;

-- Bulk jobs: one message for many recipients. An upload is stored in chunks, and each chunk becomes messages in one
-- transaction, which also writes what became of its rows.

CREATE TABLE bulk_jobs (
    id          uuid NOT NULL PRIMARY KEY,
    project_id  uuid NOT NULL,
    sandbox     boolean NOT NULL,
    status      text NOT NULL,         -- a value of sluice.store.bulk_jobs.JobStatus
    message     text NOT NULL,         -- JSON: the fields that all messages have
    recipients  integer NOT NULL,      -- rows of the upload
    accepted    integer NOT NULL DEFAULT 0,
    rejected    integer NOT NULL DEFAULT 0,
    created_by  uuid,                  -- the key or user
    created_at  timestamptz NOT NULL,
    served_at   timestamptz NOT NULL,  -- when a chunk of it was processed last
    finished_at timestamptz
) PARTITION BY RANGE (id);
CREATE INDEX bulk_jobs_project_idx ON bulk_jobs (project_id, sandbox, id);
CREATE INDEX bulk_jobs_open_idx ON bulk_jobs (id) WHERE finished_at IS NULL;

CREATE TABLE bulk_chunks (
    job_id      uuid NOT NULL,
    number      integer NOT NULL,
    project_id  uuid NOT NULL,
    first_row   integer NOT NULL,      -- of the upload, from 1
    rows        text NOT NULL,         -- JSON of the rows; empty once they are messages
    recipients  text[],                -- of each row
    message_ids uuid[],                -- of each row, null for one without a message; null until the chunk is processed
    errors      text,                  -- JSON: error by position of its row
    is_cancelled boolean NOT NULL DEFAULT false,
    PRIMARY KEY (job_id, number)
) PARTITION BY RANGE (job_id);
CREATE INDEX bulk_chunks_waiting_idx ON bulk_chunks (job_id, number) WHERE message_ids IS NULL;

-- Dead letters: what the topic dead.letters contains, without the bytes of its records. A projection of the
-- event-worker; `sluice dead-letters` replays and discards.

CREATE TABLE dead_letters (
    id               uuid PRIMARY KEY,   -- from the coordinates of the letter: a repeated record is one row
    project_id       uuid,               -- null: not known, for the operator only
    kind             text NOT NULL,      -- 'invalid_record' or 'failed_delivery'
    status           text NOT NULL,      -- 'open', 'replayed' or 'discarded'
    reason           text NOT NULL,
    topic            text,               -- of an invalid record, with its partition and offset
    partition        integer,
    record_offset    bigint,
    delivery_id      uuid,               -- of a failed delivery
    message_id       uuid,
    letter_partition integer NOT NULL,   -- where the letter is on dead.letters
    letter_offset    bigint NOT NULL,
    occurred_at      timestamptz NOT NULL,
    resolved_at      timestamptz
);
CREATE INDEX dead_letters_project_idx ON dead_letters (project_id, id);
CREATE INDEX dead_letters_age_idx ON dead_letters (occurred_at);

-- Receipts by provider: whether they still come, counted in batches. One row for each provider that was used.

CREATE TABLE provider_receipts (
    provider_id    uuid PRIMARY KEY REFERENCES providers (id) ON DELETE CASCADE,
    project_id     uuid NOT NULL,
    received_at    timestamptz,                  -- the newest receipt; null: none ever
    accepted_from  timestamptz,                  -- the first attempt that the provider accepted since
    accepted_count integer NOT NULL DEFAULT 0,   -- attempts that it accepted since
    silent_since   timestamptz,                  -- when it was noticed that receipts have stopped
    refused_at     timestamptz,                  -- the newest webhook request without a valid signature
    refused_count  integer NOT NULL DEFAULT 0    -- such requests since the newest receipt
);

-- Refresh tokens of the project API that were exchanged: one that comes again was copied, and ends its session.

CREATE TABLE used_refresh_tokens (
    token_hash bytea PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE
);
CREATE INDEX used_refresh_tokens_session_idx ON used_refresh_tokens (session_id);

-- Channel configurations. A group without a row sends, and has no sender of its own.

CREATE TABLE channel_configs (
    project_id    uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    channel_group text NOT NULL,         -- 'email', 'message' or 'push'
    enabled       boolean NOT NULL,      -- false: new messages of the group are refused
    sender_email  text,                  -- of e-mail: the default sender of the project API
    sender_name   text,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (project_id, channel_group)
);
CREATE TRIGGER notify_config_change AFTER INSERT OR UPDATE OR DELETE ON channel_configs
   FOR EACH ROW EXECUTE FUNCTION notify_config_change();

-- Devices: to whom push notifications of a user go. The digest of a token is its key, because an index holds no token of
-- any length.

CREATE TABLE devices (
    project_id    uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    token_digest  bytea NOT NULL,          -- SHA-256
    token         text NOT NULL,
    user_id       text NOT NULL,           -- the project's own name of the user
    provider      text NOT NULL,           -- the name of the package in the project API
    platform      text,
    created_at    timestamptz NOT NULL,
    registered_at timestamptz NOT NULL,    -- last
    PRIMARY KEY (project_id, token_digest)
);
CREATE INDEX devices_user_idx ON devices (project_id, user_id, registered_at);

-- Analytics: what became of the deliveries of an hour or a day, by the time of their acceptance. A projection of the
-- event-worker; `sluice analytics rebuild` makes it again from the deliveries.

CREATE TABLE analytics_rollups (
    project_id  uuid NOT NULL,
    sandbox     boolean NOT NULL,
    interval    text NOT NULL,         -- 'hour' or 'day', in UTC
    tag         text NOT NULL,         -- '': all messages, with tags and without
    starts_at   timestamptz NOT NULL,
    channel     text NOT NULL,
    provider_id uuid NOT NULL,         -- all zeros: none
    settled     bigint NOT NULL,       -- the counts of sluice.model.analytics
    sent        bigint NOT NULL,
    delivered   bigint NOT NULL,
    failed      bigint NOT NULL,
    unconfirmed bigint NOT NULL,
    bounced     bigint NOT NULL,
    complained  bigint NOT NULL,
    opened      bigint NOT NULL,
    clicked     bigint NOT NULL,
    failovers   bigint NOT NULL,
    accept_to_sent    numeric NOT NULL,  -- histograms: the durations of bucket b are digit b in base 10^12
    sent_to_delivered numeric NOT NULL,
    PRIMARY KEY (project_id, sandbox, interval, tag, starts_at, channel, provider_id)
) WITH (fillfactor = 50);  -- the rows of the current hour and day change with every batch
CREATE INDEX analytics_rollups_age_idx ON analytics_rollups (interval, starts_at);
-- For all tags of a range.
CREATE INDEX analytics_rollups_tags_idx ON analytics_rollups (project_id, sandbox, interval, starts_at) WHERE tag <> '';

-- How many events of a delivery are counted. A batch that finds another number than it has read begins again.
CREATE TABLE analytics_progress (
    delivery_id uuid NOT NULL PRIMARY KEY,
    sequence    smallint NOT NULL,     -- of the newest event that is counted
    previous    smallint NOT NULL      -- the one before
) PARTITION BY RANGE (delivery_id);

CREATE FUNCTION add_histograms(a integer[], b integer[])
RETURNS integer[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN cardinality(b) = 0 THEN a
                WHEN cardinality(a) = 0 THEN b
                ELSE ARRAY(SELECT coalesce(h.x, 0) + coalesce(h.y, 0) FROM unnest(a, b) AS h (x, y)) END
$$;

-- Health: what the health service published about each provider. A projection of the event-worker, in which an older
-- record changes nothing.

CREATE TABLE provider_statuses (
    provider_id     uuid PRIMARY KEY REFERENCES providers (id) ON DELETE CASCADE,
    project_id      uuid NOT NULL,
    status          text NOT NULL,     -- healthy, degraded, unhealthy
    reason          text NOT NULL,
    changed_at      timestamptz,       -- when the status was reached; null: it was never another one
    full_share_at   timestamptz,       -- of a provider that has returned: the end of its ramp
    suspended_until timestamptz,
    seed_status     text NOT NULL,     -- the same by the seed rule, which counts where a project has chosen it
    seed_reason     text NOT NULL,
    seed_changed_at timestamptz,
    updated_at      timestamptz NOT NULL
);

-- The providers with the status that counts by the policy of their project. Faulty: not healthy, or possibly suspended.
CREATE VIEW provider_faults AS
SELECT p.id AS provider_id, p.project_id, p.channel, p.enabled, v.suspended_until,
       p.deleted_at IS NOT NULL OR j.deleted_at IS NOT NULL AS removed,
       CASE WHEN j.routing_policy = 'seed' THEN v.seed_status ELSE v.status END AS status,
       CASE WHEN j.routing_policy = 'seed' THEN v.seed_reason ELSE v.reason END AS reason,
       CASE WHEN j.routing_policy = 'seed' THEN v.seed_changed_at ELSE v.changed_at END AS since,
       CASE WHEN j.routing_policy = 'seed' THEN NULL ELSE v.full_share_at END AS full_share_at,
       p.enabled AND p.deleted_at IS NULL AND j.deleted_at IS NULL
       AND (v.status = 'unhealthy' OR v.seed_status = 'unhealthy' OR v.suspended_until > v.updated_at) AS is_faulty
  FROM provider_statuses v
  JOIN providers p ON p.id = v.provider_id
  JOIN projects j ON j.id = p.project_id;

-- Every change of a status.
CREATE TABLE health_changes (
    provider_id uuid NOT NULL REFERENCES providers (id) ON DELETE CASCADE,
    occurred_at timestamptz NOT NULL,
    project_id  uuid NOT NULL,
    status      text NOT NULL,
    reason      text NOT NULL,
    error_rate  real NOT NULL,
    PRIMARY KEY (provider_id, occurred_at)
);
CREATE INDEX health_changes_age_idx ON health_changes (occurred_at);

-- The worst of each five minutes.
CREATE TABLE health_steps (
    provider_id uuid NOT NULL REFERENCES providers (id) ON DELETE CASCADE,
    step_at     timestamptz NOT NULL,  -- its beginning
    project_id  uuid NOT NULL,
    status      text NOT NULL,
    error_rate  real NOT NULL,
    samples     real NOT NULL,         -- effective number of attempts behind the highest rate
    PRIMARY KEY (provider_id, step_at)
);
CREATE INDEX health_steps_age_idx ON health_steps (step_at);

-- Incidents: times in which a provider of a channel does not work. One at most is open for each channel of a project.

CREATE TABLE incidents (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    channel         text NOT NULL,
    opened_at       timestamptz NOT NULL,
    resolved_at     timestamptz,
    cause           text NOT NULL,          -- the reason of the first provider
    none_left_at    timestamptz,            -- the first time at which the channel had no provider left
    none_left_until timestamptz,            -- null while it has none
    acknowledged_at   timestamptz,
    acknowledged_kind text,                 -- an actor, as in the audit log
    acknowledged_by   uuid,
    touched         integer NOT NULL DEFAULT 0,  -- deliveries, as of counted_at; the rest by what became of them
    masked          integer NOT NULL DEFAULT 0,
    late            integer NOT NULL DEFAULT 0,
    failed          integer NOT NULL DEFAULT 0,
    unconfirmed     integer NOT NULL DEFAULT 0,
    doubled         integer NOT NULL DEFAULT 0,
    waiting         integer NOT NULL DEFAULT 0,
    counted_at      timestamptz
);
CREATE UNIQUE INDEX incidents_once_open ON incidents (project_id, channel) WHERE resolved_at IS NULL;
CREATE INDEX incidents_project_idx ON incidents (project_id, id);
CREATE INDEX incidents_resolved_idx ON incidents (resolved_at);

-- The providers that did not work.
CREATE TABLE incident_providers (
    incident_id uuid NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    provider_id uuid NOT NULL,
    project_id  uuid NOT NULL,
    reason      text NOT NULL,
    began_at    timestamptz NOT NULL,
    ended_at    timestamptz,            -- null while it does not work; a relapse sets it to null again
    ending      text,                   -- 'recovered', 'disabled' or 'removed'
    noticed_at  timestamptz NOT NULL,
    searched_at timestamptz,            -- when the deliveries were looked for that it touched before it was noticed
    PRIMARY KEY (incident_id, provider_id)
);
CREATE INDEX incident_providers_unsearched_idx ON incident_providers (noticed_at) WHERE searched_at IS NULL;

-- What people write about an incident.
CREATE TABLE incident_notes (
    id          uuid PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    project_id  uuid NOT NULL,
    actor_kind  text NOT NULL,
    actor_id    uuid,
    text        text NOT NULL,
    created_at  timestamptz NOT NULL
);
CREATE INDEX incident_notes_idx ON incident_notes (incident_id, id);

-- One for each time a provider stops or begins to work, for webhooks: their delivery_id is the id of a notice.
CREATE TABLE incident_notices (
    id          uuid PRIMARY KEY,
    incident_id uuid NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    provider_id uuid NOT NULL,
    project_id  uuid NOT NULL,
    channel     text NOT NULL,
    status      text NOT NULL,          -- 'unhealthy', 'suspended', 'healthy', 'disabled' or 'removed'
    reason      text NOT NULL,
    incident    text NOT NULL,          -- 'open' or 'resolved', with this change
    occurred_at timestamptz NOT NULL
);

-- The deliveries that an incident has touched, each once, in the partition of the delivery. What became of them follows
-- from their events.
CREATE TABLE incident_deliveries (
    delivery_id uuid NOT NULL,
    incident_id uuid NOT NULL,
    project_id  uuid NOT NULL,
    message_id  uuid NOT NULL,
    settled     boolean NOT NULL,       -- none of the rest changes before it is
    masked      boolean NOT NULL,       -- another provider accepted it
    late        boolean NOT NULL,       -- accepted more than five seconds after it was due
    failed      boolean NOT NULL,       -- FAILED or EXPIRED
    unconfirmed boolean NOT NULL,
    doubled     boolean NOT NULL,       -- it may have arrived twice
    PRIMARY KEY (delivery_id, incident_id)
) PARTITION BY RANGE (delivery_id);
CREATE INDEX incident_deliveries_idx ON incident_deliveries (incident_id, message_id);

