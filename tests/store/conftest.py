"""One database for all tests of the store, emptied after each: a database of its own costs a third of a second."""

import uuid

import asyncpg
import pytest

from sluice.store.db import open_pool
from tests.engine import with_database
from tests.store.harness import StoreHarness

TABLES = (
    "messages",
    "deliveries",
    "attempts",
    "events",
    "receipts",
    "event_outbox",
    "idempotency_keys",
    "attachments",
    "sandbox_messages",
    "providers",
    "api_keys",
    "projects",
    "organizations",
)


@pytest.fixture(scope="session")
async def store_database(postgres_dsn, template_database):
    """The DSN of a database with our schema that the tests of this folder share, one after the other."""
    name = f"store_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    yield with_database(postgres_dsn, name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture(scope="session")
async def store_pool(store_database):
    """Enough connections to race with, as the roles have them."""
    async with open_pool(store_database, size=10, name="store") as pool:
        yield pool


@pytest.fixture
async def pool(store_pool):
    """Connections to an empty store."""
    yield store_pool
    await store_pool.execute(";".join(f"DELETE FROM {table}" for table in TABLES))


@pytest.fixture
def store(pool):
    """The verbs of the store, and what stands in it."""
    return StoreHarness(pool)


@pytest.fixture
async def make_bare_database(postgres_dsn):
    """Makes databases without anything in them."""
    made = []
    connection = await asyncpg.connect(postgres_dsn)

    async def make():
        made.append(name := f"bare_{uuid.uuid4().hex[:12]}")
        await connection.execute(f"CREATE DATABASE {name}")
        return with_database(postgres_dsn, name)

    yield make
    for name in made:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()
