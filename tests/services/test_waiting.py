"""Callers that wait until their messages are settled: notices through Redis, and look-ups without it."""

import asyncio
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.errors import TooManyRequests
from gateway.messages import waiting
from gateway.messages.waiting import Awaited, SettledMessages
from sluice.delivery.retry_policy import defer, expire
from sluice.delivery.settled_notices import SettledNotices, decode_notice, encode_notice
from sluice.delivery.settlement import Settlement, SettlementWriter
from sluice.model.state import State
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import cancel_and_wait
from sluice.store import messages
from tests.examples import OTHER_PROJECT, a_message, a_task, an_id, seconds
from tests.polling import wait_until


class Link:
    """A TCP connection to Redis that a test cuts or stops."""

    def __init__(self, url):
        self._target = urlsplit(url)
        self._open = asyncio.Event()
        self._open.set()
        self._streams = set()

    @asynccontextmanager
    async def running(self):
        await self.start()
        yield self
        self.cut()

    async def start(self, port=0):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        target, out = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._streams |= {writer, out}
        await asyncio.gather(self._copy(reader, out), self._copy(target, writer))

    async def _copy(self, reader, writer):
        try:
            while data := await reader.read(65_536):
                await self._open.wait()
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    def hang(self):
        self._open.clear()

    def cut(self):
        self._server.close()
        for stream in self._streams:
            stream.transport.abort()
        self._streams.clear()


@pytest.fixture
async def link(redis_url):
    async with Link(redis_url).running() as link:
        yield link


@pytest.fixture
async def redis(link):
    url = f"redis://127.0.0.1:{link.port}/0"
    async with Redis.from_url(
        url, socket_timeout=0.2, socket_connect_timeout=0.2, retry=Retry(NoBackoff(), 0)
    ) as redis:
        yield redis


@asynccontextmanager
async def a_gateway(store, redis, *, limit=30.0):
    settled = SettledMessages(store.gateway, redis, limit=limit)
    running = asyncio.create_task(settled.run())
    if redis is not None:
        await wait_until(lambda: settled._listening)
    yield settled
    await cancel_and_wait(running)


@asynccontextmanager
async def a_writer(store, bus, redis):
    async with SettlementWriter(store.router, bus, notices=SettledNotices(redis)).running() as settlements:
        yield settlements


@pytest.fixture
def no_look_ups(monkeypatch):
    """A gateway looks up only what a notice names."""
    monkeypatch.setattr(waiting, "_CHECK_INTERVAL", 300.0)


@pytest.fixture
def look_ups(monkeypatch):
    """The ids of each look-up."""
    calls, find = [], messages.find_results

    async def counted(db, ids):
        calls.append(set(ids))
        return await find(db, ids)

    monkeypatch.setattr(messages, "find_results", counted)
    return calls


async def accepted(store, count=1, **changes):
    """The tasks of awaited messages, which expire at once."""
    changes = {"awaited": True, "expires_at": utc_now()} | changes
    made = [a_message(utc_now(), **changes) for _ in range(count)]
    await store.accept(*made)
    return [
        a_task(delivery_id=one.deliveries[0].id, message_id=one.id, awaited=one.awaited, project_id=one.project_id)
        for one in made
    ]


def settle(settlements, *tasks):
    return asyncio.gather(*[settlements.settle(Settlement(task, expire(task, at=utc_now()))) for task in tasks])


def waits(settled, *tasks, **changes):
    return asyncio.create_task(settled.wait([Awaited(task.message_id, task.project_id, **changes) for task in tasks]))


async def test_a_notice_ends_the_waiting_in_the_gateway_whose_caller_waits(store, bus, redis, no_look_ups, look_ups):
    async with (
        a_gateway(store, redis) as one,
        a_gateway(store, redis) as other,
        a_writer(store, bus, redis) as settlements,
    ):
        [task, later] = await accepted(store, 2)
        first, second = waits(one, task), waits(other, later)
        await settle(settlements, task)
        found = await first

        assert [result.state for result in found[task.message_id]] == [State.EXPIRED]
        assert found[task.message_id][0].error == "not sent before expires_at"
        assert not second.done()
        assert look_ups == [{task.message_id}]
        await settle(settlements, later)
        assert await second


async def test_notices_of_a_moment_share_a_look_up(store, bus, redis, no_look_ups, look_ups):
    async with a_gateway(store, redis) as settled, a_writer(store, bus, redis) as settlements:
        tasks = await accepted(store, 100)
        waiting_for = waits(settled, *tasks)
        await settle(settlements, *tasks)

        assert len(await waiting_for) == 100
        assert len(look_ups) <= 5


async def test_a_message_is_settled_when_all_its_deliveries_are(store, bus, redis, no_look_ups):
    message = a_message(utc_now(), to=("one@example.com", "two@example.com"), awaited=True, expires_at=utc_now())
    await store.accept(message)
    tasks = [a_task(delivery_id=one.id, message_id=message.id, awaited=True) for one in message.deliveries]
    async with a_gateway(store, redis) as settled, a_writer(store, bus, redis) as settlements:
        waiting_for = waits(settled, tasks[0])
        await settle(settlements, tasks[0])
        await asyncio.sleep(0.1)
        assert not waiting_for.done()

        await settle(settlements, tasks[1])
        assert len((await waiting_for)[message.id]) == 2


async def test_a_message_without_a_waiting_caller_and_a_postponed_one_cause_no_notice(store, bus, redis):
    async with redis.pubsub() as notices, a_writer(store, bus, redis) as settlements:
        await notices.subscribe("sluice:settled")
        [quiet] = await accepted(store, awaited=False)
        [postponed, awaited] = await accepted(store, 2)
        now = utc_now()

        await settle(settlements, quiet)
        await settlements.settle(Settlement(postponed, defer(postponed, until=now + seconds(9), reason="", at=now)))
        await settle(settlements, awaited)

        found = await wait_until(lambda: next_notice(notices))
        assert decode_notice(found) == [awaited.message_id]


