"""Logins, privileges and row-level security, as PostgreSQL applies them."""

import uuid
from contextlib import nullcontext
from urllib.parse import urlsplit

import asyncpg
import pytest

from sluice.model.state import EventType
from sluice.runtime.errors import SluiceError
from sluice.store import api_keys, cancellation, ingest, logins, messages, migrations, privileges, projects, receipts
from sluice.store.db import rows_of
from sluice.store.logins import GATEWAY, LOGINS, Login
from sluice.store.projects import ProjectScope
from sluice.store.tables import TABLES
from tests.engine import as_login, connected
from tests.examples import NOON, OTHER_PROJECT, PROJECT, a_claim, a_message, a_transition, after, seconds

OURS = ProjectScope(PROJECT, False)
# The tables of a project whose rows the gateway sees only inside rows_of.
OWN_TABLES = {
    table.name: table.grants[GATEWAY]
    for table in TABLES
    if GATEWAY in table.grants and table.project and GATEWAY not in table.read_whole_by
}
GRANTED = {table.name: table.grants for table in TABLES}
INSERTABLE = [name for name, granted in OWN_TABLES.items() if "INSERT" in granted]


@pytest.fixture
async def filled(store):
    """Rows of PROJECT in every table; the message and its delivery."""
    key = {"idempotency_key": "order-7", "fingerprint": b"f"}
    message = a_message(attachments=(("digest", b"hello"),), **key)
    waiting = a_message()
    await store.accept(message, waiting)
    delivery_id = message.deliveries[0].id
    await store.claim(a_claim(delivery_id))
    await store.transition(a_transition(delivery_id, EventType.SENT, outcome="accepted"))
    async with store.rows_of() as db:
        await receipts.apply(db, [a_receipt(delivery_id)], now=NOON, outbox_retry_after=seconds(10))
    return waiting, delivery_id


def a_receipt(delivery_id, receipt_id="r-1"):
    return receipts.ReceiptEntry(
        delivery_id=delivery_id,
        attempt=1,
        provider_id=a_claim(delivery_id).provider_id,
        receipt_id=receipt_id,
        type=EventType.DELIVERED,
        occurred_at=after(5),
    )


# -- row-level security --------------------------------------------------------------------------------------------


async def test_every_table_with_a_project_has_forced_row_level_security_and_a_policy(store):
    rows = await store.pool.fetch(
        """
        SELECT c.relname AS name, c.relispartition, c.relrowsecurity AND c.relforcerowsecurity AS forced,
               ARRAY(SELECT polname::text FROM pg_policy p WHERE p.polrelid = c.oid) AS policies
          FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
           AND (c.relname = 'projects' OR EXISTS (
                SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'project_id'))
        """
    )

    parents = {row["name"]: set(row["policies"]) for row in rows if not row["relispartition"]}
    assert parents.keys() == {table.name for table in TABLES if table.project}
    assert [row["name"] for row in rows if not row["forced"]] == []
    assert [name for name, policies in parents.items() if len(policies) < 2] == []
    # A partition is read through its table, whose policies apply; only the owner may name the partition.
    assert {tuple(row["policies"]) for row in rows if row["relispartition"]} == {("owner",)}


@pytest.mark.parametrize("table", OWN_TABLES)
async def test_finding_12_a_statement_without_a_condition_sees_nothing_of_another_project(store, table):
    query = f"SELECT count(project_id) FROM {table}"
    await referenced_rows(store, table)
    await store.pool.execute(await an_insertion(store, table, "x"))

    assert await store.pool.fetchval(query) > 0
    assert await store.gateway.fetchval(query) == 0
    async with store.rows_of(OTHER_PROJECT) as db:
        assert await db.fetchval(query) == 0
    async with store.rows_of(PROJECT) as db:
        assert await db.fetchval(query) == await store.pool.fetchval(query)


@pytest.mark.parametrize(
    ("table", "change"),
    [("deliveries", "state = 'CANCELLED'"), ("idempotency_keys", "expires_at = now()")],
)
async def test_a_statement_without_a_condition_changes_nothing_of_another_project(store, filled, table, change):
    before = await store.pool.fetch(f"SELECT * FROM {table}")

    async with store.rows_of(OTHER_PROJECT) as db:
        assert await db.execute(f"UPDATE {table} SET {change}") == "UPDATE 0"

    assert await store.pool.fetch(f"SELECT * FROM {table}") == before


