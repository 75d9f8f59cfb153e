"""F2 and F3 in the whole system: the disk is full while requests arrive, then there is space again."""

import asyncio
import contextlib
from datetime import timedelta

import httpx
import pytest

from sluice.runtime.clock import utc_now
from sluice_cli.verification import verify
from sluice_launcher.local_stack import LocalStack
from sluice_simulator.simulator import Simulator
from tests.disks import fill, small_disk
from tests.engine import System
from tests.polling import wait_until
from tests.system.testbed import a_testbed, smtp_at

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("running_system"), pytest.mark.timeout(240)]

SIZE = "700m"
ROLES = ("gateway", "router", "email-worker", "event-worker", "health")
RUNS_WITHIN = 30.0  # seconds after there is space; the product promises it
FULL_SECONDS = 20.0


@pytest.fixture
def small_system(tmp_path, monkeypatch):
    """A system whose data directory is on a small disk."""
    monkeypatch.setenv("SLUICE_REQUEUE_AFTER", "3")
    with small_disk(tmp_path / "disk", SIZE) as disk, LocalStack(disk / "data", roles=ROLES) as stack:
        system = System(stack.addresses, stack.ops_addresses, stack.environment, stack.control, disk / "data")
        yield disk, system


async def requests_while_full(testbed):
    """Requests for a while, most of which cannot be stored; the ids of those that were accepted."""
    accepted, deadline = [], asyncio.get_running_loop().time() + FULL_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        with contextlib.suppress(httpx.TransportError):
            answer = await testbed.post(text="x" * 60_000)
            if answer.status_code == 201:
                accepted.append(answer.json()["id"])
        await asyncio.sleep(0.2)
    return accepted


async def test_after_a_full_disk_everything_runs_again_without_a_hand_and_nothing_is_lost(small_system):
    disk, system = small_system
    async with Simulator(endpoints={"smtp": "smtp"}) as simulator, a_testbed(system) as testbed:
        await testbed.add_provider("simulator", smtp_at(*simulator.address("smtp")))
        before = [await testbed.send() for _ in range(20)]
        ballast = await asyncio.to_thread(fill, disk)
        accepted = await requests_while_full(testbed)
        await asyncio.to_thread(ballast.unlink)

        async def all_ready():
            rows = (await asyncio.to_thread(system.control.status))["processes"]
            states = {row["state"] for row in rows if row["name"] != "supervisor"}
            return states == {"ready"} and not await asyncio.to_thread(system.control.not_ready)

        await wait_until(all_ready, within=RUNS_WITHIN)
        after = await testbed.send()
        settled = await testbed.all_settled([*before, *accepted, after], within=90)
        calls = {call["message_id"] for call in simulator.calls}
        async with testbed.db.acquire() as connection:
            grace = timedelta(seconds=60)
            report = await verify(
                connection, now=utc_now(), at_rest=False, grace=grace, call_logs=[], progress=lambda _: None
            )

    assert set(settled) <= {"SENT"}
    assert {*before, *accepted, after} <= calls
    assert report.faults == []
