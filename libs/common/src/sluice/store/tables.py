"""The tables and functions of the schema: what each login may do with them, and which rows it sees.

A new table gets its line here, in the same change as its migration. `sluice migrate` grants exactly these privileges
and creates the policies; see CONTRIBUTING.md, "a migration".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sluice.store.logins import GATEWAY, OPERATOR, ROUTER, WORKER, Login


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
_INSERTS = dict.fromkeys((GATEWAY, ROUTER, WORKER), "SELECT, INSERT")

TABLES = (
    Table("organizations", {GATEWAY: "INSERT", OPERATOR: "SELECT, INSERT"}, project=None),
    Table(
        "projects",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (slug, name, default_sender, routing_policy, deleted_at)",
            ROUTER: "SELECT, UPDATE (contents_erased_to)",
            WORKER: "SELECT",
            OPERATOR: "SELECT, INSERT, UPDATE (content_retention_days, contents_erased_to)",
        },
        project="id",
        read_whole_by=_GATEWAY,  # before it knows the project
    ),
    Table(
        "api_keys",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (is_active)",
            ROUTER: "SELECT",
            WORKER: "SELECT",
            OPERATOR: "SELECT, INSERT, UPDATE (is_active)",
        },
        read_whole_by=_GATEWAY,  # before it knows the project
    ),
    Table(
        "providers",
        {
            GATEWAY: "SELECT, UPDATE (enabled, version, updated_at, deleted_at)",
            ROUTER: "SELECT",
            WORKER: "SELECT",
            OPERATOR: "SELECT, INSERT, UPDATE (encrypted_credentials)",
        },
        read_whole_by=_GATEWAY,  # before it knows the project
    ),
    # The router has no privilege on contents: retention erases them through a function.
    Table("messages", {GATEWAY: "SELECT, INSERT", WORKER: "SELECT", OPERATOR: "SELECT"}),
    Table(
        "deliveries",
        {
            GATEWAY: "SELECT, INSERT, UPDATE (state, due_at, last_event_sequence)",
            ROUTER: f"SELECT, UPDATE ({_SETTLED_COLUMNS})",
            WORKER: f"SELECT, INSERT, UPDATE ({_SETTLED_COLUMNS}, recipient, envelope)",
            OPERATOR: "SELECT",
        },
    ),
    Table(
        "attempts",
        {
            GATEWAY: "SELECT",
            ROUTER: "SELECT, UPDATE (finished_at, outcome, error, provider_message_id)",
            WORKER: "SELECT, INSERT, UPDATE (finished_at, outcome, error, provider_message_id)",
            OPERATOR: "SELECT",
        },
    ),
    Table("events", {**_INSERTS, OPERATOR: "SELECT"}),
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
            GATEWAY: "SELECT (project_id, sha256, used_at), INSERT, UPDATE (used_at)",
            ROUTER: "SELECT (project_id, sha256, used_at), DELETE",
            WORKER: "SELECT",
            OPERATOR: "SELECT (project_id, sha256, used_at), DELETE",
        },
    ),
    Table(
        "sandbox_messages",
        {ROUTER: "SELECT (reference, captured_at), DELETE", WORKER: "INSERT", OPERATOR: "SELECT, DELETE"},
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
        {GATEWAY: "SELECT, INSERT, UPDATE (password_hash, name)", OPERATOR: "SELECT, INSERT"},
        project=None,
    ),
    Table("sessions", {GATEWAY: "SELECT, INSERT, UPDATE (last_used_at), DELETE"}, project=None),
    Table("memberships", {GATEWAY: "SELECT, INSERT, UPDATE (role), DELETE", OPERATOR: "SELECT, INSERT"}),
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
        "audit_log",
        {GATEWAY: "SELECT, INSERT", OPERATOR: "SELECT, INSERT"},
        has_rows_without_project=True,
    ),
)

FUNCTIONS: Mapping[str, tuple[Login, ...]] = {
    # With the rights of the owner of the tables: see the migration.
    "create_partition": (ROUTER,),
    "drop_week": (ROUTER, OPERATOR),
    "delete_strays": (ROUTER, OPERATOR),
    "erase_contents": (ROUTER, OPERATOR),
    "roles_of_user": (GATEWAY,),
    "project_of_invitation": (GATEWAY,),
}
"""The functions that are not for every login, with those that may call them."""
