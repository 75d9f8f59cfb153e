"""The client of the sweep and the campaigns: single requests, remembered with their responses."""

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

from sluice.bus.messages import SCHEMA_VERSION, VERSION_HEADER, ProviderHealth
from sluice.bus.topics import Topic
from sluice.model.message import Channel
from sluice.model.state import SETTLED, State, message_state
from sluice.store.db import DATABASE_ERRORS
from tests.chaos.cluster import Cluster
from tests.chaos.ledgers import now

ANSWER = 5.0  # seconds that the client waits for a response
TIMEOUT = 30.0  # seconds until the client gives a request up


@dataclass(slots=True)
class TrackedRequest:
    """A request and its last response."""

    tag: str
    key: str | None
    source: str  # http, bus
    result: str = "info"  # ok, bus, fail, refused, info
    id: str | None = None
    status: int | None = None
    cancelled: bool = False


@dataclass(slots=True)
class ClientSession:
    """Sends through HTTP and Kafka; ``requests`` has every request."""

    cluster: Cluster
    session: aiohttp.ClientSession
    producer: AIOKafkaProducer
    name: str
    requests: list[TrackedRequest] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def request(
        self, channel: str, recipient: str | None = None, *, delivery_class: str = "standard", **fields: Any
    ) -> tuple[str, dict[str, Any]]:
        """A unique tag and the body of a request; ``recipient``: a prefix that selects a behaviour of the simulator."""
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
        """Send through HTTP; with a key, repeat until there is a response."""
        tag, document = self.request(channel, recipient, **fields)
        request = TrackedRequest(tag, f"key-{tag}" if key else None, "http")
        self.requests.append(request)
        if key:
            document["idempotency_key"] = request.key
        deadline = asyncio.get_running_loop().time() + TIMEOUT
        while True:
            await self._post(request, json.dumps(document).encode())
            over = asyncio.get_running_loop().time() > deadline
            if request.result in ("ok", "fail") or over or (not key and request.result != "unreached"):
                return request
            await asyncio.sleep(0.2)

    async def _post(self, request: TrackedRequest, body: bytes) -> None:
        try:
            async with self.session.post(
                f"{self.cluster.gateways[0]}/v1/messages/channel",
                data=body,
                headers={"x-sendpipe-key": self.cluster.project.key, "content-type": "application/json"},
            ) as response:
                content = await response.read()
                request.status = response.status
        except aiohttp.ClientConnectorError:
            request.result = "unreached"
            return
        except (aiohttp.ClientError, OSError, TimeoutError):
            request.result = "info"
            return
        results = {201: "ok", 503: "refused", 500: "info"}
        request.result = results.get(request.status, "fail")
        if request.result == "ok":
            request.id = json.loads(content)["id"]

    async def publish(
        self, channel: str, recipient: str | None = None, *, key: bool = False, **fields: Any
    ) -> TrackedRequest:
        """Publish to Kafka."""
        tag, document = self.request(channel, recipient, **fields)
        request = TrackedRequest(tag, f"key-{tag}" if key else None, "bus")
        self.requests.append(request)
        if key:
            document["idempotency_key"] = request.key
        await self.put(json.dumps(document).encode())
        request.result = "bus"
        return request

    async def upload(self, channel: str, rows: int, *, to_cancel: bool = False) -> str | None:
        """Upload a bulk job, repeated until there is a response; its id. Each row is a request of its own.

        ``to_cancel``: rows may be cancelled before they are messages.
        """
        found = [self.request(channel) for _ in range(rows)]
        requests = [TrackedRequest(tag, None, "bulk") for tag, _ in found]
        self.requests += requests
        documents = [document for _, document in found]
        message = {name: documents[0][name] for name in ("channel", "from")}
        lines = [{"message": message | {"text": "x"} | ({"subject": "x"} if channel == "email" else {})}]
        lines += [{name: one[name] for name in ("to", "text", "tags")} for one in documents]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        headers = {"x-sendpipe-key": self.cluster.project.key, "content-type": "application/jsonl"}
        headers["idempotency-key"] = requests[0].tag
        deadline = asyncio.get_running_loop().time() + TIMEOUT
        while asyncio.get_running_loop().time() < deadline:
            try:
                url = f"{self.cluster.gateways[0]}/v1/messages/bulk"
                async with self.session.post(url, data=body, headers=headers) as response:
                    content = await response.read()
                    if response.status == 202:
                        for request in requests:
                            request.result = "info" if to_cancel else "bus"  # accepted, and sent later
                        return str(json.loads(content)["id"])
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            await asyncio.sleep(0.2)
        return None

    async def cancel_upload(self, job_id: str) -> None:
        """Cancel a bulk job."""
        url = f"{self.cluster.gateways[0]}/v1/messages/bulk/{job_id}/cancel"
        try:
            async with self.session.delete(url, headers={"x-sendpipe-key": self.cluster.project.key}):
                pass
        except (aiohttp.ClientError, OSError, TimeoutError):
            return

    async def put(self, value: bytes | None, **headers: str) -> None:
        """Publish any record to send.requests, with the project's key unless the headers contain another."""
        named = {VERSION_HEADER: str(SCHEMA_VERSION), "x-sendpipe-key": self.cluster.project.key, **headers}
        await self.producer.send_and_wait(
            Topic.SEND_REQUESTS.value, value, headers=[(name, text.encode()) for name, text in named.items() if text]
        )

    async def publish_health(self, channel: str, source: str, status: str) -> None:
        """Publish a status of the provider of an endpoint, as the health service does."""
        provider_id, at = self.cluster.project.providers[source], now()
        health = ProviderHealth(
            status=status,
            since=at,
            provider_id=provider_id,
            project_id=self.cluster.project.id,
            channel=Channel(channel),
            updated_at=at,
        )
        await self.producer.send_and_wait(
            Topic.HEALTH.value,
            health.model_dump_json().encode(),
            key=str(provider_id).encode(),
            headers=[(VERSION_HEADER, str(SCHEMA_VERSION).encode())],
        )

    async def cancel(self, request: TrackedRequest) -> None:
        """Cancel it; ``cancelled`` is set when the response is 200."""
        if request.id is None:
            return
        url = f"{self.cluster.gateways[0]}/v1/messages/{request.id}/cancel"
        try:
            async with self.session.delete(url, headers={"x-sendpipe-key": self.cluster.project.key}) as response:
                request.cancelled = response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return

    async def call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The answer of any other operation; empty while the gateway does not answer."""
        url, key = f"{self.cluster.gateways[0]}{path}", {"x-sendpipe-key": self.cluster.project.key}
        try:
            async with self.session.request(method, url, json=body, headers=key) as response:
                answer: dict[str, Any] = await response.json()
                return answer
        except (aiohttp.ClientError, OSError, TimeoutError):
            return {}

    async def settled(self, *requests: TrackedRequest, within: float = TIMEOUT) -> bool:
        """Wait until every one of them is settled."""
        deadline = asyncio.get_running_loop().time() + within
        tags = [request.tag for request in requests]
        while True:
            states = await self.states(tags)
            if all(tag in states and set(states[tag]) <= SETTLED for tag in tags):
                return True
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.1)

    async def states(self, tags: list[str]) -> dict[str, list[str]]:
        """The statuses of the messages of each tag that the database has; a divided one has several deliveries."""
        try:
            connection = await asyncpg.connect(self.cluster.postgres, timeout=2)
        except DATABASE_ERRORS:
            return {}
        try:
            rows = await connection.fetch(
                "SELECT m.tags[1] AS tag, array_agg(d.state) AS states FROM messages m"
                " JOIN deliveries d ON d.message_id = m.id WHERE m.tags[1] = ANY($1::text[]) GROUP BY 1, m.id",
                tags,
            )
        finally:
            connection.terminate()
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row["tag"], []).append(message_state(State(state) for state in row["states"]))
        return found


def in_future(seconds: float, since: datetime | None = None) -> str:
    """A time ``seconds`` ahead, as a request has it."""
    when = (since or now()) + timedelta(seconds=seconds)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check(requests: list[TrackedRequest], found: dict[str, list[str]]) -> list[str]:
    """Violations: one message for each accepted request, none for a rejected one, none sent after a cancel with 200."""
    faults = []
    for request in requests:
        states = found.get(request.tag, [])
        if request.result in ("ok", "bus") and len(states) != 1:
            faults.append(f"{request.tag}: accepted through {request.source}, and there are {len(states)} messages")
        if request.result == "fail" and states:
            faults.append(f"{request.tag}: rejected with {request.status}, and it exists")
        if len(states) > 1:
            faults.append(f"{request.tag}: {len(states)} messages for one request")
        if any(state not in SETTLED for state in states):
            faults.append(f"{request.tag}: ends {states}")
        if request.cancelled and states != ["CANCELLED"]:
            faults.append(f"{request.tag}: cancelled with 200, and {states}")
    return faults
