"""A project of the test's own on the running system, and fake providers for it."""

from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from sluice.runtime.clock import utc_now
from sluice_cli.verification import verify
from sluice_simulator.simulator import Simulator
from tests.system.testbed import DEAD, a_testbed, smtp_at


@pytest.fixture
async def testbed(system):
    async with a_testbed(system) as testbed:
        yield testbed


@pytest.fixture
async def mailbox(testbed):
    """The mailbox server as a provider, behind one that is dead."""
    await testbed.add_provider("dead-smtp", DEAD)
    port = urlsplit(testbed.system.addresses["mailbox"]).port
    return await testbed.add_provider("mailbox-smtp", smtp_at("127.0.0.1", port))


@pytest.fixture
async def simulator():
    """A fake SMTP provider in the process of the tests."""
    async with Simulator(endpoints={"smtp": "smtp"}) as simulator:
        yield simulator


@pytest.fixture
async def fake_provider(testbed, simulator):
    """The simulator as the project's only provider."""
    await testbed.add_provider("simulator", smtp_at(*simulator.address("smtp")))
    return simulator


@pytest.fixture
async def proven(testbed):
    """After the test: every invariant holds in the database."""
    yield
    async with testbed.db.acquire() as connection:
        report = await verify(
            connection, now=utc_now(), at_rest=False, grace=timedelta(seconds=60), call_logs=[], progress=lambda _: None
        )
    assert report.faults == []
