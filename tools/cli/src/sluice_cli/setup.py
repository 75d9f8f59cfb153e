"""generate-key, rotate-encryption-key, migrate, create-topics: an installation before its first start, and its keys."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    key = subparsers.add_parser("generate-key", help="create the encryption key if there is none, and check it")
    key.set_defaults(run=run_generate_key)
    rotate = subparsers.add_parser(
        "rotate-encryption-key",
        help="encrypt all provider credentials with a new key, while everything runs",
        description="Puts a new key in front of the key file and encrypts all provider credentials with it. Running "
        "roles read the file again. The old key stays in the file until --remove-old. Run twice, it changes nothing "
        "more. With SLUICE_ENCRYPTION_KEY instead of a file: first give every role the new and the old key, separated "
        "by a comma.",
    )
    rotate.add_argument(
        "--remove-old", action="store_true", help="remove the old keys, once no credentials are encrypted with them"
    )
    rotate.set_defaults(run=run_rotate_key)
    migrate = subparsers.add_parser(
        "migrate",
        help="update the database schema and the logins of the roles; safe to run twice and concurrently",
        description="Connects as the owner of the tables, whose address is SLUICE_POSTGRES_OWNER_DSN. Creates the "
        "missing logins of the roles, sets the passwords in SLUICE_POSTGRES_PASSWORD_GATEWAY and so on, and gives each "
        "login its privileges.",
    )
    migrate.set_defaults(run=run_migrate)
    topics = subparsers.add_parser("create-topics", help="create the missing topics of deploy/topics.yml")
    topics.add_argument(
        "--producer",
        metavar="USER",
        help="let this Kafka user publish on send.requests, read delivery.events and use groups with its name in front",
    )
    topics.set_defaults(run=run_create_topics)


def run_generate_key(_: argparse.Namespace) -> int:
    """Create the key file if there is none, and check it."""
    from sluice.runtime.key_file import ensure_key_file
    from sluice_cli.context import key_file

    path = key_file()
    ensure_key_file(path)
    print(f"the encryption key is in {path}")
    return 0


def run_rotate_key(options: argparse.Namespace) -> int:
    """Encrypt all credentials with a new key, or remove the old keys."""
    return asyncio.run(_remove_old_keys() if options.remove_old else _rotate_key())


async def _rotate_key() -> int:
    from sluice.runtime.key_file import add_key
    from sluice_cli.context import database, key_file

    async with database() as connection:  # before the file is changed: without a database there is nothing to rotate
        if len(_encryption_keys()) > 1:
            print("there is a new key already: the rotation goes on")
        else:
            _require_key_file("put the new key in front of it, separated by a comma, for every role")
            add_key(key_file())
            print(f"a new key was added to {key_file()}")
        if await _reencrypt(connection):
            print("some credentials were changed at the same time: run the command again")
            return 1
    print("all credentials are encrypted with the new key; the option --remove-old removes the old one")
    return 0


async def _remove_old_keys() -> int:
    from sluice.runtime.errors import SluiceError
    from sluice.runtime.key_file import remove_old_keys
    from sluice_cli.context import database, key_file

    _require_key_file("leave only the first key in it")
    async with database() as connection:
        if await _reencrypt(connection):
            raise SluiceError("credentials were changed at the same time: run the command again")
    print(f"old keys removed from {key_file()}: {remove_old_keys(key_file())}")
    return 0


def _require_key_file(instead: str) -> None:
    from sluice.runtime.errors import SluiceError
    from sluice_cli.context import environment

    if environment().get("SLUICE_ENCRYPTION_KEY"):
        raise SluiceError(f"the key is in SLUICE_ENCRYPTION_KEY, which this command cannot change: {instead}")


def _encryption_keys() -> list[bytes]:
    from sluice.runtime.settings import decode_keys, read_key_file
    from sluice_cli.context import environment, key_file

    text = environment().get("SLUICE_ENCRYPTION_KEY")
    return decode_keys(text, "SLUICE_ENCRYPTION_KEY") if text else read_key_file(key_file())


async def _reencrypt(connection: Any) -> int:
    """Encrypt with the current key what is not; returns how many credentials still have another key."""
    from sluice.store import providers, webhooks
    from sluice.store.cipher import CredentialCipher

    cipher = CredentialCipher(_encryption_keys)
    replaced, _ = await providers.reencrypt_credentials(connection, cipher)
    print(f"credentials encrypted again: {replaced}")
    print(f"webhook secrets encrypted again: {await webhooks.reencrypt_secrets(connection, cipher)}")
    stale = await providers.count_stale_credentials(connection, cipher)
    return stale + await webhooks.count_stale_secrets(connection, cipher)


def run_migrate(_: argparse.Namespace) -> int:
    """Apply the missing migrations, and give the logins of the roles their privileges."""

    from sluice.runtime.errors import SluiceError
    from sluice.store.db import DATABASE_ERRORS
    from sluice.store.logins import read_passwords
    from sluice.store.migrations import apply
    from sluice_cli.context import environment

    settings = environment()
    dsn = settings.get("SLUICE_POSTGRES_OWNER_DSN")
    if not dsn:
        raise SluiceError(
            "SLUICE_POSTGRES_OWNER_DSN is not set: it is the address of PostgreSQL for the owner of the tables "
            "(`sluice up` runs this command for the PostgreSQL that it starts)"
        )
    try:
        applied = asyncio.run(apply(dsn, passwords=read_passwords(settings)))
    except DATABASE_ERRORS as error:
        raise SluiceError(f"the database cannot be migrated: {error or type(error).__name__}") from error
    print("\n".join(f"applied {name}" for name in applied) or "the database is up to date")
    return 0


def run_create_topics(options: argparse.Namespace) -> int:
    """Create the missing topics, and grant a producer what it needs."""
    from sluice.bus.topic_admin import ensure_topics, grant_producer
    from sluice_cli.context import kafka

    done = asyncio.run(ensure_topics(kafka()))
    print("\n".join(done) or "all topics exist")
    if options.producer:
        asyncio.run(grant_producer(kafka(), options.producer))
        print(f"{options.producer} may publish on send.requests and read delivery.events")
    return 0
