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

import asyncpg

from sluice.runtime.errors import SluiceError
from sluice.store.db import PROJECT_IDS, connect

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

# Empty after the first transaction that has set it, null before that. A subquery, so that it is read once per
# statement and not once per row.
_OWN_ROWS = f"= ANY ((SELECT nullif(current_setting('{PROJECT_IDS}', true), '')::uuid[])::uuid[])"


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
        "api_keys": "SELECT, INSERT",
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


async def create_logins(connection: asyncpg.Connection, dsn: str, passwords: Mapping[str, str]) -> None:
    """Create the missing logins, and give those named in ``passwords`` their password. ``dsn`` is the owner's.

    Raises:
        SluiceError: the owner may not create or change a login; the text has the statements for an administrator.
    """
    rows = await connection.fetch(
        "SELECT rolname, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb AS powerful FROM pg_roles"
        " WHERE rolname = ANY($1::text[])",
        [login.name for login in LOGINS],
    )
    existing = {row["rolname"] for row in rows}
    if powerful := [row["rolname"] for row in rows if row["powerful"]]:
        raise SluiceError(
            f"the login {powerful[0]} has attributes that no role may have: "
            f"ALTER ROLE {powerful[0]} NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB"
        )
    missing = [login.name for login in LOGINS if login.name not in existing]
    for name in missing:
        try:
            await connection.execute(f"CREATE ROLE {name} {_ATTRIBUTES}")
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            pass  # the migration of another database of this server has created it
        except asyncpg.InsufficientPrivilegeError:
            raise SluiceError(_statements(missing)) from None
    for name, password in passwords.items():
        await _set_password(connection, dsn, name, password)


_ATTRIBUTES = "LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION"


def _statements(names: list[str]) -> str:
    lines = "\n".join(f"  CREATE ROLE {name} {_ATTRIBUTES} PASSWORD '...';" for name in names)
    return (
        "the login in SLUICE_POSTGRES_OWNER_DSN may not create logins: give it CREATEROLE, or run these statements as "
        f"an administrator, each with a password of its own, and then `sluice migrate` again:\n{lines}"
    )


async def _set_password(connection: asyncpg.Connection, dsn: str, name: str, password: str) -> None:
    """PostgreSQL receives only the verifier, so that no log of statements contains the password."""
    try:
        await connection.execute(f"ALTER ROLE {name} PASSWORD '{scram_verifier(password)}'")
    except asyncpg.InsufficientPrivilegeError:
        # An administrator has created the login: the password is right if it opens a connection.
        if await _can_log_in(with_login(dsn, name, password)):
            return
        raise SluiceError(
            f"{password_setting(name)} is not the password of {name}, and the login in SLUICE_POSTGRES_OWNER_DSN may "
            f"not change it: let an administrator run ALTER ROLE {name} PASSWORD '...'"
        ) from None


async def _can_log_in(dsn: str) -> bool:
    try:
        connection = await connect(dsn, timeout=10.0)
    except SluiceError:
        return False
    await connection.close()
    return True


def scram_verifier(password: str) -> str:
    """What PostgreSQL stores of an ASCII password with SCRAM-SHA-256 (RFC 5803), with a random salt."""
    salt, iterations = secrets.token_bytes(16), 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    texts = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{texts[0]}${texts[1]}:{texts[2]}"


async def grant_privileges(connection: asyncpg.Connection) -> None:
    """Give every login its privileges and policies, in one transaction; what it had besides is revoked."""
    async with connection.transaction():
        await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        for login in LOGINS:
            await connection.execute(_grants(login))
        wanted = {policy.key: policy for policy in _policies()}
        rows = await connection.fetch(
            "SELECT tablename, policyname FROM pg_policies WHERE schemaname = 'public' AND tablename = ANY($1::text[])",
            list(PROJECT_COLUMNS),
        )
        for table in PROJECT_COLUMNS:
            # Only where it is missing: each of these statements locks the table.
            await connection.execute(_FORCE_ROW_SECURITY.format(table=table))
        existing = {(row["tablename"], row["policyname"]) for row in rows}
        for table, name in existing - set(wanted):
            await connection.execute(f'DROP POLICY "{name}" ON {table}')
        for key in set(wanted) - existing:
            await connection.execute(wanted[key].statement)


_FORCE_ROW_SECURITY = """
    DO $$ BEGIN
        IF NOT (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = 'public.{table}'::regclass) THEN
            ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        END IF;
    END $$
"""


def _grants(login: Login) -> str:
    name = login.name
    return ";".join(
        [
            f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {name}",
            f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {name}",
            f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM {name}",
            f"GRANT USAGE ON SCHEMA public TO {name}",
            *(f"GRANT {privileges} ON public.{table} TO {name}" for table, privileges in login.privileges.items()),
            *(f"GRANT EXECUTE ON FUNCTION public.{function} TO {name}" for function in login.functions),
        ]
    )


@dataclass(frozen=True, slots=True)
class _Policy:
    table: str
    name: str
    role: str
    rows: str

    @property
    def key(self) -> tuple[str, str]:
        return self.table, self.name

    @property
    def statement(self) -> str:
        return f"CREATE POLICY {self.name} ON public.{self.table} TO {self.role} USING ({self.rows})"


def _policies() -> list[_Policy]:
    """One policy for each login and table that it has privileges on, and one for the owner.

    The name contains the kind, so that a login whose kind changes gets a new policy.
    """
    policies = [_Policy(table, "owner", "CURRENT_USER", "true") for table in PROJECT_COLUMNS]
    for login in LOGINS:
        for table in login.privileges.keys() & PROJECT_COLUMNS.keys():
            whole = table in login.whole_tables
            name = f"{login.name}_{'all' if whole else 'own'}"
            rows = "true" if whole else f"{PROJECT_COLUMNS[table]} {_OWN_ROWS}"
            policies.append(_Policy(table, name, login.name, rows))
    return policies
