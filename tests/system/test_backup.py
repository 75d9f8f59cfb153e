"""A backup under load, restored into a new installation that goes on with it."""

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
from datetime import timedelta

import asyncpg
import pytest

from sluice.model.ids import encode_id
from sluice.model.state import SETTLED
from sluice.runtime.clock import utc_now
from sluice.runtime.paths import deploy_dir
from sluice_launcher.local_stack import LocalStack, running_postgres
from sluice_simulator.scenario import Latency, Rule, Scenario
from tests.polling import wait_until
from tests.system.test_scaling import calls_by_message, load

pytestmark = pytest.mark.timeout(300)

ROLES = ("gateway", "router", "email-worker", "event-worker", "health")
PORTS = ("postgres", "redis", "kafka", "kafka-controller", "gateway", "gateway-ops", "router", "email-worker")


async def sluice(data_dir, *words, code=0, **variables):
    """The output of a command on the installation in ``data_dir``, or the error of one that fails."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    ports = {f"SLUICE_{name.upper().replace('-', '_')}_PORT": "0" for name in PORTS}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "sluice_cli.main", *words],
        env={**own, **ports, "SLUICE_DATA_DIR": str(data_dir), **variables},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


@pytest.fixture
async def backup(system, testbed, fake_provider, tmp_path):
    """A backup of the system with its key, taken while messages are sent."""
    directory = tmp_path / "backup"
    await testbed.send()
    await sluice(system.data_dir, "backup", str(directory), "--with-key")
    return directory


async def states(dsn, project_id):
    """Class and state of each message of a project that has one delivery."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT message_id, delivery_class, state FROM deliveries WHERE project_id = $1", project_id
        )
    finally:
        await connection.close()
    return {encode_id("msg", row["message_id"]): (row["delivery_class"], row["state"]) for row in rows}


async def settled(dsn, project_id, *, but):
    """The states once every message but one is settled."""

    async def look():
        found = await states(dsn, project_id)
        return found if {one for one, (_, state) in found.items() if state not in SETTLED} <= {but} else None

    return await wait_until(look, within=120)


async def test_a_backup_under_load_becomes_a_new_installation_that_verifies_clean_and_goes_on(
    system, testbed, fake_provider, tmp_path
):
    fake_provider.apply_scenario(Scenario(default=Rule(latency=Latency(median=0.2, sigma=0.5))))
    directory, restored = tmp_path / "backup", tmp_path / "restored"
    scheduled = await testbed.send(send_at=(utc_now() + timedelta(hours=2)).isoformat(), **{"class": "once"})
    async with load(testbed):
        await asyncio.sleep(2)
        once = await asyncio.gather(*(testbed.send(subject=f"Once {n}", **{"class": "once"}) for n in range(40)))
        taken = await sluice(system.data_dir, "backup", str(directory), "--with-key")
    before = await settled(system.addresses["postgres"], testbed.project.id, but=scheduled)
    sent_before = set(calls_by_message(fake_provider))

    shown = await sluice(restored, "restore", str(directory))
    with LocalStack(restored, roles=ROLES, testing=False) as stack:
        after = await settled(stack.addresses["postgres"], testbed.project.id, but=scheduled)
        verified = await sluice(restored, "verify")

    calls = calls_by_message(fake_provider)
    assert "with the encryption key" in taken
    assert "every invariant holds" in shown
    assert "every invariant holds" in verified
    assert set(once) | {scheduled} <= set(after) <= set(before)
    assert len(after) >= 100
    assert {state for kind, state in after.values() if kind == "standard"} == {"SENT"}
    assert {after[one][1] for one in once} <= {"SENT", "UNCONFIRMED"}
    assert after[scheduled] == ("once", "QUEUED")
    # Class `once` holds for both installations together.
    assert {one: calls.get(one) for one in once} == dict.fromkeys(once, 1)
    assert set(calls) == sent_before


@pytest.mark.parametrize("policy", ["resend", "unconfirmed"])
async def test_what_was_not_settled_is_sent_again_or_ended(system, testbed, fake_provider, tmp_path, policy):
    await testbed.run_command("stop", "router")
    try:
        standard = await testbed.send()
        once = await testbed.send(**{"class": "once"})
        await sluice(system.data_dir, "backup", str(tmp_path / "backup"), "--with-key")
    finally:
        await testbed.run_command("start", "router")

    restored = tmp_path / "restored"
    shown = await sluice(restored, "restore", str(tmp_path / "backup"), "--unsettled", policy)
    with running_postgres({"SLUICE_DATA_DIR": str(restored), "SLUICE_POSTGRES_PORT": "0"}) as dsn:
        found = await states(dsn, testbed.project.id)

    assert "every invariant holds" in shown
    assert found[once][1] == "UNCONFIRMED"
    assert (found[standard][1] == "UNCONFIRMED") is (policy == "unconfirmed")


