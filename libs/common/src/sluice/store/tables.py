"""The tables and functions of the schema: what each login may do with them, and which rows it sees.

A new table gets its line here, in the same change as its migration. `sluice migrate` grants exactly these privileges
and creates the policies; see CONTRIBUTING.md, "a migration".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluice.model.analytics import Count, Duration
from sluice.store.logins import EVENT_WORKER, GATEWAY, LOGINS, OPERATOR, ROUTER, WORKER, Login


@dataclass(frozen=True, slots=True)
class Table:
    """One table (or view) with its privileges by login, as in ``GRANT``; a login without an entry may do nothing.

    ``project``: the column with the project, by which row-level security decides; None if no column has one.
    ``read_whole_by``: logins that read the rows of all projects, as long as their transaction has none.
    ``has_rows_without_project``: the column may be null; every login with privileges sees these rows.
    """

    name: str
    grants: Mapping[Login, str]
    project: str | None = "project_id"
    read_whole_by: frozenset[Login] = frozenset()
    has_rows_without_project: bool = False


_GATEWAY = frozenset({GATEWAY})
_SETTLED_COLUMNS = (
    "state, attempt_count, last_event_sequence, retry_round, unknown_attempts, in_flight, provider_id, due_at,"
    " enqueued_at"
)
_PROVIDER_COLUMNS = (
    "name, priority, enabled, encrypted_credentials, credentials_version, settings, version, updated_at, deleted_at"
)
_ROLLUP_COLUMNS = ", ".join((*Count, *Duration))
_INSERTS = dict.fromkeys((GATEWAY, ROUTER, WORKER), "SELECT, INSERT")

TABLES = (
    Table("organizations", {GATEWAY: "INSERT", OPERATOR: "SELECT, INSERT"}, project=None),
    Table(
        "projects",
        {
            GATEWAY: "SELECT, INSERT,"
            " UPDATE (slug, name, default_sender, routing_policy, verified_senders_only, deleted_at, has_suppressions)",
            ROUTER: "SELECT, UPDATE (contents_erased_to)",
            WORKER: "SELECT",
            EVENT_WORKER: "SELECT (id, slug, deleted_at, has_suppressions),"  # slug: for notices
            " UPDATE (has_suppressions)",
            OPERATOR: "SELECT, INSERT, UPDATE (content_retention_days, contents_erased_to)",
        },
        project="id",
        read_whole_by=_GATEWAY,  # before it knows the project
    ),
    Table(
        "api_keys",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (name, is_active, deleted_at)",
            ROUTER: "SELECT",
            WORKER: "SELECT",
            OPERATOR: "SELECT, INSERT, UPDATE (is_active, deleted_at)",
        },
        read_whole_by=_GATEWAY,  # before it knows the project
    ),
    Table(
        "providers",
        {
            GATEWAY: f"SELECT, INSERT, UPDATE ({_PROVIDER_COLUMNS})",
            ROUTER: "SELECT",
            WORKER: "SELECT",
            EVENT_WORKER: "SELECT (id, project_id, package, channel, enabled, deleted_at)",
            OPERATOR: "SELECT, INSERT, UPDATE (encrypted_credentials)",
        },
        read_whole_by=_GATEWAY,  # before it knows the project
    ),
    Table(
        "channel_configs",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (enabled, sender_email, sender_name, updated_at), DELETE",
            ROUTER: "SELECT",
            WORKER: "SELECT",
        },
        read_whole_by=_GATEWAY,  # before it knows the project
    ),
    # The router has no privilege on contents: retention erases them through a function.
    Table(
        "messages",
        {
            GATEWAY: "SELECT, INSERT",
            WORKER: "SELECT",
            EVENT_WORKER: "SELECT (id, tags, metadata, idempotency_key, created_at, send_at)",
            OPERATOR: "SELECT",
        },
    ),
    Table("message_terms", {GATEWAY: "SELECT, INSERT"}),
    Table(
        "deliveries",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (state, due_at, last_event_sequence)",
            **dict.fromkeys((ROUTER, WORKER), f"SELECT, INSERT, UPDATE ({_SETTLED_COLUMNS}, recipient, envelope)"),
            EVENT_WORKER: "SELECT (id, message_id, project_id, sandbox, channel, recipient, envelope, state, due_at,"
            " preferred_provider_id)",
            OPERATOR: "SELECT",
        },
    ),
    Table(
        "attempts",
        {
            GATEWAY: "SELECT",
            **dict.fromkeys(
                (ROUTER, WORKER),
                "SELECT, INSERT, UPDATE (finished_at, outcome, error, provider_message_id, scope, retry_after_s,"
                " duration_ms)",
            ),
            EVENT_WORKER: "SELECT (delivery_id, number, project_id, provider_id, client_reference, routing_decision,"
            " started_at, finished_at, outcome, cost)",
            OPERATOR: "SELECT",
        },
    ),
    Table(
        "events",
        {
            **_INSERTS,
            EVENT_WORKER: "SELECT (delivery_id, sequence, project_id, type, state, occurred_at, attempt, provider_id,"
            " reason, detail, recipient)",
            OPERATOR: "SELECT",
        },
    ),
    Table("receipts", _INSERTS),
    Table("receipt_ids", {**_INSERTS, GATEWAY: "SELECT"}, project=None),  # ids of deliveries only
    Table(
        "receipt_tokens",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (received_at)",
            ROUTER: "SELECT (provider_id, token, received_at), DELETE",
            OPERATOR: "SELECT (provider_id, token, received_at), DELETE",
        },
        project=None,
    ),
    Table(
        "event_outbox",
        {
            GATEWAY: "SELECT (id), INSERT, DELETE",
            ROUTER: "SELECT, INSERT, UPDATE (retry_at), DELETE",
            WORKER: "SELECT (id), INSERT, DELETE",
            OPERATOR: "SELECT",
        },
        project=None,  # ids of deliveries only
    ),
    Table(
        "idempotency_keys",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (fingerprint, message_id, expires_at)",
            ROUTER: "SELECT, UPDATE (expires_at), DELETE",  # UPDATE: for FOR UPDATE SKIP LOCKED
        },
    ),
    Table(
        "attachments",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (used_at)",
            ROUTER: "SELECT (project_id, sha256, used_at), DELETE",
            WORKER: "SELECT",
            OPERATOR: "SELECT (project_id, sha256, used_at), DELETE",
        },
    ),
    Table(
        "sandbox_messages",
        {
            GATEWAY: "SELECT, DELETE",
            ROUTER: "SELECT (reference, captured_at), DELETE",
            WORKER: "SELECT (project_id, reference, receipts, receipts_due_at), INSERT, UPDATE (receipts_due_at)",
            OPERATOR: "SELECT, DELETE",
        },
    ),
    # Views, for counts of all projects.
    Table("dispatch_queue", {GATEWAY: "SELECT", ROUTER: "SELECT"}, project=None),
    Table("attachment_bytes", {GATEWAY: "SELECT"}, project=None),
    Table(
        "project_usage",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (messages, urgent)",
            ROUTER: "SELECT (day), DELETE",
            OPERATOR: "SELECT, DELETE",
        },
        read_whole_by=_GATEWAY,  # it compares every project with its quota
    ),
    Table(
        "bus_disagreements",
        {
            ROUTER: "SELECT, INSERT, UPDATE (count, last_seen_at), DELETE",
            WORKER: "SELECT, INSERT, UPDATE (count, last_seen_at), DELETE",
            OPERATOR: "SELECT",
        },
        project=None,  # ids of deliveries only
    ),
    Table(
        "users",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (password_hash, name, is_confirmed)",
            EVENT_WORKER: "SELECT (id, email)",  # for notices
            OPERATOR: "SELECT, INSERT",
        },
        project=None,
    ),
    Table("sessions", {GATEWAY: "SELECT, INSERT, UPDATE (token_hash, last_used_at), DELETE"}, project=None),
    Table("used_refresh_tokens", {GATEWAY: "SELECT, INSERT"}, project=None),
    Table(
        "memberships",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (role), DELETE",
            EVENT_WORKER: "SELECT (project_id, user_id, role)",  # for notices
            OPERATOR: "SELECT, INSERT",
        },
    ),
    Table(
        "invitations",
        {
            GATEWAY: "SELECT, INSERT, DELETE, UPDATE (id, email, role, token_hash, invited_by, created_at, expires_at)",
        },
    ),
    Table(
        "login_links",
        {GATEWAY: "SELECT, INSERT, DELETE", OPERATOR: "SELECT (user_id, purpose), INSERT, DELETE"},
        project=None,
    ),
    Table(
        "domains",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (statuses, checked_at), DELETE",
            **dict.fromkeys((ROUTER, WORKER), "SELECT (project_id, domain, statuses)"),  # for their ConfigCache
        },
        read_whole_by=_GATEWAY,  # its ConfigCache
    ),
    Table(
        "bulk_jobs",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (status, recipients, accepted, rejected, served_at, finished_at), DELETE",
            ROUTER: "SELECT (id, project_id, finished_at)",
            OPERATOR: "SELECT",
        },
        read_whole_by=_GATEWAY,  # it looks for jobs with waiting chunks
    ),
    Table(
        "bulk_chunks",
        {GATEWAY: "SELECT, INSERT, UPDATE (rows, recipients, message_ids, errors, is_cancelled), DELETE"},
    ),
    Table(
        "dead_letters",
        {
            GATEWAY: "SELECT",
            ROUTER: "SELECT (id, occurred_at), DELETE",
            EVENT_WORKER: "SELECT, INSERT",
            OPERATOR: "SELECT, UPDATE (status, resolved_at), DELETE",
        },
    ),
    Table(
        "audit_log",
        {GATEWAY: "SELECT, INSERT", EVENT_WORKER: "INSERT", OPERATOR: "SELECT, INSERT"},
        has_rows_without_project=True,
    ),
    Table("templates", {GATEWAY: "SELECT, INSERT, UPDATE (name, version, updated_at, deleted_at)"}),
    Table("template_versions", {GATEWAY: "SELECT, INSERT"}),
    Table(
        "suppressions",
        {
            GATEWAY: "SELECT, INSERT, DELETE",
            ROUTER: "SELECT (project_id, channel, address, reason)",
            EVENT_WORKER: "SELECT (project_id, channel, address), INSERT",
        },
    ),
    Table(
        "webhook_endpoints",
        {
            GATEWAY: "SELECT, INSERT, DELETE, UPDATE (url, description, events, channels, tags, enabled,"
            " disabled_reason, failing_since, updated_at)",
            EVENT_WORKER: "SELECT, UPDATE (enabled, disabled_reason, failing_since, updated_at)",
        },
    ),
    # The gateway shows a secret once, when it makes it, and cannot read it later.
    Table(
        "webhook_secrets",
        {
            GATEWAY: "SELECT (endpoint_id, project_id, version), INSERT, UPDATE (expires_at), DELETE",
            EVENT_WORKER: "SELECT",
            OPERATOR: "SELECT, UPDATE (encrypted_secret)",
        },
    ),
    Table(
        "webhook_deliveries",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (status, due_at, retry_step, finished_at)",
            EVENT_WORKER: "SELECT, INSERT, UPDATE (status, due_at, in_flight, attempt_count, retry_step, finished_at)",
        },
    ),
    Table("webhook_attempts", {GATEWAY: "SELECT", EVENT_WORKER: "INSERT"}),
    Table(
        "provider_receipts",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (refused_at, refused_count)",
            EVENT_WORKER: "SELECT, INSERT, UPDATE (received_at, accepted_from, accepted_count, silent_since,"
            " refused_at, refused_count)",
            OPERATOR: "SELECT",
        },
    ),
    Table(
        "devices",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (user_id, provider, platform, registered_at), DELETE",
            EVENT_WORKER: "SELECT (project_id, token_digest, registered_at), DELETE",
        },
    ),
    Table(
        "analytics_rollups",
        {
            GATEWAY: "SELECT",
            ROUTER: "SELECT (interval, starts_at), DELETE",
            EVENT_WORKER: f"SELECT, INSERT, UPDATE ({_ROLLUP_COLUMNS})",
            OPERATOR: f"SELECT, INSERT, UPDATE ({_ROLLUP_COLUMNS}), DELETE",
        },
    ),
    Table(
        "analytics_progress",
        {
            EVENT_WORKER: "SELECT, INSERT, UPDATE (sequence, previous)",
            OPERATOR: "SELECT, INSERT, UPDATE (sequence, previous), DELETE",
        },
        project=None,  # ids of deliveries only
    ),
    Table(
        "provider_statuses",
        {
            EVENT_WORKER: "SELECT, INSERT, UPDATE (status, reason, changed_at, full_share_at, suspended_until,"
            " seed_status, seed_reason, seed_changed_at, updated_at)",
        },
    ),
    Table("provider_faults", {EVENT_WORKER: "SELECT"}, project=None),  # a view, of all projects
    Table(
        "health_changes",
        {
            GATEWAY: "SELECT",
            EVENT_WORKER: "SELECT, INSERT",
            **dict.fromkeys((ROUTER, OPERATOR), "SELECT (occurred_at), DELETE"),
        },
    ),
    Table(
        "health_steps",
        {
            GATEWAY: "SELECT",
            EVENT_WORKER: "SELECT, INSERT, UPDATE (status, error_rate, samples)",
            **dict.fromkeys((ROUTER, OPERATOR), "SELECT (step_at), DELETE"),
        },
    ),
    Table(
        "incidents",
        {
            GATEWAY: "SELECT, UPDATE (acknowledged_at, acknowledged_kind, acknowledged_by)",
            EVENT_WORKER: "SELECT, INSERT, UPDATE (resolved_at, none_left_at, none_left_until, touched, masked, late,"
            " failed, unconfirmed, doubled, waiting, counted_at)",
            **dict.fromkeys((ROUTER, OPERATOR), "SELECT (resolved_at), DELETE"),
        },
    ),
    Table(
        "incident_providers",
        {
            GATEWAY: "SELECT",
            EVENT_WORKER: "SELECT, INSERT, UPDATE (ended_at, ending, noticed_at, searched_at)",
        },
    ),
    Table("incident_notes", {GATEWAY: "SELECT, INSERT"}),
    Table("incident_notices", {EVENT_WORKER: "SELECT, INSERT"}),
    Table(
        "incident_deliveries",
        {
            GATEWAY: "SELECT",
            EVENT_WORKER: "SELECT, INSERT, UPDATE (settled, masked, late, failed, unconfirmed, doubled)",
        },
    ),
    Table("schema_migrations", dict.fromkeys(LOGINS, "SELECT"), project=None),
)

FUNCTIONS: Mapping[str, tuple[Login, ...]] = {
    # With the rights of the owner of the tables: see the migration.
    "create_partition": (ROUTER,),
    "drop_week": (ROUTER, OPERATOR),
    "delete_strays": (ROUTER, OPERATOR),
    "erase_contents": (ROUTER, OPERATOR),  # of programs before 0009_bounded_erasure.sql
    "erase_next_contents": (ROUTER, OPERATOR),
    "erase_bulk_contents": (ROUTER, OPERATOR),
    "delete_of_deleted_projects": (ROUTER, OPERATOR),
    "drop_credentials": (ROUTER, OPERATOR),
    "roles_of_user": (GATEWAY,),
    "project_of_invitation": (GATEWAY,),
    "addresses_of_deliveries": (ROUTER, EVENT_WORKER),
}
"""The functions that are not for every login, with those that may call them."""
