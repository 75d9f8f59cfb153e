"""Database migrations: plain SQL files, each applied once, in order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from sluice.runtime.clock import utc_now
from sluice.runtime.errors import SluiceError
from sluice.runtime.paths import deploy_dir
from sluice.store import partitions, privileges
from sluice.store.db import connect

_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_LOCK = 0x51C1CE  # of an advisory lock, so that migrations run one after the other


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of ``deploy/migrations``."""

    name: str
    sql: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text: an applied file must not change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


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

    Raises:
        SluiceError: the server refuses the connection, an applied file has changed, the database is newer than this
            program, a statement failed, or the owner may not create the logins.
    """
    migrations = load_migrations(directory)
    connection = await connect(dsn, timeout=10.0)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name text PRIMARY KEY, digest text NOT NULL, applied_at timestamptz NOT NULL)"
        )
        rows = await connection.fetch("SELECT name, digest FROM schema_migrations")
        applied = {row["name"]: row["digest"] for row in rows}
        _check(migrations, applied)
        missing = [migration for migration in migrations if migration.name not in applied]
        for migration in missing:
            await _apply_one(connection, migration)
        await privileges.create_logins(connection, dsn, passwords or {})
        await partitions.ensure(connection, utc_now())
        await privileges.grant_privileges(connection)
        return [migration.name for migration in missing]
    finally:
        await connection.close()


def _check(migrations: list[Migration], applied: dict[str, str]) -> None:
    known = {migration.name: migration.digest for migration in migrations}
    for name, digest in applied.items():
        if name not in known:
            raise SluiceError(
                f"the database has migration {name}, which this version does not have: the database is newer"
            )
        if known[name] != digest:
            raise SluiceError(f"migration {name} was changed after it was applied: add a new file instead")


async def _apply_one(connection: asyncpg.Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations VALUES ($1, $2, $3)",
                migration.name,
                migration.digest,
                utc_now(),
            )
    except asyncpg.PostgresError as error:
        raise SluiceError(f"migration {migration.name} failed: {error}") from error