@pytest.mark.parametrize("table", INSERTABLE)
async def test_a_row_of_another_project_cannot_be_inserted(store, table):
    await referenced_rows(store, table)

    async with store.rows_of(PROJECT) as db:
        assert await db.execute(await an_insertion(store, table, "x")) == "INSERT 0 1"
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with store.rows_of(OTHER_PROJECT) as db:
            await db.execute(await an_insertion(store, table, "y"))


async def referenced_rows(store, table):
    """Rows with the id of PROJECT, to which foreign keys of a sample row of ``table`` lead."""
    await store.pool.execute("INSERT INTO organizations VALUES ($1, 'Shop', now())", PROJECT)
    references = ("projects", "users", "providers", "templates", "webhook_endpoints", "incidents")
    for referenced in [name for name in references if name != table]:
        await store.pool.execute(await an_insertion(store, referenced, "x"))


async def an_insertion(store, table, text):
    """The statement that inserts a row of PROJECT with this text; a column without a default has a sample value."""
    columns = await store.pool.fetch(
        "SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute"
        " WHERE attrelid = $1::text::regclass AND attnum > 0"
        " AND (attnotnull AND NOT atthasdef OR attname = 'project_id')",
        table,
    )
    samples = {
        "uuid": f"'{PROJECT}'",
        "text": f"'{text}'",
        "boolean": "false",
        "smallint": "1",
        "integer": "1",
        "bigint": "1",
        "real": "1",
        "numeric": "1",
        "bytea": f"'{text}'",
        "json": "'{}'",
        "jsonb": "'{}'",
        "text[]": "'{}'",
    }
    values = ", ".join(samples.get(column["type"], "now()") for column in columns)
    return f"INSERT INTO {table} ({', '.join(column['name'] for column in columns)}) VALUES ({values})"


async def test_the_gateways_statements_change_nothing_in_the_transaction_of_another_project(store, filled):
    """As if the condition on the project were missing in each: it is there, and fulfilled."""
    waiting, delivery_id = filled
    before = [await store.pool.fetch(f"SELECT * FROM {table}") for table in OWN_TABLES]

    async with store.rows_of(OTHER_PROJECT) as db:
        assert await messages.find(db, OURS, waiting.id) is None
        assert await ingest.find_owners(db, OURS, ["order-7"], now=NOON) == {}
        done = await cancellation.cancel(db, OURS, [waiting.id], now=NOON, outbox_retry_after=seconds(10))
        assert (done.message_ids, done.events) == (frozenset(), [])
        assert await cancellation.revoke_in_doubt(db, [waiting.id], now=NOON) == 0
        applied = await receipts.apply(db, [a_receipt(delivery_id, "r-2")], now=NOON, outbox_retry_after=seconds(10))
        assert (applied.known, applied.events) == ([False], [])

    assert [await store.pool.fetch(f"SELECT * FROM {table}") for table in OWN_TABLES] == before


async def test_the_projects_of_a_transaction_end_with_it(store, filled):
    async with store.gateway.acquire() as connection:
        await ingest.insert_batch(connection, [a_message()])
        assert await connection.fetchval("SELECT count(*) FROM messages") == 0
    for project, failing in ((PROJECT, False), (PROJECT, True)):
        with pytest.raises(ZeroDivisionError) if failing else nullcontext():
            async with store.rows_of(project) as db:
                assert await db.fetchval("SELECT count(*) FROM messages") > 0
                if failing:
                    raise ZeroDivisionError
        assert await store.gateway.fetchval("SELECT count(*) FROM messages") == 0


async def test_one_batch_inserts_messages_of_several_projects(store):
    message, other = a_message(), a_message(project_id=OTHER_PROJECT)

    await store.accept(message, other)

    async with rows_of(store.gateway, [PROJECT, OTHER_PROJECT]) as db:
        assert {row["id"] for row in await db.fetch("SELECT id FROM messages")} == {message.id, other.id}


# -- privileges ----------------------------------------------------------------------------------------------------


async def test_finding_12_no_login_is_powerful_or_a_member_of_a_role(store):
    rows = await store.pool.fetch(
        """
        SELECT rolname FROM pg_roles r
         WHERE rolname = ANY($1::text[])
           AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
                OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid))
        """,
        [login.name for login in LOGINS],
    )

    assert rows == []


