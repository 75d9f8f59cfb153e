"""A customer of the sweep and the campaigns: a few requests by hand, and a memory of what was promised."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import aiohttp
import asyncpg
from aiokafka import AIOKafkaProducer

from sluice.bus.messages import SCHEMA_VERSION, VERSION_HEADER
from sluice.bus.topics import Topic
from sluice.model.state import SETTLED
from tests.chaos.cluster import Cluster
from tests.chaos.ledgers import now

ANSWER = 5.0  # seconds a caller waits
TIMEOUT = 30.0  # seconds that a careful caller goes on


@dataclass(slots=True)
class TrackedRequest:
    """What was asked for, and the last answer."""

    tag: str
    key: str | None
    source: str  # http, bus
    result: str = "info"  # ok, bus, fail, refused, info
    id: str | None = None
    status: int | None = None
    cancelled: bool = False


@dataclass(slots=True)
class ClientSession:
    """Asks through both doors; ``promises`` keeps what came of it."""

    cluster: Cluster
    session: aiohttp.ClientSession
    producer: AIOKafkaProducer
    name: str
    requests: list[TrackedRequest] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def request(
        self, channel: str, recipient: str | None = None, *, delivery_class: str = "standard", **fields: Any
    ) -> tuple[str, dict[str, Any]]:
        """A tag of its own and the body of a request; ``recipient`` in the words of the simulator's script."""
        number = next(self._numbers)
        tag = f"{self.name}-{number}"
        document = {"channel": channel, "text": f"{tag}: hello", "tags": [tag], "class": delivery_class, **fields}
        if channel == "email":
            document |= {"from": "shop@example.com", "subject": tag, "to": [f"{recipient or ''}r{number}@example.com"]}
        else:
            document |= {
                "from": "+15005550006",
                "to": [f"{recipient or '+1555'}{number % 10_000:04}{id(self) % 97:02}"],
            }
        return tag, document

    async def send(
        self, channel: str, recipient: str | None = None, *, key: bool = False, **fields: Any
    ) -> TrackedRequest:
        """Through HTTP; with a key again and again until it is answered."""
        tag, document = self.request(channel, recipient, **fields)
        promise = TrackedRequest(tag, f"key-{tag}" if key else None, "http")
        self.requests.append(promise)
        if key:
            document["idempotency_key"] = promise.key
        deadline = asyncio.get_running_loop().time() + TIMEOUT
        while True:
            await self._post(promise, json.dumps(document).encode())
            over = asyncio.get_running_loop().time() > deadline
            if promise.result in ("ok", "fail") or over or (not key and promise.result != "unreached"):
                return promise
            await asyncio.sleep(0.2)

    async def _post(self, promise: TrackedRequest, body: bytes) -> None:
        try:
            async with self.session.post(
                f"{self.cluster.gateways[0]}/v1/messages/channel",
                data=body,
                headers={"x-sendpipe-key": self.cluster.project.key, "content-type": "application/json"},
            ) as response:
                content = await response.read()
                promise.status = response.status
        except aiohttp.ClientConnectorError:
            promise.result = "unreached"
            return
        except (aiohttp.ClientError, OSError, TimeoutError):
            promise.result = "info"
            return
        results = {201: "ok", 503: "refused", 500: "info"}
        promise.result = results.get(promise.status, "fail")
        if promise.result == "ok":
            promise.id = json.loads(content)["id"]

    async def publish(
        self, channel: str, recipient: str | None = None, *, key: bool = False, **fields: Any
    ) -> TrackedRequest:
        """Through Kafka."""
        tag, document = self.request(channel, recipient, **fields)
        promise = TrackedRequest(tag, f"key-{tag}" if key else None, "bus")
        self.requests.append(promise)
        if key:
            document["idempotency_key"] = promise.key
        await self.put(json.dumps(document).encode())
        promise.result = "bus"
        return promise

    async def put(self, value: bytes | None, **headers: str) -> None:
        """Any record at all on send.requests; with our project's key unless the headers say otherwise."""
        named = {VERSION_HEADER: str(SCHEMA_VERSION), "x-sendpipe-key": self.cluster.project.key, **headers}
        await self.producer.send_and_wait(
            Topic.SEND_REQUESTS.value, value, headers=[(name, text.encode()) for name, text in named.items() if text]
        )

    async def cancel(self, promise: TrackedRequest) -> None:
        """Take it back; a promise only when the answer is 200."""
        if promise.id is None:
            return
        url = f"{self.cluster.gateways[0]}/v1/messages/{promise.id}/cancel"
        try:
            async with self.session.delete(url, headers={"x-sendpipe-key": self.cluster.project.key}) as response:
                promise.cancelled = response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return

    async def settled(self, *promises: TrackedRequest, within: float = TIMEOUT) -> bool:
        """Wait until every one of them has come to its end."""
        deadline = asyncio.get_running_loop().time() + within
        tags = [promise.tag for promise in promises]
        while True:
            states = await self.states(tags)
            if all(tag in states and set(states[tag]) <= SETTLED for tag in tags):
                return True
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.1)

    async def states(self, tags: list[str]) -> dict[str, list[str]]:
        """The states of the deliveries of each tag that the record has."""
        try:
            connection = await asyncpg.connect(self.cluster.postgres, timeout=2)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return {}
        try:
            rows = await connection.fetch(
                "SELECT m.tags[1] AS tag, array_agg(d.state) AS states FROM messages m"
                " JOIN deliveries d ON d.message_id = m.id WHERE m.tags[1] = ANY($1::text[]) GROUP BY 1",
                tags,
            )
        finally:
            connection.terminate()
        return {row["tag"]: row["states"] for row in rows}


def in_future(seconds: float, since: datetime | None = None) -> str:
    """A time in a request."""
    when = (since or now()) + timedelta(seconds=seconds)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check(promises: list[TrackedRequest], found: dict[str, list[str]]) -> list[str]:
    """What was not kept: one message for each that was promised, none for what was refused, a cancel that holds."""
    faults = []
    for promise in promises:
        states = found.get(promise.tag, [])
        if promise.result in ("ok", "bus") and len(states) != 1:
            faults.append(f"{promise.tag}: promised by {promise.source}, and there are {len(states)} deliveries")
        if promise.result == "fail" and states:
            faults.append(f"{promise.tag}: refused with {promise.status}, and it exists")
        if len(states) > 1:
            faults.append(f"{promise.tag}: {len(states)} deliveries for one request")
        if any(state not in SETTLED for state in states):
            faults.append(f"{promise.tag}: ends {states}")
        if promise.cancelled and states != ["CANCELLED"]:
            faults.append(f"{promise.tag}: cancelled with 200, and {states}")
    return faults
