"""F8 in the whole system: one of two email-workers has a clock that is two hours wrong, and nothing depends on it."""

import asyncio

import pytest

from sluice_simulator.scenario import Latency, Rule, Scenario
from tests.debian import PackageMissingError, unpack
from tests.system.another_worker import another_worker
from tests.system.test_scaling import have_shares, load
from tests.system.testbed import smtp_at

pytestmark = [pytest.mark.usefixtures("proven"), pytest.mark.timeout(300)]

TWO_HOURS = 7200


@pytest.fixture(scope="module")
def faketime(tmp_path_factory):
    """The library that shows a process another time."""
    try:
        root = unpack("libfaketime", tmp_path_factory.mktemp("libfaketime"))
    except PackageMissingError as reason:
        pytest.skip(str(reason))
    return str(next(root.rglob("libfaketimeMT.so.1")))


async def seconds_off(testbed):
    """The largest difference between now and a time of the project's deliveries, attempts or events, in seconds."""
    return await testbed.db.fetchval(
        """
        SELECT coalesce(max(abs(extract(epoch FROM moment - now()))), 0)::float8
          FROM (SELECT due_at FROM deliveries WHERE project_id = $1
                UNION ALL SELECT enqueued_at FROM deliveries WHERE project_id = $1
                UNION ALL SELECT a.started_at FROM attempts a JOIN deliveries d ON d.id = a.delivery_id
                           WHERE d.project_id = $1
                UNION ALL SELECT a.finished_at FROM attempts a JOIN deliveries d ON d.id = a.delivery_id
                           WHERE d.project_id = $1
                UNION ALL SELECT e.occurred_at FROM events e JOIN deliveries d ON d.id = e.delivery_id
                           WHERE d.project_id = $1) AS times (moment)
        """,
        testbed.project.id,
    )


@pytest.mark.parametrize("offset", ["-2h", "+2h"])
async def test_f8_the_outcomes_of_a_worker_with_a_wrong_clock_are_all_known_and_its_times_right(
    system, testbed, simulator, faketime, tmp_path, offset
):
    simulator.apply_scenario(Scenario(default=Rule(fail=10, latency=Latency(median=0.3, sigma=0.3))))
    for name in ("first", "second"):  # what one of them fails is for the other, or due again
        await testbed.add_provider(name, smtp_at(*simulator.address("smtp")))
    clock = {"LD_PRELOAD": faketime, "FAKETIME": offset}
    async with another_worker(system, tmp_path / "worker.log", **clock) as worker:
        await have_shares(system, [4, 4])
        async with load(testbed) as ids:
            await asyncio.sleep(4)
            off = [await seconds_off(testbed)]
        settled = await testbed.all_settled(ids)
        off.append(await seconds_off(testbed))
        skew = await worker.metric("sluice_clock_skew_seconds")
        attempts = await worker.metric("sluice_delivery_attempts_total")

    query = "SELECT sum(unknown_attempts) FROM deliveries WHERE project_id = $1"
    accepted = [call["message_id"] for call in simulator.calls if call["accepted"]]
    assert abs(abs(skew) - TWO_HOURS) < 60
    assert attempts > 0
    assert settled == {"SENT": len(ids)}
    assert await testbed.db.fetchval(query, testbed.project.id) == 0
    assert sorted(accepted) == sorted(ids)
    assert max(off) < TWO_HOURS / 2