@pytest.mark.parametrize("login", LOGINS, ids=lambda login: login.name)
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_read_file('PG_VERSION')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "CREATE TABLE mine (id int)",
        "ALTER TABLE messages DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE deliveries NO FORCE ROW LEVEL SECURITY",
        "DROP TABLE messages",
        "TRUNCATE deliveries",
        "DELETE FROM messages",
        "DELETE FROM events",
        "UPDATE events SET detail = ''",
        "UPDATE messages SET project_id = id",
        "UPDATE deliveries SET project_id = id",
        "SELECT FROM messages_default",
        "DELETE FROM schema_migrations",
        "SELECT rolpassword FROM pg_authid",
        "SET ROLE sluice_owner",
    ],
)
async def test_a_login_is_denied_what_no_role_does(store_database, login, statement):
    async with connected(as_login(store_database, login)) as connection:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError)):
            await connection.execute(statement)


@pytest.mark.parametrize(
    ("login", "statement"),
    [
        (logins.ROUTER, "SELECT content FROM messages"),
        (logins.ROUTER, "SELECT content FROM attachments"),
        (logins.WORKER, "SELECT content FROM sandbox_messages"),
        (logins.WORKER, "SELECT create_partition('messages', '2099w01', NULL, NULL, 100)"),
        (logins.EVENT_WORKER, "SELECT content FROM attachments"),
        (logins.GATEWAY, "DELETE FROM providers"),
        (logins.GATEWAY, "UPDATE providers SET project_id = id"),
        (logins.GATEWAY, "UPDATE domains SET token = ''"),
        (logins.WORKER, "UPDATE sandbox_messages SET receipts = '{}'"),
        (logins.ROUTER, "SELECT token FROM domains"),
        (logins.GATEWAY, "UPDATE audit_log SET action = ''"),
        (logins.OPERATOR, "DELETE FROM audit_log"),
        (logins.WORKER, "SELECT drop_week('2020w01')"),
        (logins.OPERATOR, "UPDATE deliveries SET state = 'SENT'"),
        (logins.EVENT_WORKER, "SELECT content FROM messages"),
        (logins.EVENT_WORKER, "UPDATE projects SET name = ''"),
        (logins.EVENT_WORKER, "DELETE FROM suppressions"),
        (logins.ROUTER, "SELECT detail FROM suppressions"),
        (logins.WORKER, "SELECT addresses_of_deliveries('{}')"),
        (logins.GATEWAY, "SELECT addresses_of_deliveries('{}')"),
        (logins.GATEWAY, "UPDATE template_versions SET sources = '{}'"),
        (logins.GATEWAY, "DELETE FROM templates"),
        (logins.EVENT_WORKER, "SELECT password_hash FROM users"),
        (logins.EVENT_WORKER, "SELECT FROM audit_log"),
        (logins.EVENT_WORKER, "UPDATE webhook_endpoints SET url = ''"),
        (logins.EVENT_WORKER, "UPDATE webhook_secrets SET encrypted_secret = ''"),
        (logins.GATEWAY, "SELECT encrypted_secret FROM webhook_secrets"),
        (logins.GATEWAY, "DELETE FROM webhook_deliveries"),
        (logins.GATEWAY, "UPDATE webhook_attempts SET answer = ''"),
        (logins.OPERATOR, "SELECT FROM webhook_attempts"),
        (logins.EVENT_WORKER, "SELECT encrypted_credentials FROM providers"),
        (logins.GATEWAY, "UPDATE provider_receipts SET received_at = now()"),
        (logins.WORKER, "UPDATE schema_migrations SET breaking = false"),
        (logins.EVENT_WORKER, "UPDATE dead_letters SET status = 'discarded'"),
        *(
            (login, f"SELECT FROM {table}")
            for login in (logins.HEALTH, logins.EVENT_WORKER)
            for table in OWN_TABLES
            if login not in GRANTED[table]
        ),
    ],
)
async def test_a_login_is_denied_what_its_role_does_not_do(store_database, login, statement):
    async with connected(as_login(store_database, login)) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


@pytest.mark.parametrize(
    ("parent", "suffix"),
    [("projects", "2099w01"), ("messages", "x; DROP TABLE messages"), ("messages", "2099w1"), ("messages", "")],
)
async def test_the_router_creates_weekly_partitions_and_nothing_else(store, parent, suffix):
    with pytest.raises(asyncpg.RaiseError, match="is no partition"):
        await store.router.execute("SELECT create_partition($1, $2, NULL, NULL, 100)", parent, suffix)