async def next_notice(notices):
    message = await notices.get_message(ignore_subscribe_messages=True, timeout=0.1)
    return None if message is None else message["data"]


async def test_without_redis_one_statement_looks_for_all_that_is_waited_for(store, bus, look_ups):
    async with a_gateway(store, None) as settled, a_writer(store, bus, None) as settlements:
        tasks = await accepted(store, 50)
        callers = [waits(settled, task) for task in tasks]
        await wait_until(lambda: look_ups and len(look_ups[-1]) == 50)
        await settle(settlements, *tasks)

        assert all(await asyncio.gather(*callers))


async def test_while_redis_is_away_callers_are_answered_and_notices_count_again_when_it_is_back(
    store, bus, link, redis, monkeypatch
):
    monkeypatch.setattr(waiting, "_CHECK_INTERVAL", 300.0)
    async with a_gateway(store, redis) as settled, a_writer(store, bus, redis) as settlements:
        [during, cut_off, after] = await accepted(store, 3)
        caller = waits(settled, cut_off)
        link.cut()
        await wait_until(lambda: not settled._listening)

        await settle(settlements, cut_off, during)
        assert await caller
        assert await waits(settled, during)

        await link.start(link.port)
        await wait_until(lambda: settled._listening)
        await wait_until(lambda: not settlements._notices._broken_until > asyncio.get_running_loop().time())
        caller = waits(settled, after)
        await settle(settlements, after)
        assert await caller


async def test_a_redis_that_hangs_delays_answers_and_changes_none(store, bus, link, redis, monkeypatch):
    monkeypatch.setattr(waiting, "_CHECK_INTERVAL", 0.3)
    async with a_gateway(store, redis) as settled, a_writer(store, bus, redis) as settlements:
        [task] = await accepted(store)
        caller = waits(settled, task)
        link.hang()
        await settle(settlements, task)

        assert await caller
        await wait_until(lambda: not settled._listening)


async def test_what_is_settled_without_a_notice_is_found_within_the_interval(store, redis, monkeypatch):
    monkeypatch.setattr(waiting, "_CHECK_INTERVAL", 0.05)
    async with a_gateway(store, redis) as settled:
        [task] = await accepted(store)
        caller = waits(settled, task)
        await store.cancel(task.message_id, at=utc_now())

        [result] = (await caller)[task.message_id]
        assert result.state is State.CANCELLED


async def test_a_message_that_may_be_settled_already_is_looked_up_at_once(store, bus, redis, no_look_ups):
    async with a_gateway(store, redis) as settled, a_writer(store, bus, None) as settlements:
        [task] = await accepted(store)
        await settle(settlements, task)

        assert await waits(settled, task, is_old=True)


async def test_callers_of_one_message_share_it_and_one_that_leaves_takes_nothing(store, bus, redis, no_look_ups):
    async with a_gateway(store, redis) as settled, a_writer(store, bus, redis) as settlements:
        [task] = await accepted(store)
        leaving, staying = waits(settled, task), waits(settled, task)
        await asyncio.sleep(0)
        await cancel_and_wait(leaving)
        await settle(settlements, task)

        assert await staying
        assert not settled._waiting


async def test_after_the_limit_what_is_settled_is_known_and_the_rest_missing(store, bus, redis):
    async with a_gateway(store, redis, limit=0.3) as settled, a_writer(store, bus, redis) as settlements:
        [one, other] = await accepted(store, 2)
        caller = waits(settled, one, other)
        await settle(settlements, one)

        assert set(await caller) == {one.message_id}
        assert not settled._waiting


async def test_a_message_of_another_project_is_not_found(store, bus):
    async with a_gateway(store, None, limit=0.3) as settled, a_writer(store, bus, None) as settlements:
        [task] = await accepted(store)
        await settle(settlements, task)

        assert await settled.wait([Awaited(task.message_id, OTHER_PROJECT, is_old=True)]) == {}


async def test_while_postgres_is_away_look_ups_are_repeated(store, bus, redis, no_look_ups, monkeypatch):
    find, faults = messages.find_results, [OSError(), TimeoutError()]

    async def failing(db, ids):
        if faults:
            raise faults.pop()
        return await find(db, ids)

    monkeypatch.setattr(messages, "find_results", failing)
    monkeypatch.setattr(waiting, "_RETRY_DELAY", 0.01)
    async with a_gateway(store, redis) as settled, a_writer(store, bus, redis) as settlements:
        [task] = await accepted(store)
        caller = waits(settled, task)
        await settle(settlements, task)

        assert await caller
        assert not faults


async def test_the_shutdown_ends_the_waiting(store):
    async with a_gateway(store, None) as settled:
        [task] = await accepted(store)
        caller = waits(settled, task)
        await asyncio.sleep(0)

    assert await caller == {}
    assert await waits(settled, task) == {}


async def test_a_gateway_waits_for_a_bounded_number_of_messages(store, monkeypatch):
    monkeypatch.setattr(waiting, "_MAX_WAITING", 2)
    async with a_gateway(store, None) as settled:
        tasks = await accepted(store, 2)
        caller = waits(settled, *tasks)
        await asyncio.sleep(0)

        with pytest.raises(TooManyRequests):
            settled.require_room(1)
        await cancel_and_wait(caller)
        settled.require_room(2)


def test_a_notice_has_any_number_of_ids():
    ids = [an_id() for _ in range(3)]

    assert decode_notice(encode_notice(ids)) == ids
    assert decode_notice(encode_notice(ids) + b"rest") == ids
    assert decode_notice(b"") == []
