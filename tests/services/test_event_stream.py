"""``GET /v1/events/stream``: what a stream has, where it continues, and when it ends."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from starlette.requests import Request

from gateway.auth.principal import KeyPrincipal
from gateway.errors import TooManyRequests, Unavailable
from gateway.events import feed as feeds
from gateway.events import v1
from gateway.events.feed import EventFeed, OvertakenError
from sluice.bus.messages import DeliveryEvent
from sluice.model import ids
from sluice.model.ids import uuid7
from sluice.runtime.tasks import cancel_and_wait
from tests.examples import (
    NOON,
    OTHER_PROJECT,
    PROJECT,
    a_body,
    a_rejection,
    an_acceptance,
    an_id,
    an_unresponsiveness,
    as_json,
)
from tests.polling import wait_until
from tests.services.fakes import FakeEventSource, FakeRecord
from tests.services.test_gateway import error_of

STREAM = "/v1/events/stream"


def an_event(project=PROJECT, type_="sent", **fields):
    defaults = {"delivery_id": an_id(), "message_id": an_id(), "sequence": 2, "channel": "email", "occurred_at": NOON}
    return DeliveryEvent(project_id=project, type=type_, **defaults | fields).encode()


def records(*values, partition=0, first=0):
    return [FakeRecord(value, partition=partition, offset=first + at) for at, value in enumerate(values)]


# -- the feed ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_feed(window=100, **options):
    source = FakeEventSource(**options)
    feed = EventFeed(source, window=window)
    task = asyncio.create_task(feed.run())
    try:
        yield feed, source
    finally:
        await cancel_and_wait(task)


def offsets(batch):
    return [(entry.partition, entry.offset) for entry in batch.entries]


async def test_a_stream_has_the_events_of_its_project_from_now_on():
    async with a_feed() as (feed, _):
        first = await feed.subscribe(PROJECT, None)
        feed.add(records(an_event()))
        stream = await feed.subscribe(PROJECT, None)
        feed.add(records(an_event(), an_event(OTHER_PROJECT), an_event(), first=1))

        assert offsets(stream.next_batch()) == [(0, 1), (0, 3)]
        assert offsets(first.next_batch()) == [(0, 0), (0, 1), (0, 3)]
        assert stream.next_batch().entries == []


async def test_a_stream_continues_where_it_ended_in_every_partition():
    async with a_feed() as (feed, _):
        stream = await feed.subscribe(PROJECT, None)
        feed.add(records(an_event(), an_event(), partition=0))
        batch = stream.next_batch(limit=1)
        feed.add(records(an_event(), partition=1))

        again = await feed.subscribe(PROJECT, batch.positions[-1])

        assert not again.missed
        assert offsets(again.next_batch()) == [(0, 1), (1, 0)]
        assert again.position == feed.next_position == (2, 1)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_no_event_is_sent_twice_whatever_the_interruptions(size):
    async with a_feed() as (feed, _):
        position, sent = None, []
        opener = await feed.subscribe(PROJECT, None)
        position = opener.position
        for turn in range(10):
            for partition in (0, 1):
                feed.add(records(an_event(), an_event(OTHER_PROJECT), partition=partition, first=2 * turn))
            stream = await feed.subscribe(PROJECT, position)
            batch = stream.next_batch(limit=size)
            sent += offsets(batch)
            position = batch.positions[-1] if batch.entries else stream.position
            stream.close()
        last = await feed.subscribe(PROJECT, position)
        while entries := (batch := last.next_batch()).entries:
            sent += offsets(batch)
            assert entries

        assert sorted(sent) == sorted((partition, 2 * turn) for turn in range(10) for partition in (0, 1))


@pytest.mark.parametrize("position", [(0, 0), (99, 0), (0,), (-1,), (1, 2, 3)])
async def test_a_position_that_the_window_does_not_reach_begins_now_and_says_so(position):
    async with a_feed(window=2) as (feed, _):
        await feed.subscribe(PROJECT, None)
        feed.add(records(*[an_event() for _ in range(5)]))

        stream = await feed.subscribe(PROJECT, position)

        assert stream.missed
        assert stream.next_batch().entries == []


async def test_a_stream_that_the_window_has_overtaken_ends():
    async with a_feed(window=3) as (feed, _):
        stream, other = await feed.subscribe(PROJECT, None), await feed.subscribe(OTHER_PROJECT, None)
        feed.add(records(an_event(OTHER_PROJECT), *[an_event() for _ in range(3)]))
        assert len(stream.next_batch().entries) == 3
        feed.add(records(*[an_event() for _ in range(4)], first=4))

        with pytest.raises(OvertakenError):
            stream.next_batch()
        with pytest.raises(OvertakenError):
            other.next_batch()


async def test_the_window_is_bounded_and_forgets_projects():
    async with a_feed(window=10) as (feed, _):
        await feed.subscribe(PROJECT, None)
        for number in range(100):
            feed.add(records(an_event(uuid7()), first=number))

        assert (len(feed._entries), len(feed._by_project), len(feed._last_dropped)) == (10, 10, 0)


async def test_what_is_no_event_is_passed_over():
    async with a_feed() as (feed, _):
        stream = await feed.subscribe(PROJECT, None)
        feed.add(records(None, b"{", b"[]", b'{"type":"sent"}', b'{"type":7,"project_id":"x"}', an_event()))

        assert offsets(stream.next_batch()) == [(0, 5)]


async def test_the_bus_is_read_only_while_there_are_streams(monkeypatch):
    monkeypatch.setattr(feeds, "_IDLE_TIMEOUT", 0.0)
    async with a_feed() as (feed, source):
        await asyncio.sleep(0.05)
        assert source.opened == 0
        stream = await feed.subscribe(PROJECT, None)
        assert source.opened == 1
        stream.close()
        source.put()
        await wait_until(lambda: not feed._wanted.is_set())

        await feed.subscribe(PROJECT, None)
        assert source.opened == 2


async def test_without_the_bus_a_stream_is_refused(monkeypatch):
    monkeypatch.setattr(feeds, "_READY_TIMEOUT", 0.05)
    async with a_feed() as (feed, source):
        source.fault = OSError()

        with pytest.raises(Unavailable):
            await feed.subscribe(PROJECT, None)
        assert feed._streams == {}


async def test_a_project_has_a_bounded_number_of_streams(monkeypatch):
    monkeypatch.setattr(feeds, "_MAX_STREAMS_PER_PROJECT", 2)
    monkeypatch.setattr(feeds, "_MAX_STREAMS", 3)
    async with a_feed() as (feed, _):
        stream, _ = [await feed.subscribe(PROJECT, None) for _ in range(2)]
        with pytest.raises(TooManyRequests):
            await feed.subscribe(PROJECT, None)
        await feed.subscribe(OTHER_PROJECT, None)
        with pytest.raises(TooManyRequests):
            await feed.subscribe(uuid7(), None)
        stream.close()
        await feed.subscribe(PROJECT, None)


async def test_all_streams_end_with_the_gateway():
    async with a_feed() as (feed, _):
        stream = await feed.subscribe(PROJECT, None)
        waiting = asyncio.create_task(stream.wait(60))

    await asyncio.wait_for(waiting, 5)
    assert stream.is_closed


@pytest.mark.parametrize("position", [(0,), (1, 35, 36), (0, 123_456_789_012)])
def test_a_position_is_read_as_it_was_written(position):
    assert v1._position(v1.encode_position(position)) == position


# -- the stream over HTTP ----------------------------------------------------------------------------------------------


class Reader:
    """An open stream: the chunks of its body."""

    def __init__(self, body):
        self._body = body

    async def next(self):
        return (await asyncio.wait_for(anext(self._body), 10)).decode()

    async def events(self, count):
        """The next events: type, id, data."""
        found = []
        while len(found) < count:
            for block in (await self.next()).strip().split("\n\n"):
                fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
                if "data" in fields:
                    found.append((fields["event"], fields["id"], json.loads(fields["data"])))
        return found


@asynccontextmanager
async def opened(gateway, *, key=None, last_event_id=None, **query):
    """A stream as the route opens it; httpx does not stream from an ASGI application."""
    answer = await open_stream(gateway, key=key, last_event_id=last_event_id, **query)
    body = answer.body_iterator
    reader = Reader(body)
    reader.first = await reader.next()
    try:
        yield reader
    finally:
        await body.aclose()


async def open_stream(gateway, *, key=None, last_event_id=None, types=None, channel=None, message_id=None):
    headers = [(b"x-sendpipe-key", (key or gateway.key).encode())]
    request = Request({"type": "http", "method": "GET", "path": STREAM, "query_string": b"", "headers": headers})
    principal = await gateway.accounts.access.principal(request)
    wanted = v1._filter(types, channel, message_id)
    return await v1.stream_events(request, principal, gateway.services, wanted, last_event_id)


async def a_sent_message(gateway, *, key=None):
    """A message and the records of its first events."""
    message_id = (await gateway.post(as_json(a_body()), key=key)).json()["id"]
    row = await gateway.pool.fetchrow(
        "SELECT id, project_id, message_id FROM deliveries WHERE message_id = $1", ids.decode_id("msg", message_id)
    )
    values = [
        an_event(row["project_id"], type_, delivery_id=row["id"], message_id=row["message_id"], sequence=sequence)
        for sequence, type_ in ((2, "sending"), (3, "sent"))
    ]
    return message_id, values


async def test_a_stream_shows_what_happened_without_recipients(gateway):
    message_id, values = await a_sent_message(gateway)
    async with opened(gateway) as stream:
        gateway.event_source.put(*records(*values))
        (one, _, data), (two, _, _) = await stream.events(2)

    assert stream.first == ":\nid: 0.0\n\n"
    assert (one, two) == ("sending", "sent")
    assert (data["message_id"], data["channel"], data["created_at"]) == (
        message_id,
        "email",
        "2026-08-20T12:00:00.000Z",
    )
    assert data["id"].startswith("evt_")
    assert "@" not in json.dumps(data)


async def test_a_stream_continues_behind_its_last_event(gateway):
    _, values = await a_sent_message(gateway)
    async with opened(gateway) as stream:
        gateway.event_source.put(*records(*values))
        (_, first_id, _), _ = await stream.events(2)

    async with opened(gateway, last_event_id=first_id) as again:
        assert [event for event, _, _ in await again.events(1)] == ["sent"]


@pytest.mark.parametrize("last", ["7.7", "x y", "-1", "0", "é"])
async def test_an_id_that_cannot_be_continued_from_leads_to_a_reset(gateway, last):
    async with opened(gateway, last_event_id=last) as stream:
        assert stream.first.startswith("event: reset\n")


async def test_test_and_live_events_are_apart(gateway):
    test_key = await gateway.another_key(is_test=True)
    _, live = await a_sent_message(gateway)
    test_message, test = await a_sent_message(gateway, key=test_key)
    async with opened(gateway) as of_live, opened(gateway, key=test_key) as of_test:
        gateway.event_source.put(*records(*test, *live))

        assert [event for event, _, _ in await of_live.events(2)] == ["sending", "sent"]
        assert {data["message_id"] for _, _, data in await of_test.events(2)} == {test_message}


async def test_events_of_other_projects_never_come(gateway):
    other = await gateway.new_project("other")
    _, foreign = await a_sent_message(gateway, key=other)
    own_message, own = await a_sent_message(gateway)
    async with opened(gateway) as stream:
        gateway.event_source.put(*records(*foreign, *own))

        assert {data["message_id"] for _, _, data in await stream.events(2)} == {own_message}


async def test_a_forged_project_on_the_bus_shows_no_delivery_of_another(gateway):
    """The row decides: an event that names this project and another one's delivery is not shown."""
    other = await gateway.new_project("other")
    _, foreign = await a_sent_message(gateway, key=other)
    own_message, own = await a_sent_message(gateway)
    own_project = json.loads(own[0])["project_id"]
    forged = [json.dumps(json.loads(value) | {"project_id": own_project}).encode() for value in foreign]
    async with opened(gateway) as stream:
        gateway.event_source.put(*records(*forged, *own))

        assert {data["message_id"] for _, _, data in await stream.events(2)} == {own_message}


