"""Migrations: each is applied once, in order, also by concurrent processes."""

import asyncio

import pytest

from sluice.runtime.errors import SluiceError
from sluice.store import logins, migrations, privileges
from tests.engine import as_login, connected
from tests.store.harness import at_once


@pytest.fixture
async def empty(make_bare_database):
    return await make_bare_database()


@pytest.fixture
def folder(tmp_path):
    """A folder with the migrations; ``write(name, sql)`` adds one."""

    class Folder:
        path = tmp_path

        def write(self, name, sql):
            (tmp_path / name).write_text(sql)

    found = Folder()
    for file in migrations.load_migrations():
        found.write(file.name, file.sql)
    return found


NEXT = f"{len(migrations.load_migrations()) + 1:04d}_next.sql"


async def tables_of(dsn):
    async with connected(dsn) as connection:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {row["tablename"] for row in rows}


async def test_all_migrations_are_applied_to_an_empty_database(empty):
    applied = await migrations.apply(empty)

    assert applied == [migration.name for migration in migrations.load_migrations()]
    assert {"messages", "deliveries", "attempts", "events", "messages_default"} <= await tables_of(empty)


async def test_a_second_run_changes_nothing(empty):
    await migrations.apply(empty)

    assert await migrations.apply(empty) == []


async def test_concurrent_runs_apply_each_file_once(empty):
    results = await at_once(*[migrations.apply(empty) for _ in range(5)])

    assert sorted(name for result in results for name in result) == [one.name for one in migrations.load_migrations()]


async def test_a_new_file_is_applied_to_an_existing_database(empty, folder):
    await migrations.apply(empty, folder.path)
    folder.write(NEXT, "CREATE TABLE new_things (id int)")

    assert await migrations.apply(empty, folder.path) == [NEXT]
    assert "new_things" in await tables_of(empty)


async def test_a_changed_file_is_refused(empty, folder):
    await migrations.apply(empty, folder.path)
    folder.write(migrations.load_migrations()[0].name, "SELECT 1")

    with pytest.raises(SluiceError, match="was changed after it was applied"):
        await migrations.apply(empty, folder.path)


async def test_a_rolled_back_program_leaves_a_newer_database_alone(empty, folder):
    folder.write(NEXT, "CREATE TABLE new_things (id int)")
    await migrations.apply(empty, folder.path)
    async with connected(empty) as connection:  # as the newer program does
        await connection.execute("GRANT SELECT ON new_things TO sluice_router")

    assert await migrations.apply(empty) == []
    async with connected(empty) as connection:
        assert await connection.fetchval("SELECT has_table_privilege('sluice_router', 'new_things', 'SELECT')")


async def test_a_rolled_back_program_is_refused_by_a_breaking_migration(empty, folder):
    folder.write(NEXT, "-- breaking: the column is gone\nCREATE TABLE new_things (id int)")
    await migrations.apply(empty, folder.path)

    with pytest.raises(SluiceError, match=f"{NEXT}, which this version does not have and cannot work with"):
        await migrations.apply(empty)


@pytest.mark.parametrize("login", logins.LOGINS, ids=str)
async def test_a_role_finds_the_schema_of_its_version(store_database, login):
    async with connected(as_login(store_database, login)) as connection:
        await migrations.require_current(connection)


async def no_grants(connection):
    """Those of this version can name columns that an older schema lacks."""


async def test_a_role_on_an_older_schema_says_what_to_do(empty, folder, monkeypatch):
    newest = migrations.load_migrations()[-1].name
    (folder.path / newest).unlink()
    async with connected(empty) as connection:
        with pytest.raises(SluiceError, match="run `sluice migrate` first"):
            await migrations.require_current(connection)
        with monkeypatch.context() as patch:
            patch.setattr(privileges, "grant_privileges", no_grants)
            await migrations.apply(empty, folder.path)
        with pytest.raises(SluiceError, match=f"applies {newest}"):
            await migrations.require_current(connection)

        await migrations.apply(empty)
        await migrations.require_current(connection)


async def test_a_role_whose_version_has_not_migrated_says_what_to_do(empty):
    await migrations.apply(empty)
    async with connected(empty) as owner:
        await owner.execute(f"REVOKE SELECT ON schema_migrations FROM {logins.WORKER.name}")
    async with connected(as_login(empty, logins.WORKER)) as connection:
        with pytest.raises(SluiceError, match="older than this version"):
            await migrations.require_current(connection)


async def test_a_role_works_on_a_newer_schema_unless_that_breaks_it(empty, folder):
    await migrations.apply(empty)
    folder.write(NEXT, "CREATE TABLE next (id int)")
    await migrations.apply(empty, folder.path)
    async with connected(empty) as connection:
        await migrations.require_current(connection)
        await connection.execute("UPDATE schema_migrations SET breaking = true WHERE name = $1", NEXT)
        with pytest.raises(SluiceError, match="newer"):
            await migrations.require_current(connection)


async def test_a_failed_file_changes_nothing(empty, folder):
    folder.write(NEXT, "CREATE TABLE new_things (id int); SELECT 1 / 0")

    with pytest.raises(SluiceError, match=f"{NEXT} failed: division by zero"):
        await migrations.apply(empty, folder.path)

    assert "new_things" not in await tables_of(empty)
    assert "messages" in await tables_of(empty)


async def test_a_table_that_is_in_use_keeps_nobody_waiting_and_is_migrated_after_its_release(
    empty, folder, monkeypatch
):
    await migrations.apply(empty)
    folder.write(NEXT, "CREATE TABLE new_things (id int); ALTER TABLE attempts ADD COLUMN new_column int")
    monkeypatch.setattr(migrations, "_LOCK_PAUSE", 0.1)
    async with connected(empty) as backup, connected(empty) as worker:
        async with backup.transaction():
            await backup.fetch("SELECT * FROM attempts")
            applying = asyncio.create_task(migrations.apply(empty, folder.path))
            for _ in range(3):
                await asyncio.sleep(0.5)
                await worker.execute("UPDATE attempts SET cost = cost", timeout=migrations._LOCK_TIMEOUT + 10.0)
            assert not applying.done()

        assert await applying == [NEXT]


async def test_a_table_that_stays_in_use_is_an_error_that_says_so(empty, folder, monkeypatch):
    await migrations.apply(empty)
    folder.write(NEXT, "CREATE TABLE new_things (id int); ALTER TABLE attempts ADD COLUMN new_column int")
    monkeypatch.setattr(migrations, "_LOCK_LIMIT", 0.0)
    async with connected(empty) as backup, backup.transaction():
        await backup.fetch("SELECT * FROM attempts")

        with pytest.raises(SluiceError, match=f"{NEXT} failed: .* another transaction has used a table"):
            await migrations.apply(empty, folder.path)

    assert "new_things" not in await tables_of(empty)


@pytest.mark.parametrize(
    "name",
    [
        "0001_twice.sql",
        "9999_gap.sql",
        NEXT.replace("next", "Next"),
        "next.sql",
        NEXT.replace("_next", ""),
    ],
)
def test_a_file_that_is_out_of_order_is_named(folder, name):
    folder.write(name, "SELECT 1")

    with pytest.raises(SluiceError, match="is out of order"):
        migrations.load_migrations(folder.path)
