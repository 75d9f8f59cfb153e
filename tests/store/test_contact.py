"""Contact with PostgreSQL: lost within seconds when it stops or hangs, and regained without a restart."""

import asyncio
from urllib.parse import urlsplit

import pytest

from sluice.store import contact
from sluice.store.contact import DatabaseContact
from sluice.store.db import open_pool
from tests.polling import wait_until


class Network:
    """Passes bytes on to PostgreSQL, until it is cut or hangs."""

    def __init__(self, dsn):
        place = urlsplit(dsn)
        self._target = (place.hostname, place.port)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers = set()
        self._tasks = set()
        self._cut = False
        self.port = 0

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self):
        self.cut()
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self):
        """Close the connections and accept no other."""
        self._cut = True
        for writer in self._writers:
            writer.transport.abort()

    def hang(self):
        self._flowing.clear()

    def heal(self):
        self._cut = False
        self._flowing.set()

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        if self._cut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(*self._target)
        self._writers |= {writer, back}
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer), return_exceptions=True)

    async def _pass(self, reader, writer):
        try:
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
        finally:
            writer.close()


@pytest.fixture
async def network(database):
    network = Network(database)
    await network.start()
    yield network
    await network.stop()


@pytest.fixture
async def contacted(network, database, monkeypatch):
    """A contact over the network, with short times."""
    for name, seconds in (("_INTERVAL", 0.05), ("_TIMEOUT", 0.3), ("_SILENCE_LIMIT", 0.6)):
        monkeypatch.setattr(contact, name, seconds)
    place = urlsplit(database)
    netloc = place.netloc.replace(f":{place.port}", f":{network.port}")
    async with (
        open_pool(place._replace(netloc=netloc).geturl(), size=2, name="test") as pool,
        DatabaseContact(pool).running() as found,
    ):
        yield found


@pytest.mark.parametrize("fault", [Network.cut, Network.hang], ids=["stops", "hangs"])
async def test_f4_contact_is_lost_and_regained(contacted, network, fault):
    before = contacted.fault()

    fault(network)
    lost = await wait_until(contacted.fault)
    network.heal()
    await wait_until(lambda: contacted.fault() is None)

    assert before is None
    assert lost.startswith("PostgreSQL has not answered for 1 s")


async def test_f4_a_busy_pool_keeps_contact(contacted):
    """Statements of the role compete with the probe, and end."""
    connections = [await contacted._pool.acquire() for _ in range(2)]
    await asyncio.sleep(0.2)
    for connection in connections:
        await contacted._pool.release(connection)
    await asyncio.sleep(0.6)

    assert contacted.fault() is None