async def test_the_commands_statements_run_as_the_operator(store):
    project = await projects.create_project(store.operator, organization="Shop", slug="shop", name="Shop", now=NOON)
    await api_keys.create_key(store.operator, project.id, name="shop", is_test=False, now=NOON)

    assert await projects.find_project_by_slug(store.operator, "shop") == project
    assert len(await api_keys.list_keys(store.operator, project.id)) == 1


# -- migrate -------------------------------------------------------------------------------------------------------


async def test_a_migration_restores_the_privileges_and_the_policies(database):
    async with connected(database) as owner:
        await owner.execute("GRANT SELECT (payload) ON receipts TO sluice_health")
        await owner.execute("GRANT ALL ON deliveries TO sluice_gateway")
        await owner.execute("CREATE POLICY extra ON deliveries TO sluice_gateway USING (true)")
        await owner.execute("DROP POLICY sluice_router_all ON deliveries")
        await owner.execute("ALTER TABLE messages NO FORCE ROW LEVEL SECURITY")
        await migrations.apply(database)

        found = await owner.fetch(
            "SELECT policyname FROM pg_policies WHERE tablename = 'deliveries' AND policyname ~ 'extra|router'"
        )
        forced = await owner.fetchval("SELECT relforcerowsecurity FROM pg_class WHERE relname = 'messages'")
        allowed = await owner.fetchrow(
            "SELECT has_column_privilege('sluice_health', 'receipts', 'payload', 'SELECT') AS health,"
            " has_table_privilege('sluice_gateway', 'deliveries', 'DELETE') AS gateway"
        )
    assert [row["policyname"] for row in found] == ["sluice_router_all"]
    assert forced
    assert dict(allowed) == {"health": False, "gateway": False}


@pytest.fixture
async def a_login(store):
    """Creates logins with the given attributes; returns their names."""
    created = []

    async def create(attributes=""):
        created.append(name := f"login_{uuid.uuid4().hex[:12]}")
        await store.pool.execute(f"CREATE ROLE {name} LOGIN {attributes}")
        return name

    yield create
    for name in created:
        await store.pool.execute(f"DROP ROLE IF EXISTS {name}")


async def test_an_owner_who_may_not_create_logins_is_given_the_statements(store_database, a_login, monkeypatch):
    monkeypatch.setattr(logins, "LOGINS", (Login("sluice_first"), Login("sluice_second")))
    async with connected(as_login(store_database, Login(await a_login()))) as connection:
        with pytest.raises(SluiceError) as refused:
            await privileges.create_logins(connection, store_database, {})

    text = str(refused.value)
    for name in ("sluice_first", "sluice_second"):
        assert f"CREATE ROLE {name} LOGIN NOSUPERUSER NOBYPASSRLS" in text
    assert "SLUICE_POSTGRES_OWNER_DSN" in text


async def test_an_existing_login_with_too_much_power_is_named(store, store_database, a_login, monkeypatch):
    name = await a_login("CREATEDB")
    monkeypatch.setattr(logins, "LOGINS", (Login(name),))
    async with store.pool.acquire() as connection:
        with pytest.raises(SluiceError, match=f"ALTER ROLE {name} NOSUPERUSER NOBYPASSRLS"):
            await privileges.create_logins(connection, store_database, {})


def test_a_password_that_cannot_be_used_is_named():
    with pytest.raises(SluiceError, match="SLUICE_POSTGRES_PASSWORD_EVENT_WORKER must consist of printable ASCII"):
        logins.read_passwords({"SLUICE_POSTGRES_PASSWORD_EVENT_WORKER": "größe"})


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        (
            "postgresql://admin:old@db:5433/sluice?sslmode=verify-full",
            "postgresql://x:p%40%2F@db:5433/sluice?sslmode=verify-full",
        ),
        ("postgresql:///sluice?host=/run/postgresql", "postgresql://x:p%40%2F@/sluice?host=/run/postgresql"),
        ("postgresql://db,other:5433/sluice", "postgresql://x:p%40%2F@db,other:5433/sluice"),
    ],
)
def test_the_address_for_another_login(dsn, expected):
    assert logins.with_login(dsn, "x", "p@/") == expected
    assert urlsplit(logins.with_login(dsn, "x", None)).password is None
