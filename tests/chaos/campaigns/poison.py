"""(c) Bad records among good ones: each is dead-lettered with its position and a reason, and no process dies."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from sluice.bus.connection import KafkaConnection
from sluice.bus.messages import SCHEMA_VERSION, VERSION_HEADER
from sluice.bus.topics import Topic
from sluice_launcher.progress import Progress
from tests.chaos.campaigns.load import body, messages, processes, settled
from tests.chaos.cluster import Cluster
from tests.chaos.quiescence import lag

Headers = list[tuple[str, bytes]]
VERSION = (VERSION_HEADER, str(SCHEMA_VERSION).encode())
HOSTILE = (Topic.ACCEPTED, Topic.REROUTE, Topic.EMAIL, Topic.SMS, Topic.PUSH)


def bad(key: bytes) -> Mapping[str, tuple[bytes | None, Headers]]:
    """Records on ``send.requests`` that are no request, by kind: value and headers."""
    ours: Headers = [VERSION, ("x-sendpipe-key", key)]
    values = _not_requests() | _invalid_requests()
    return {kind: (value, ours) for kind, value in values.items()} | _bad_headers(key)


def _good(**fields: Any) -> bytes:
    return json.dumps(body("c-bad", 1, "email") | fields).encode()


def _not_requests() -> dict[str, bytes | None]:
    good = _good()
    return {
        "no value": None,
        "empty value": b"",
        "not JSON": b"{nonsense",
        "cut off": good[: len(good) // 2],
        "a list": b"[]",
        "a number": b"7",
        "a text": b'"hello"',
        "null": b"null",
        "no text at all": bytes(range(128, 256)),
        "deep nesting": b"[" * 100_000,
        "a number of 5,000 digits": b'{"channel":' + b"9" * 5000 + b"}",
        "NaN": good[:-1] + b',"metadata":{"x":NaN}}',
    }


def _invalid_requests() -> dict[str, bytes | None]:
    return {
        "NUL in a text": _good(subject="a\x00b"),
        "half a surrogate pair": _good(subject="\ud800"),
        "a line break in the subject": _good(subject="a\r\nBcc: b@example.com"),
        "an unknown channel": _good(channel="pigeon"),
        "no channel": json.dumps({"text": "x"}).encode(),
        "no recipient": _good(to=[]),
        "a recipient that is none": _good(to=["not-an-address"]),
        "a recipient of the wrong type": _good(to=[7]),
        "too many recipients": _good(to=[f"r{n}@example.com" for n in range(1001)]),
        "an unknown field": _good(colour="red"),
        "an unknown class": _good(**{"class": "sometimes"}),
        "a send_at that is no time": _good(send_at="soon"),
        "a send_at in the past": _good(send_at="2001-01-01T00:00:00Z"),
        "expires before it is sent": _good(send_at="2099-01-02T00:00:00Z", expires_at="2099-01-01T00:00:00Z"),
        "an attachment that is not base64": _good(attachments=[{"filename": "a", "content": "%%"}]),
        "an unknown provider": _good(preferred_provider="prv_none"),
    }


def _bad_headers(key: bytes) -> dict[str, tuple[bytes | None, Headers]]:
    good = _good()
    ours: Headers = [VERSION, ("x-sendpipe-key", key)]
    other_key = key[:-1] + (b"a" if key[-1:] != b"a" else b"b")
    return {
        "no key": (good, [VERSION]),
        "a key that is none": (good, [VERSION, ("x-sendpipe-key", b"sp_live_x")]),
        "another project's key": (good, [VERSION, ("x-sendpipe-key", other_key)]),
        "a key that is no text": (good, [VERSION, ("x-sendpipe-key", b"\xff\xfe")]),
        "a newer schema": (good, [(VERSION_HEADER, str(SCHEMA_VERSION + 1).encode()), ("x-sendpipe-key", key)]),
        "a schema that is no number": (good, [(VERSION_HEADER, b"\xff"), ("x-sendpipe-key", key)]),
        "a key of control characters": (good, [*ours, ("idempotency-key", b"\x00\x1f")]),
        "a thousand headers": (b"{", [*ours, *[(f"h{n}", b"x" * 20) for n in range(1000)]]),
    }


def hostile(topic: Topic) -> list[bytes | None]:
    """Records on a delivery topic that Sluice did not write."""
    task = {
        "delivery_id": "00000000-0000-7000-8000-00000000dead",
        "message_id": "00000000-0000-7000-8000-00000000beef",
        "project_id": "00000000-0000-7000-8000-000000000001",
        "channel": "email",
        "delivery_class": "standard",
        "enqueued_at": "2026-01-01T00:00:00Z",
        "expires_at": "2099-01-01T00:00:00Z",
    }
    foreign: dict[str, Any] = task
    if topic not in (Topic.ACCEPTED, Topic.REROUTE):
        provider = {"provider_id": "00000000-0000-7000-8000-000000000002", "package": "provider-smtp"}
        foreign = {"task": task, **provider, "reference": "att_x_1", "routing_decision": "{}"}
    unreadable: list[bytes | None] = [
        None,
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({**foreign, "enqueued_at": "soon", "task": {**task, "enqueued_at": "soon"}}).encode(),
        json.dumps({**foreign, "task": 7, "delivery_id": 7}).encode(),
        json.dumps({**task, "attempt": 10**30, "task": {**task, "attempt": 10**30}}).encode(),
    ]
    return [*unreadable, json.dumps(foreign).encode()]


async def run(cluster: Cluster, size: int, progress: Progress) -> dict[str, Any]:
    """``size`` good records, a tenth as many bad ones, and hostile ones on every delivery topic."""
    dice, tag = Random("poison"), "c"
    before = processes(cluster)
    kinds = list(bad(cluster.project.key.encode()).items())
    wanted: dict[tuple[str, int, int], str] = {}
    producer = AIOKafkaProducer(**KafkaConnection.to(cluster.kafka).options(), max_request_size=2_000_000, linger_ms=5)
    await producer.start()
    try:
        good: Headers = [VERSION, ("x-sendpipe-key", cluster.project.key.encode())]
        sending = []
        for number in range(size):
            if number % 10 == 0:
                kind, (value, headers) = kinds[(number // 10) % len(kinds)]
                sent = await producer.send(Topic.SEND_REQUESTS.value, value, key=b"k", headers=headers)
                sending.append((kind, sent))
            request = json.dumps(body(tag, number, dice.choice(("email", "sms")))).encode()
            await producer.send(Topic.SEND_REQUESTS.value, request, headers=good)
            if number % 500 == 499:
                await asyncio.sleep(0)
        for topic in HOSTILE:
            values = hostile(topic)
            for place, value in enumerate(values):
                sent = await producer.send(topic.value, value, key=b"k")
                if place < len(values) - 1:  # the last one is valid, but its delivery does not exist
                    sending.append((f"hostile {place} on {topic.value}", sent))
        for kind, sent in sending:
            place = await sent
            wanted[place.topic, place.partition, place.offset] = kind
    finally:
        await producer.stop()
    return await _check(cluster, size, tag, wanted, before, progress)


async def _check(
    cluster: Cluster,
    size: int,
    tag: str,
    wanted: Mapping[tuple[str, int, int], str],
    before: Mapping[str, int | None],
    progress: Progress,
) -> dict[str, Any]:
    violations: list[str] = []
    left: Any = None
    for _ in range(600):
        left = {topic: number for topic, number in (await lag(cluster.kafka)).items() if number}
        if not left:
            break
        progress(f"{tag}: unread {left}") if sum(left.values()) % 7 == 0 else None
        await asyncio.sleep(0.5)
    if left:
        violations.append(f"not read: {left}")
    if await settled(cluster, tag, within=300, progress=progress) is None:
        violations.append("good ones are not settled")
    made = await messages(cluster, tag)
    if made != size:
        violations.append(f"{made} messages for {size} good records")
    if await messages(cluster, "c-bad"):
        violations.append("a bad record became a message")
    dead_lettered = await letters(cluster)
    missing = {place: kind for place, kind in wanted.items() if not dead_lettered.get(place)}
    violations += [f"not dead-lettered: {kind} at {place}" for place, kind in list(missing.items())[:20]]
    restarted = [name for name, pid in processes(cluster).items() if before.get(name) != pid]
    if restarted:
        violations.append(f"restarted: {restarted}")
    kinds = Counter(wanted.values())
    return {
        "good": made,
        "bad": len(wanted),
        "kinds": len(kinds),
        "dead_lettered": len(wanted) - len(missing),
        "restarts": len(restarted),
        "violations": violations,
    }


async def letters(cluster: Cluster) -> dict[tuple[str, int, int], str]:
    """The records on ``dead.letters``: the reason by position."""
    reader = AIOKafkaConsumer(
        **KafkaConnection.to(cluster.kafka).options(), group_id=None, auto_offset_reset="earliest"
    )
    await reader.start()
    found: dict[tuple[str, int, int], str] = {}
    try:
        partition = TopicPartition(Topic.DEAD_LETTERS.value, 0)
        reader.assign([partition])
        end = (await reader.end_offsets([partition]))[partition]
        await reader.seek_to_beginning(partition)
        while await reader.position(partition) < end:
            for record in (await reader.getmany(partition, timeout_ms=1000)).get(partition, []):
                letter = json.loads(record.value)
                if letter["kind"] == "invalid_record":
                    found[letter["topic"], letter["partition"], letter["offset"]] = letter["reason"]
    finally:
        await reader.stop()
    return found
