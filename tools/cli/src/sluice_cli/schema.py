"""migrate, topics."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    migrate = subparsers.add_parser("migrate", help="bring the database up to date; safe to run twice and at once")
    migrate.set_defaults(run=run_migrate)
    topics = subparsers.add_parser("topics", help="create the topics of deploy/topics.yml that are missing")
    topics.set_defaults(run=run_create_topics)


def run_migrate(_: argparse.Namespace) -> int:
    """Apply what is missing."""
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
    """Create what is missing."""
    from sluice.bus.topic_admin import ensure_topics
    from sluice_cli.context import address

    done = asyncio.run(ensure_topics(address("SLUICE_KAFKA_BOOTSTRAP_SERVERS")))
    print("\n".join(done) or "all topics exist")
    return 0