async def test_what_a_backup_contains(backup):
    manifest = json.loads((backup / "manifest.json").read_text())

    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in backup.iterdir()} == dict.fromkeys(
        ("manifest.json", "database.dump", "credentials.key"), 0o600
    )
    assert stat.S_IMODE(backup.stat().st_mode) == 0o700
    assert manifest["migrations"] == sorted(path.name for path in (deploy_dir() / "migrations").glob("*.sql"))
    assert len(manifest["encryption_key_ids"]) == 1


async def test_without_the_option_the_key_is_omitted_and_a_restore_names_what_is_missing(
    system, testbed, fake_provider, tmp_path
):
    directory, restored = tmp_path / "backup", tmp_path / "restored"
    shown = await sluice(system.data_dir, "backup", str(directory))

    no_key = await sluice(restored, "restore", str(directory), code=1)
    await sluice(restored, "generate-key")
    another_key = await sluice(restored, "restore", str(directory), code=1)
    shutil.copy(system.environment["SLUICE_ENCRYPTION_KEY_FILE"], restored / "credentials.key")
    with_the_key = await sluice(restored, "restore", str(directory))

    assert not (directory / "credentials.key").exists()
    assert "keep that in another place" in shown
    assert no_key.startswith(f"sluice: the backup has no key: put the file of the old installation at {restored}")
    assert "does not hold the key" in another_key
    assert "every invariant holds" in with_the_key


async def test_a_backup_is_restored_once_and_into_nothing_that_runs(system, backup, tmp_path):
    restored = tmp_path / "restored"
    await sluice(restored, "restore", str(backup))

    again = await sluice(restored, "restore", str(backup), code=1)
    running = await sluice(system.data_dir, "restore", str(backup), code=1)
    same_name = await sluice(system.data_dir, "backup", str(backup), code=1)

    assert again == "sluice: the database is not empty: a backup is restored into a new one\n"
    assert running.startswith(f"sluice: an installation runs in {system.data_dir}")
    assert same_name == f"sluice: {backup} exists: name a new directory\n"


async def test_a_damaged_or_newer_backup_is_refused_before_anything_is_written(backup, tmp_path):
    manifest = json.loads((backup / "manifest.json").read_text())

    async def refusal(**changes):
        (backup / "manifest.json").write_text(json.dumps(manifest | changes))
        return await sluice(tmp_path / "restored", "restore", str(backup), code=1)

    newer = await refusal(migrations=[*manifest["migrations"], "0009_later.sql"], sluice_version="9.9")
    other_format = await refusal(format=2)
    damaged = await refusal(sha256="0" * 64)
    unknown_field = await refusal(colour="red")
    nothing = await sluice(tmp_path / "restored", "restore", str(tmp_path), code=1)

    assert "made by version 9.9, which is newer: it has the migration 0009_later.sql" in newer
    assert "has the format 2, and this version reads 1" in other_format
    assert "database.dump is damaged" in damaged
    assert all("is not a backup of Sluice" in text for text in (unknown_field, nothing))
    assert not (tmp_path / "restored" / "postgres").exists()


async def test_a_backup_that_fails_leaves_nothing(system, tmp_path):
    (tmp_path / "pg_dump").write_text(
        "#!/bin/sh\ncase $1 in --version) echo 'pg_dump (PostgreSQL) 99.0';;"
        " *) echo 'pg_dump: error: the disk is full' >&2; exit 1;; esac\n"
    )
    (tmp_path / "pg_dump").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    refused = await sluice(system.data_dir, "backup", str(tmp_path / "backup"), code=1, PATH=path)

    assert refused == "sluice: pg_dump failed: pg_dump: error: the disk is full\n"
    assert not list(tmp_path.glob("backup*"))


async def test_without_an_installation_there_is_nothing_to_back_up(tmp_path):
    assert (await sluice(tmp_path, "backup", str(tmp_path / "backup"), code=1)).startswith("sluice: nothing is running")
