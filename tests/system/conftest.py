"""A project of the test's own on the one running system, and far ends for its providers."""

import asyncio
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from sluice.runtime.clock import utc_now
from sluice_cli.verification import verify
from sluice_simulator.simulator import Simulator
from tests.polling import until
from tests.system.testbed import DEAD, a_world, smtp_at


@pytest.fixture
async def world(system):
    # The test before may have left a role on its way back.
    await until(lambda: asyncio.to_thread(lambda: not system.control.not_ready()), within=60)
    async with a_world(system) as world:
        yield world


@pytest.fixture
async def mailbox(world):
    """The mailbox server as a provider, behind one that is dead."""
    await world.add_provider("dead-smtp", DEAD)
    port = urlsplit(world.system.addresses["mailbox"]).port
    return await world.add_provider("mailbox-smtp", smtp_at("127.0.0.1", port))


@pytest.fixture
async def simulator():
    """A scripted SMTP server; it lives in the process of the tests."""
    async with Simulator(doors={"smtp": "smtp"}) as simulator:
        yield simulator


@pytest.fixture
async def far_end(world, simulator):
    """The simulator as the project's only provider."""
    await world.add_provider("simulator", smtp_at(*simulator.smtp_address))
    return simulator


@pytest.fixture
async def proven(world):
    """After the test: the record keeps every promise."""
    yield
    async with world.db.acquire() as connection:
        report = await verify(
            connection, now=utc_now(), quiet=False, grace=timedelta(seconds=60), ledgers=[], progress=lambda _: None
        )
    assert report.faults == []
