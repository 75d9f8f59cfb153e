"""The logins of the roles in PostgreSQL: what each may do, and the rows that it sees.

`sluice migrate` creates the logins and gives them exactly these privileges, whatever they had before. The owner of the
tables is the login that migrates; no role runs as the owner.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from sluice.runtime.errors import SluiceError

PROJECT_IDS = "sluice.project_ids"
"""The setting of PostgreSQL with the projects whose rows a login sees: an array of ids, for one transaction."""

# The column that row-level security compares, by table. receipt_ids and event_outbox hold ids of deliveries only.
PROJECT_COLUMNS = {
    "projects": "id",
    "api_keys": "project_id",
    "providers": "project_id",
    "messages": "project_id",
    "deliveries": "project_id",
    "attempts": "project_id",
    "events": "project_id",
    "receipts": "project_id",
    "idempotency_keys": "project_id",
    "attachments": "project_id",
    "sandbox_messages": "project_id",
}


@dataclass(frozen=True, slots=True)
class Login:
    """One login: its privileges by table (or view), the functions that it may call, and the tables that it sees whole.

    Of the other tables with a project it sees the rows of the projects in ``sluice.project_ids``: none by default.
    """

    name: str
    privileges: Mapping[str, str] = field(default_factory=dict)
    functions: tuple[str, ...] = ()
    whole_tables: frozenset[str] = frozenset()


_CONFIGURATION = {"projects": "SELECT", "api_keys": "SELECT", "providers": "SELECT"}
_ALL_TABLES = frozenset(PROJECT_COLUMNS)
_SETTLEMENT = {  # sluice.store.deliveries.transition, receipts.apply, outbox
    "deliveries": "SELECT, UPDATE (state, attempt_count, last_event_sequence, retry_round, unknown_attempts, in_flight,"
    " provider_id, due_at, enqueued_at)",
    "attempts": "SELECT, UPDATE (finished_at, outcome, error, provider_message_id)",
    "events": "SELECT, INSERT",
    "receipts": "SELECT, INSERT",
    "receipt_ids": "SELECT, INSERT",
}

GATEWAY = Login(
    "sluice_gateway",
    _CONFIGURATION
    | {
        "messages": "SELECT, INSERT",
        "deliveries": "SELECT, INSERT, UPDATE (state, due_at, last_event_sequence)",
        "attempts": "SELECT",
        "events": "SELECT, INSERT",
        "receipts": "SELECT, INSERT",
        "receipt_ids": "SELECT",
        "event_outbox": "SELECT (id), INSERT, DELETE",
        "idempotency_keys": "SELECT, INSERT, UPDATE (fingerprint, message_id, expires_at)",
        "attachments": "INSERT",
        "dispatch_queue": "SELECT",
    },
    # It has to know every key before it knows a project.
    whole_tables=frozenset(_CONFIGURATION),
)
ROUTER = Login(
    "sluice_router",
    _CONFIGURATION
    | _SETTLEMENT
    | {
        "event_outbox": "SELECT, INSERT, UPDATE (retry_at), DELETE",
        "idempotency_keys": "SELECT, UPDATE (expires_at), DELETE",  # UPDATE: for FOR UPDATE SKIP LOCKED
        "dispatch_queue": "SELECT",
    },
    ("create_partition",),
    _ALL_TABLES,
)
WORKER = Login(
    "sluice_worker",
    _CONFIGURATION
    | _SETTLEMENT
    | {
        "messages": "SELECT",
        "attempts": "SELECT, INSERT, UPDATE (finished_at, outcome, error, provider_message_id)",
        "event_outbox": "SELECT (id), INSERT, DELETE",
        "attachments": "SELECT",
        "sandbox_messages": "INSERT",
    },
    whole_tables=_ALL_TABLES,
)
HEALTH = Login("sluice_health")
EVENT_WORKER = Login("sluice_event_worker")
OPERATOR = Login(
    "sluice_operator",  # the commands of the `sluice` program
    {
        "organizations": "SELECT, INSERT",
        "projects": "SELECT, INSERT",
        "api_keys": "SELECT, INSERT, UPDATE (is_active)",  # by hand: see SECURITY.md
        "providers": "SELECT, INSERT, UPDATE (encrypted_credentials)",
        "messages": "SELECT",
        "deliveries": "SELECT",
        "attempts": "SELECT",
        "events": "SELECT",
        "event_outbox": "SELECT",
        "sandbox_messages": "SELECT",
    },
    whole_tables=_ALL_TABLES,
)

LOGINS = (GATEWAY, ROUTER, WORKER, HEALTH, EVENT_WORKER, OPERATOR)


def password_setting(name: str) -> str:
    """The environment variable with the password of a login: ``SLUICE_POSTGRES_PASSWORD_GATEWAY``."""
    return f"SLUICE_POSTGRES_PASSWORD_{name.removeprefix('sluice_').upper()}"


def read_passwords(environment: Mapping[str, str]) -> dict[str, str]:
    """The passwords in the environment, by the name of the login.

    Raises:
        SluiceError: one is not printable ASCII; the sentence names the variable.
    """
    found = {login.name: environment.get(password_setting(login.name), "") for login in LOGINS}
    for name, password in found.items():
        if not (password.isascii() and password.isprintable()):
            raise SluiceError(f"{password_setting(name)} must consist of printable ASCII characters")
    return {name: password for name, password in found.items() if password}


def with_login(dsn: str, name: str, password: str | None) -> str:
    """The address of the same database for another login."""
    parts = urlsplit(dsn)
    secret = f":{quote(password, safe='')}" if password else ""
    return parts._replace(netloc=f"{name}{secret}@{parts.netloc.rpartition('@')[2]}").geturl()


def scram_verifier(password: str) -> str:
    """What PostgreSQL stores of an ASCII password with SCRAM-SHA-256 (RFC 5803), with a random salt."""
    salt, iterations = secrets.token_bytes(16), 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    texts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{texts[0]}${texts[1]}:{texts[2]}"
