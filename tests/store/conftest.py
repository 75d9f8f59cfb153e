"""One database for all store tests, emptied after each: a new database costs a third of a second."""

import uuid

import pytest

from sluice.store.db import open_pool
from tests.engine import connected, with_database
from tests.store.harness import StoreHarness, open_role_pools

TABLES = (
    "messages",
    "message_terms",
    "deliveries",
    "attempts",
    "events",
    "incident_deliveries",
    "incidents",
    "health_changes",
    "health_steps",
    "webhook_deliveries",
    "analytics_rollups",
    "analytics_progress",
    "webhook_attempts",
    "receipts",
    "event_outbox",
    "bus_disagreements",
    "project_usage",
    "receipt_tokens",
    "idempotency_keys",
    "attachments",
    "sandbox_messages",
    "domains",
    "provider_receipts",
    "providers",
    "api_keys",
    "dead_letters",
    "bulk_chunks",
    "bulk_jobs",
    "audit_log",
    "login_links",
    "invitations",
    "memberships",
    "sessions",
    "users",
    "webhook_endpoints",
    "projects",
    "organizations",
)


@pytest.fixture(scope="session")
async def store_database(postgres_dsn, template_database):
    """The DSN of a database with the schema, shared by the tests of this folder."""
    name = f"store_{uuid.uuid4().hex[:12]}"
    async with connected(postgres_dsn) as connection:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
        yield with_database(postgres_dsn, name)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
async def store_pool(store_database):
    """A pool of the owner, who sees and may change everything, with time for a busy machine."""
    async with open_pool(store_database, size=10, name="store", command_timeout=60.0) as pool:
        yield pool


@pytest.fixture(scope="session")
async def role_pools(store_database):
    """The pools of the roles, each with its own login, with enough connections for concurrent statements."""
    async with open_role_pools(store_database) as pools:
        yield pools


@pytest.fixture
async def pool(store_pool):
    """The owner's pool to an empty database."""
    yield store_pool
    await store_pool.execute(";".join(f"DELETE FROM {table}" for table in TABLES))


@pytest.fixture
def store(pool, role_pools):
    """The store functions and row queries."""
    return StoreHarness(pool, role_pools)


@pytest.fixture
async def make_bare_database(postgres_dsn):
    """Creates empty databases."""
    created = []
    async with connected(postgres_dsn) as connection:

        async def create():
            created.append(name := f"bare_{uuid.uuid4().hex[:12]}")
            await connection.execute(f"CREATE DATABASE {name}")
            return with_database(postgres_dsn, name)

        yield create
        for name in created:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
