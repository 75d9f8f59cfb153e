"""(c) Bad records among good ones: each is parked with its place and a reason, and nobody falls over."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from sluice.bus.messages import SCHEMA_VERSION, VERSION_HEADER
from sluice.bus.topics import Topic
from tests.chaos.campaigns.load import Tell, body, messages, processes, settled
from tests.chaos.cluster import Cluster
from tests.chaos.quiescence import lag

Headers = list[tuple[str, bytes]]
VERSION = (VERSION_HEADER, str(SCHEMA_VERSION).encode())
HOSTILE = (Topic.ACCEPTED, Topic.REROUTE, Topic.EMAIL, Topic.SMS, Topic.PUSH)


def bad(key: bytes) -> Mapping[str, tuple[bytes | None, Headers]]:
    """What a record on ``send.requests`` can be that is no request; by kind: value, headers."""
    good = json.dumps(body("c-bad", 1, "email")).encode()
    ours: Headers = [VERSION, ("x-sendpipe-key", key)]

    def with_(**fields: Any) -> bytes:
        return json.dumps(body("c-bad", 1, "email") | fields).encode()

    other_key = key[:-1] + (b"a" if key[-1:] != b"a" else b"b")
    return {
        "no value": (None, ours),
        "empty value": (b"", ours),
        "not JSON": (b"{nonsense", ours),
        "cut off": (good[: len(good) // 2], ours),
        "a list": (b"[]", ours),
        "a number": (b"7", ours),
        "a text": (b'"hello"', ours),
        "null": (b"null", ours),
        "no text at all": (bytes(range(128, 256)), ours),
        "deep nesting": (b"[" * 100_000, ours),
        "a number of 5,000 digits": (b'{"channel":' + b"9" * 5000 + b"}", ours),
        "NaN": (good[:-1] + b',"metadata":{"x":NaN}}', ours),
        "NUL in a text": (with_(subject="a\x00b"), ours),
        "half a surrogate pair": (with_(subject="\ud800"), ours),
        "a line break in the subject": (with_(subject="a\r\nBcc: b@example.com"), ours),
        "an unknown channel": (with_(channel="pigeon"), ours),
        "no channel": (json.dumps({"text": "x"}).encode(), ours),
        "no recipient": (with_(to=[]), ours),
        "a recipient that is none": (with_(to=["nobody"]), ours),
        "a recipient of the wrong type": (with_(to=[7]), ours),
        "too many recipients": (with_(to=[f"r{n}@example.com" for n in range(1001)]), ours),
        "an unknown field": (with_(colour="red"), ours),
        "an unknown class": (with_(**{"class": "sometimes"}), ours),
        "a send_at that is no time": (with_(send_at="soon"), ours),
        "a send_at in the past": (with_(send_at="2001-01-01T00:00:00Z"), ours),
        "expires before it is sent": (
            with_(send_at="2099-01-02T00:00:00Z", expires_at="2099-01-01T00:00:00Z"),
            ours,
        ),
        "an attachment that is not base64": (with_(attachments=[{"filename": "a", "content": "%%"}]), ours),
        "an unknown provider": (with_(preferred_provider="prv_none"), ours),
        "no key": (good, [VERSION]),
        "a key that is none": (good, [VERSION, ("x-sendpipe-key", b"sp_live_x")]),
        "somebody else's key": (good, [VERSION, ("x-sendpipe-key", other_key)]),
        "a key that is no text": (good, [VERSION, ("x-sendpipe-key", b"\xff\xfe")]),
        "a newer schema": (good, [(VERSION_HEADER, str(SCHEMA_VERSION + 1).encode()), ("x-sendpipe-key", key)]),
        "a schema that is no number": (good, [(VERSION_HEADER, b"\xff"), ("x-sendpipe-key", key)]),
        "a key of control characters": (good, [*ours, ("idempotency-key", b"\x00\x1f")]),
        "a thousand headers": (b"{", [*ours, *[(f"h{n}", b"x" * 20) for n in range(1000)]]),
    }


def hostile(topic: Topic) -> list[bytes | None]:
    """What nobody but us should write on a topic of deliveries, and somebody does."""
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


async def run(cluster: Cluster, size: int, tell: Tell) -> dict[str, Any]:
    """``size`` good records with a tenth as many bad ones among them, and hostile ones on every other topic."""
    dice, tag = Random("poison"), "c"
    before = processes(cluster)
    kinds = list(bad(cluster.project.key.encode()).items())
    wanted: dict[tuple[str, int, int], str] = {}
    producer = AIOKafkaProducer(bootstrap_servers=cluster.kafka, max_request_size=2_000_000, linger_ms=5)
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
                if place < len(values) - 1:  # the last one can be read: it is about nothing that exists
                    sending.append((f"hostile {place} on {topic.value}", sent))
        for kind, sent in sending:
            place = await sent
            wanted[place.topic, place.partition, place.offset] = kind
    finally:
        await producer.stop()
    return await _check(cluster, size, tag, wanted, before, tell)


async def _check(
    cluster: Cluster,
    size: int,
    tag: str,
    wanted: Mapping[tuple[str, int, int], str],
    before: Mapping[str, int | None],
    tell: Tell,
) -> dict[str, Any]:
    violations: list[str] = []
    left: Any = None
    for _ in range(600):
        left = {topic: number for topic, number in (await lag(cluster.kafka)).items() if number}
        if not left:
            break
        tell(f"{tag}: unread {left}") if sum(left.values()) % 7 == 0 else None
        await asyncio.sleep(0.5)
    if left:
        violations.append(f"not read: {left}")
    if await settled(cluster, tag, within=300, tell=tell) is None:
        violations.append("good ones are not settled")
    made = await messages(cluster, tag)
    if made != size:
        violations.append(f"{made} messages for {size} good records")
    if await messages(cluster, "c-bad"):
        violations.append("a bad record became a message")
    parked = await letters(cluster)
    missing = {place: kind for place, kind in wanted.items() if not parked.get(place)}
    violations += [f"not parked: {kind} at {place}" for place, kind in list(missing.items())[:20]]
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
    """Everything on ``dead.letters``: the reason by place."""
    reader = AIOKafkaConsumer(bootstrap_servers=cluster.kafka, group_id=None, auto_offset_reset="earliest")
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
                if letter["kind"] == "unreadable":
                    found[letter["topic"], letter["partition"], letter["offset"]] = letter["reason"]
    finally:
        await reader.stop()
    return found
