"""backup and restore: a copy of the database while everything runs, and a new installation from it."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice.runtime.errors import SluiceError

if TYPE_CHECKING:
    from sluice_cli.archive import Manifest
    from sluice_cli.verification import Report

OWNER_DSN = "SLUICE_POSTGRES_OWNER_DSN"
REPUBLISHED = timedelta(hours=1)
"""Events of this time before the backup go to Kafka again: consumers may not have read them."""


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    backup = subparsers.add_parser(
        "backup",
        help="copy the database into a directory, while everything runs",
        description="Writes a dump of the database as of one moment, and a manifest. Kafka and Redis have nothing that "
        "the database has not. The encryption key is omitted unless --with-key is given: keep it in another place, "
        "without it the stored credentials are lost.",
    )
    backup.add_argument("directory", type=Path, help="a new directory")
    backup.add_argument(
        "--with-key", action="store_true", help="copy the encryption key, too: it opens the credentials"
    )
    backup.set_defaults(run=run_backup)
    restore = subparsers.add_parser(
        "restore",
        help="make a new installation from a backup",
        description="Loads a backup into an empty database: that of SLUICE_POSTGRES_OWNER_DSN, or a new one in "
        "SLUICE_DATA_DIR. What was sent after the backup is not in it: deliveries of class `once` that may have been "
        "sent end UNCONFIRMED, the others are sent again.",
    )
    restore.add_argument("directory", type=Path, help="the backup")
    restore.add_argument(
        "--unsettled",
        choices=("resend", "unconfirmed"),
        default="resend",
        help="deliveries that may have been sent after the backup: send them again (default; some are sent twice), or "
        "end them UNCONFIRMED and cancel open bulk jobs (some are never sent)",
    )
    restore.add_argument("--without-key", action="store_true", help="give up the stored credentials: the key is lost")
    restore.set_defaults(run=run_restore)


def run_backup(options: argparse.Namespace) -> int:
    """Copy the database."""
    from sluice_cli.archive import KEY, new_directory, private_file

    dsn = _owner_dsn()
    with new_directory(options.directory) as draft:
        manifest = asyncio.run(_back_up(dsn, draft))
        if options.with_key:
            with private_file(draft / KEY) as file:
                file.write(_key_text())
    key = "with the encryption key" if options.with_key else "without the encryption key: keep that in another place"
    print(f"the database of {manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC is in {options.directory}, {key}")
    return 0


async def _back_up(dsn: str, draft: Path) -> Manifest:
    from sluice.runtime.version import program_version
    from sluice.store import restored
    from sluice.store.db import connect
    from sluice_cli.archive import DUMP, FORMAT, Manifest, digest_of, dump

    connection = await connect(dsn, timeout=10.0)
    try:
        if await connection.fetchval("SELECT to_regclass('public.schema_migrations')") is None:
            raise SluiceError("the database has no schema of Sluice: there is nothing to back up")
        taken_at = await connection.fetchval("SELECT now()")
        migrations = await connection.fetch("SELECT name FROM schema_migrations ORDER BY name")
        key_ids = await restored.encryption_key_ids(connection)
        major = connection.get_server_version().major
    finally:
        await connection.close()
    await asyncio.to_thread(dump, dsn, draft, server_major=major)
    manifest = Manifest(
        format=FORMAT,
        sluice_version=program_version(),
        taken_at=taken_at,
        postgres_major=major,
        migrations=[row["name"] for row in migrations],
        encryption_key_ids=key_ids,
        sha256=digest_of(draft / DUMP),
    )
    manifest.write(draft)
    return manifest


def run_restore(options: argparse.Namespace) -> int:
    """Load a backup; the exit code is 1 when the restored database violates an invariant."""
    from sluice_cli.archive import Manifest
    from sluice_cli.verify import format_report

    manifest = Manifest.read(options.directory)
    _check_version(manifest)
    _refuse_running()
    _prepare_key(options, manifest)
    with _new_database() as dsn:
        report = asyncio.run(_restore(options, manifest, dsn))
    print(format_report(report))
    print("revoke again the API keys and users that were revoked since then; then start everything: `sluice up`")
    return 1 if report.violations else 0


def _check_version(manifest: Manifest) -> None:
    from sluice.store.migrations import load_migrations

    unknown = set(manifest.migrations) - {migration.name for migration in load_migrations()}
    if unknown:
        raise SluiceError(
            f"the backup was made by version {manifest.sluice_version}, which is newer: it has the migration "
            f"{min(unknown)}"
        )


async def _restore(options: argparse.Namespace, manifest: Manifest, dsn: str) -> Report:
    from sluice.store import privileges
    from sluice.store.db import connect
    from sluice.store.migrations import apply
    from sluice_cli.archive import load

    passwords = _passwords()
    connection = await connect(dsn, timeout=10.0)
    try:
        await _check_target(connection, manifest)
        await privileges.create_logins(connection, dsn, passwords)  # functions of the schema name them
    finally:
        await connection.close()
    await asyncio.to_thread(load, options.directory, dsn, major=manifest.postgres_major)
    await apply(dsn, passwords=passwords)
    return await _adapt(options, manifest, dsn)


async def _check_target(connection: Any, manifest: Manifest) -> None:
    if await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"):
        raise SluiceError("the database is not empty: a backup is restored into a new one")
    major = connection.get_server_version().major
    if major < manifest.postgres_major:
        raise SluiceError(f"the backup is from PostgreSQL {manifest.postgres_major}, and this server is {major}")


async def _adapt(options: argparse.Namespace, manifest: Manifest, dsn: str) -> Report:
    """Let the database agree with what may have happened since the backup, and check it."""
    from sluice.model.message import DeliveryClass
    from sluice.store import restored
    from sluice.store.invariants import verification_connection
    from sluice_cli.verification import verify

    everything = options.unsettled == "unconfirmed"
    async with verification_connection(dsn) as db:
        now = await db.fetchval("SELECT now()")
        detail = f"restored from a backup of {manifest.taken_at:%Y-%m-%dT%H:%M:%SZ}: it may have been sent since then"
        classes = list(DeliveryClass) if everything else [DeliveryClass.ONCE]
        ended = await restored.end_unconfirmed(db, classes, detail=detail, now=now)
        cancelled = await restored.cancel_open_jobs(db) if everything else 0
        since = manifest.taken_at - REPUBLISHED
        events = await restored.republish_events(db, since=since, now=now)
        print(f"restored the database of {manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC")
        print(f"deliveries ended UNCONFIRMED: {ended}; bulk jobs cancelled: {cancelled}; events to publish: {events}")
        # What was due when the backup was made has waited since then.
        grace = now - manifest.taken_at + timedelta(minutes=1)
        return await verify(db, now=now, at_rest=False, grace=grace, call_logs=[], progress=lambda _: None)


# -- the encryption key ------------------------------------------------------------------------------------------------


def _key_text() -> bytes:
    from sluice_cli.context import environment, key_file

    text = environment().get("SLUICE_ENCRYPTION_KEY")
    if text:
        return "\n".join(text.split(",")).encode() + b"\n"
    try:
        return key_file().read_bytes()
    except OSError as error:
        raise SluiceError(f"the encryption key {key_file()} cannot be read: {error.strerror}") from None


def _prepare_key(options: argparse.Namespace, manifest: Manifest) -> None:
    """Put the backup's key in its place if there is none, and see that it opens the backup's credentials."""
    from sluice.runtime.settings import decode_keys, read_key_file
    from sluice.store.cipher import key_id
    from sluice_cli.archive import KEY, private_file
    from sluice_cli.context import environment, key_file

    text, path = environment().get("SLUICE_ENCRYPTION_KEY"), key_file()
    if not text and not path.exists() and (options.directory / KEY).exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with private_file(path) as file:
            file.write((options.directory / KEY).read_bytes())
    if options.without_key or not manifest.encryption_key_ids:
        return
    if not text and not path.exists():
        raise SluiceError(
            f"the backup has no key: put the file of the old installation at {path} (mode 600), or use --without-key "
            "and enter all credentials again"
        )
    keys = decode_keys(text, "SLUICE_ENCRYPTION_KEY") if text else read_key_file(path)
    if missing := set(manifest.encryption_key_ids) - {key_id(key).hex() for key in keys}:
        where = "SLUICE_ENCRYPTION_KEY" if text else path
        raise SluiceError(
            f"{where} does not hold the key {min(missing)}, which encrypted credentials in the backup: add it, or use "
            "--without-key and enter these credentials again"
        )


# -- the database ------------------------------------------------------------------------------------------------------


def _owner_dsn() -> str:
    """The address of the running database for the owner of the tables.

    Raises:
        SluiceError: it is not set, and nothing runs here.
    """
    from sluice_cli.context import launcher

    given = os.environ.get(OWNER_DSN)
    if given:
        return given
    supervisor = launcher()
    if supervisor is None:
        raise SluiceError(f"{OWNER_DSN} is not set: it is the address of PostgreSQL for the owner of the tables")
    from sluice_launcher.plan import owner_dsn

    return owner_dsn(supervisor.data_dir, supervisor.environment().get("SLUICE_POSTGRES_DSN", ""))


def _refuse_running() -> None:
    """Raises SluiceError if an installation runs in the data directory, or there is no database."""
    from sluice_cli.context import launcher

    supervisor = launcher()
    if os.environ.get(OWNER_DSN):
        return
    if supervisor is None:
        raise SluiceError(f"{OWNER_DSN} is not set: it is the address of the empty database for its owner")
    from sluice_launcher.control import supervisor_running

    if supervisor_running(supervisor.data_dir):
        raise SluiceError(
            f"an installation runs in {supervisor.data_dir}: a backup is restored into a new one, in another "
            "SLUICE_DATA_DIR"
        )


@contextmanager
def _new_database() -> Iterator[str]:
    """The address of the empty database for its owner; the launcher's runs while the block does."""
    given = os.environ.get(OWNER_DSN)
    if given:
        yield given
        return
    from sluice_launcher.local_stack import running_postgres

    with running_postgres(os.environ) as dsn:
        yield dsn


def _passwords() -> dict[str, str]:
    """Of the logins, where they are given; `sluice up` sets those of its own installation."""
    from sluice.store.logins import read_passwords

    return read_passwords(os.environ)
