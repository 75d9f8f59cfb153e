"""generate-key, migrate, create-topics: an installation before its first start."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    key = subparsers.add_parser("generate-key", help="create the encryption key if there is none, and check it")
    key.set_defaults(run=run_generate_key)
    migrate = subparsers.add_parser("migrate", help="update the database schema; safe to run twice and concurrently")
    migrate.set_defaults(run=run_migrate)
    topics = subparsers.add_parser("create-topics", help="create the missing topics of deploy/topics.yml")
    topics.set_defaults(run=run_create_topics)


def run_generate_key(_: argparse.Namespace) -> int:
    """Create the key file if there is none, and check it."""
    from sluice.runtime.key_file import ensure_key_file
    from sluice_cli.context import key_file

    path = key_file()
    ensure_key_file(path)
    print(f"the encryption key is in {path}")
    return 0


def run_migrate(_: argparse.Namespace) -> int:
    """Apply the missing migrations."""
    import asyncpg

    from sluice.runtime.errors import SluiceError
    from sluice.store.migrations import apply
    from sluice_cli.context import address

    try:
        applied = asyncio.run(apply(address("SLUICE_POSTGRES_DSN")))
    except (OSError, asyncpg.PostgresError) as error:
        raise SluiceError(f"the database cannot be migrated: {error or type(error).__name__}") from error
    print("\n".join(f"applied {name}" for name in applied) or "the database is up to date")
    return 0


def run_create_topics(_: argparse.Namespace) -> int:
    """Create the missing topics."""
    from sluice.bus.topic_admin import ensure_topics
    from sluice_cli.context import address

    done = asyncio.run(ensure_topics(address("SLUICE_KAFKA_BOOTSTRAP_SERVERS")))
    print("\n".join(done) or "all topics exist")
    return 0