async def test_a_stream_has_the_accepted_requests_of_its_own_mode(gateway):
    project_id = await gateway.pool.fetchval("SELECT id FROM projects")
    test_key = await gateway.another_key(is_test=True)
    accepted = [an_acceptance(project_id=project_id, sandbox=sandbox) for sandbox in (False, True)]
    async with opened(gateway) as live, opened(gateway, key=test_key) as test:
        gateway.event_source.put(*records(*(event.encode() for event in accepted)))

        shown = [[(event, data["message_id"]) for event, _, data in await one.events(1)] for one in (live, test)]

    assert shown == [[("request_accepted", ids.encode_id("msg", event.message_id))] for event in accepted]


async def test_filters(gateway):
    one, first = await a_sent_message(gateway)
    _, second = await a_sent_message(gateway)
    async with (
        opened(gateway, types="sent, delivered") as by_type,
        opened(gateway, message_id=one) as by_message,
        opened(gateway, channel="sms", types="provider_unresponsive") as by_channel,
    ):
        project_id = json.loads(first[0])["project_id"]
        unresponsive = an_unresponsiveness(provider_id=an_id(), project_id=project_id, concurrency=1).encode()
        rejected = a_rejection(project_id=project_id, topic="t").encode()
        gateway.event_source.put(*records(*second, *first, rejected, unresponsive))

        assert [event for event, _, _ in await by_type.events(2)] == ["sent", "sent"]
        assert [(event, data["message_id"]) for event, _, data in await by_message.events(2)] == [
            ("sending", one),
            ("sent", one),
        ]
        assert [(event, data["id"]) for event, _, data in await by_channel.events(1)] == [
            ("provider_unresponsive", None)
        ]


