"""The logins with their privileges and policies in a database: what `sluice migrate` creates and grants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from sluice.runtime.errors import SluiceError
from sluice.store import logins
from sluice.store.db import connect
from sluice.store.logins import PROJECT_IDS, Login, password_setting, scram_verifier, with_login
from sluice.store.tables import FUNCTIONS, TABLES, Table

# Empty after the first transaction that has set it, null before that. A subquery, so that it is read once per
# statement and not once per row.
_SETTING = f"nullif(current_setting('{PROJECT_IDS}', true), '')"
_OWN_ROWS = f"= ANY ((SELECT {_SETTING}::uuid[])::uuid[])"
_NO_PROJECTS = f"(SELECT {_SETTING} IS NULL)"


async def create_logins(connection: asyncpg.Connection, dsn: str, passwords: Mapping[str, str]) -> None:
    """Create the missing logins, and give those named in ``passwords`` their password. ``dsn`` is the owner's.

    Raises:
        SluiceError: the owner may not create or change a login; the text has the statements for an administrator.
    """
    rows = await connection.fetch(
        "SELECT rolname, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb AS powerful FROM pg_roles"
        " WHERE rolname = ANY($1::text[])",
        [login.name for login in logins.LOGINS],
    )
    existing = {row["rolname"] for row in rows}
    if powerful := [row["rolname"] for row in rows if row["powerful"]]:
        raise SluiceError(
            f"the login {powerful[0]} has attributes that no role may have: "
            f"ALTER ROLE {powerful[0]} NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB"
        )
    missing = [login.name for login in logins.LOGINS if login.name not in existing]
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


async def grant_privileges(connection: asyncpg.Connection) -> None:
    """Give every login its privileges and policies, in one transaction; what it had besides is revoked."""
    async with connection.transaction():
        await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        for login in logins.LOGINS:
            await connection.execute(_grants(login))
        wanted = {policy.key: policy for policy in _policies()}
        rows = await connection.fetch(
            "SELECT tablename, policyname FROM pg_policies WHERE schemaname = 'public' AND tablename = ANY($1::text[])",
            [table.name for table in _TABLES_WITH_A_PROJECT],
        )
        for table in _TABLES_WITH_A_PROJECT:
            # Only where it is missing: each of these statements locks the table.
            await connection.execute(_FORCE_ROW_SECURITY.format(table=table.name))
        existing = {(row["tablename"], row["policyname"]) for row in rows}
        for table_name, name in existing - set(wanted):
            await connection.execute(f'DROP POLICY "{name}" ON {table_name}')
        for key in set(wanted) - existing:
            await connection.execute(wanted[key].statement)


_FORCE_ROW_SECURITY = """
    DO $$ BEGIN
        IF NOT (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = 'public.{table}'::regclass) THEN
            ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        END IF;
    END $$
"""


_TABLES_WITH_A_PROJECT = [table for table in TABLES if table.project is not None]


def _tables_of(login: Login) -> list[Table]:
    return [table for table in TABLES if login in table.grants]


def _grants(login: Login) -> str:
    name = login.name
    return ";".join(
        [
            f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {name}",
            f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {name}",
            f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM {name}",
            f"GRANT USAGE ON SCHEMA public TO {name}",
            *(f"GRANT {table.grants[login]} ON public.{table.name} TO {name}" for table in _tables_of(login)),
            *(f"GRANT EXECUTE ON FUNCTION public.{one} TO {name}" for one, who in FUNCTIONS.items() if login in who),
        ]
    )


@dataclass(frozen=True, slots=True)
class _Policy:
    table: str
    name: str
    role: str
    rows: str
    command: str = "ALL"

    @property
    def key(self) -> tuple[str, str]:
        return self.table, self.name

    @property
    def statement(self) -> str:
        return f"CREATE POLICY {self.name} ON public.{self.table} FOR {self.command} TO {self.role} USING ({self.rows})"


def _policies() -> list[_Policy]:
    """The policies of each table with a project: of the logins with privileges on it, and of the owner.

    The name contains the kind, so that a login whose kind changes gets a new policy.
    """
    policies = [_Policy(table.name, "owner", "CURRENT_USER", "true") for table in _TABLES_WITH_A_PROJECT]
    for login in logins.LOGINS:
        for table in _tables_of(login):
            if table.project is not None:
                policies += _policies_of(login, table)
    return policies


def _policies_of(login: Login, table: Table) -> list[_Policy]:
    if login.sees_all_projects:
        return [_Policy(table.name, f"{login.name}_all", login.name, "true")]
    rows, kind = f"{table.project} {_OWN_ROWS}", "own"
    if table.has_rows_without_project:
        rows, kind = f"{table.project} IS NULL OR {rows}", "own_or_none"
    policies = [_Policy(table.name, f"{login.name}_{kind}", login.name, rows)]
    if login in table.read_whole_by:
        policies.append(_Policy(table.name, f"{login.name}_reads_all", login.name, _NO_PROJECTS, "SELECT"))
    return policies
