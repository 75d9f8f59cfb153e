"""Database migrations: plain SQL files, each applied once, in order."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import structlog

from sluice.runtime.clock import utc_now
from sluice.runtime.errors import SluiceError
from sluice.runtime.paths import deploy_dir
from sluice.store import partitions, privileges
from sluice.store.db import Db, connect

log = structlog.get_logger()

_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_BREAKING = "-- breaking"
_LOCK = 0x51C1CE  # of an advisory lock, so that migrations run one after the other
_LOCK_TIMEOUT = 1  # seconds for which a migration may keep others from a table while it waits for it itself
_LOCK_PAUSE = 2.0  # seconds
_LOCK_LIMIT = 300.0  # seconds


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of ``deploy/migrations``."""

    name: str
    sql: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text: an applied file must not change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def breaking(self) -> bool:
        """Whether a program without this file cannot use the schema any more; its first line says so."""
        return self.sql.startswith(_BREAKING)


def load_migrations(directory: Path | None = None) -> list[Migration]:
    """The migrations in order.

    Raises:
        SluiceError: a file does not follow ``NNNN_name.sql``, or a number is missing or used twice.
    """
    files = sorted((directory or deploy_dir() / "migrations").glob("*.sql"))
    for position, file in enumerate(files, start=1):
        match = _NAME.match(file.name)
        if match is None or int(match[1]) != position:
            raise SluiceError(f"migration {file.name} is out of order: expected {position:04d}_<name>.sql")
    return [Migration(file.name, file.read_text("utf-8")) for file in files]


async def apply(dsn: str, directory: Path | None = None, *, passwords: Mapping[str, str] | None = None) -> list[str]:
    """Apply the missing migrations and return their names; repeated and concurrent calls are safe.

    ``dsn`` is that of the owner. Each file is one transaction. The logins of the roles with their privileges, and the
    table partitions of the coming weeks are created as well; ``passwords``: of the logins, by name, where they change.

    A database that is newer than this program, as after a rollback, is left alone if the previous program can use it.

    Raises:
        SluiceError: the server refuses the connection, an applied file has changed, the database is newer and has a
            migration that breaks this program, a statement failed, a table was in use for minutes, or
            the owner may not create the logins.
    """
    migrations = load_migrations(directory)
    connection = await connect(dsn, timeout=10.0)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name text PRIMARY KEY, digest text NOT NULL, breaking boolean NOT NULL, applied_at timestamptz NOT NULL)"
        )
        missing, newer = await _read_missing(connection, migrations)
        if newer:
            log.warning("database_newer", migrations=newer)
            return []
        for migration in missing:
            await _apply_one(connection, migration)
        await privileges.create_logins(connection, dsn, passwords or {})
        await partitions.ensure(connection, utc_now())
        await privileges.grant_privileges(connection)
        return [migration.name for migration in missing]
    finally:
        await connection.close()


async def list_pending(connection: asyncpg.Connection) -> list[str]:
    """The names of the migrations that `sluice migrate` would apply.

    Raises:
        SluiceError: an applied file has changed, or the database is newer and this program cannot work with it.
    """
    migrations = load_migrations()
    if await connection.fetchval("SELECT to_regclass('public.schema_migrations')") is None:
        return [migration.name for migration in migrations]
    missing, _ = await _read_missing(connection, migrations)
    return [migration.name for migration in missing]


async def require_current(db: Db) -> None:
    """Require that `sluice migrate` of this version has run.

    A program on an older schema would find out with the first statement that names a column of the newer one.

    Raises:
        SluiceError: a migration is missing, was changed after it was applied, or breaks this program.
    """
    migrations = load_migrations()
    try:
        missing, _ = await _read_missing(db, migrations)
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):  # privileges are of the last migrate
        missing = migrations[-1:]
    if missing:
        names = ", ".join(migration.name for migration in missing)
        raise SluiceError(f"the database is older than this version: run `sluice migrate` first, which applies {names}")


async def _read_missing(
    connection: asyncpg.Connection | Db, migrations: list[Migration]
) -> tuple[list[Migration], list[str]]:
    """The migrations that are not applied, and the names of applied ones that this program does not have."""
    rows = await connection.fetch("SELECT name, digest, breaking FROM schema_migrations ORDER BY name")
    applied = {row["name"] for row in rows}
    return [migration for migration in migrations if migration.name not in applied], _check(migrations, rows)


def _check(migrations: list[Migration], applied: Sequence[asyncpg.Record]) -> list[str]:
    """The applied files that this program does not have, and does not need."""
    known = {migration.name: migration.digest for migration in migrations}
    newer = []
    for name, digest, breaking, *_ in applied:
        if name not in known:
            if breaking:
                raise SluiceError(
                    f"the database has migration {name}, which this version does not have and cannot work with: "
                    "the database is newer"
                )
            newer.append(name)
        elif known[name] != digest:
            raise SluiceError(f"migration {name} was changed after it was applied: add a new file instead")
    return newer


async def _apply_one(connection: asyncpg.Connection, migration: Migration) -> None:
    """Apply the file as soon as the tables that it changes are free.

    A statement that waits for a table, while a backup reads it, makes every later one on that table wait behind it.
    """
    deadline = time.monotonic() + _LOCK_LIMIT
    while True:
        try:
            return await _try_to_apply(connection, migration)
        except asyncpg.LockNotAvailableError as error:
            if time.monotonic() > deadline:
                raise SluiceError(
                    f"migration {migration.name} failed: for {_LOCK_LIMIT:.0f} s another transaction has used a table "
                    "that it changes, such as a backup or a session that was left open (pg_stat_activity shows it): "
                    "run `sluice migrate` again after its end"
                ) from error
        log.warning("migration_waits", migration=migration.name, reason="a table that it changes is in use")
        await asyncio.sleep(_LOCK_PAUSE)


async def _try_to_apply(connection: asyncpg.Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}s'")
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (name, digest, breaking, applied_at) VALUES ($1, $2, $3, $4)",
                migration.name,
                migration.digest,
                migration.breaking,
                utc_now(),
            )
    except asyncpg.LockNotAvailableError:
        raise
    except asyncpg.PostgresError as error:
        raise SluiceError(f"migration {migration.name} failed: {error}") from error