async def test_a_heartbeat_moves_the_id_and_ends_with_the_key(gateway, monkeypatch):
    monkeypatch.setattr(v1, "HEARTBEAT", 0.05)
    key = await gateway.another_key(is_test=False)
    project_id = await gateway.pool.fetchval("SELECT id FROM projects")
    async with opened(gateway, key=key) as stream:
        gateway.event_source.put(*records(an_event(OTHER_PROJECT)))

        async def has_moved():
            return await stream.next() == ":\nid: 1.0\n\n"

        await wait_until(has_moved)
        await gateway.pool.execute("UPDATE api_keys SET is_active = false WHERE project_id = $1", project_id)
        with pytest.raises(StopAsyncIteration):
            await stream.events(1)
    assert gateway.events._streams == {}


async def test_bad_parameters_are_named(gateway):
    for params, field in (({"types": "sideways"}, "types"), ({"channel": "pigeon"}, "channel")):
        answer = await gateway.ask("GET", STREAM, params=params)
        assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == field
    error_of(await gateway.ask("GET", STREAM, params={"message_id": "x"}), 404, "NOT_FOUND")


def test_a_principal_with_a_key_reads_events():
    assert {permission.value for permission in KeyPrincipal(an_id(), PROJECT, False).permissions} >= {"events:read"}
