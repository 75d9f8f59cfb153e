"""Shared by the campaigns: a steady load behind a load balancer, and queries on the database afterwards."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp
import asyncpg

from sluice.store.db import DATABASE_ERRORS
from sluice_launcher.progress import Progress
from sluice_launcher.state import read_state
from tests.chaos.cluster import Cluster

PROBE_EVERY = 0.1  # seconds between a balancer's probes of /readyz


@dataclass(frozen=True, slots=True)
class Reply:
    """A status (None: no response) and its document."""

    status: int | None
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str | None:
        return self.document.get("id")

    @property
    def field(self) -> str | None:
        """The field at fault, of a refusal."""
        found: str | None = self.document.get("error", {}).get("field")
        return found


class Balancer:
    """Sends each request to a gateway that is ready, as a load balancer does."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self._cluster = cluster
        self._session = session
        self._ready = list(cluster.gateways)
        self._dice = Random("balancer")
        self.errors: Counter[str] = Counter()

    async def watch(self) -> None:
        """Probe every gateway, for ever."""
        while True:
            urls = list(self._cluster.gateways)
            answers = await asyncio.gather(*(self._is_ready(self._cluster.ops_addresses[url]) for url in urls))
            self._ready = [url for url, ready in zip(urls, answers, strict=True) if ready] or urls
            await asyncio.sleep(PROBE_EVERY)

    async def _is_ready(self, url: str) -> bool:
        """As a load balancer asks: without Kafka a gateway still accepts requests (docs/operations.md)."""
        try:
            async with self._session.get(f"{url}/readyz?exclude=kafka") as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def send(self, body: Mapping[str, Any], *, sandbox: bool = False, gateway: str | None = None) -> Reply:
        project = self._cluster.project
        return await self.ask(
            "POST",
            "/v1/messages/channel",
            json.dumps(body).encode(),
            key=project.sandbox_key if sandbox else project.key,
            gateway=gateway,
        )

    async def cancel(self, message_id: str) -> Reply:
        return await self.ask("DELETE", f"/v1/messages/{message_id}/cancel", None)

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None,
        *,
        key: str | None = None,
        gateway: str | None = None,
        **headers: str,
    ) -> Reply:
        url = (gateway or self._dice.choice(self._ready)) + path
        headers = {
            "x-sendpipe-key": key or self._cluster.project.key,
            "content-type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        try:
            async with self._session.request(method, url, data=body, headers=headers) as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self.errors[type(error).__name__] += 1
            return Reply(None)
        return Reply(response.status, json.loads(content) if content[:1] == b"{" else {})


@asynccontextmanager
async def balanced(cluster: Cluster, *, answer: float = 10.0) -> AsyncIterator[Balancer]:
    """A balancer that watches while the block runs."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=answer)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
        balancer = Balancer(cluster, session)
        watching = asyncio.create_task(balancer.watch())
        try:
            yield balancer
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


def sender(balancer: Balancer, tag: str, answers: Counter[str]) -> Callable[[int], Awaitable[None]]:
    """Sends request ``number``, e-mail and SMS in turn, and counts the responses by status."""

    async def send(number: int) -> None:
        reply = await balancer.send(body(tag, number, ("email", "sms")[number % 2]))
        answers[str(reply.status)] += 1

    return send


def body(tag: str, number: int, channel: str, **fields: Any) -> dict[str, Any]:
    """One request."""
    document = {"channel": channel, "text": f"{tag} {number}", "tags": [tag], **fields}
    if channel == "email":
        return {"from": "shop@example.com", "subject": tag, "to": [f"r{number}@example.com"]} | document
    return {"from": "+15005550006", "to": [f"+1555{number:07}"]} | document


async def steadily(
    rate: float, count: int, act: Callable[[int], Awaitable[None]], *, until: asyncio.Event | None = None
) -> int:
    """Start ``act(n)`` ``rate`` times a second, independent of the ones before; returns their number."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    acting = []
    for number in range(count):
        if until is not None and until.is_set():
            break
        await asyncio.sleep(began + number / rate - loop.time())
        acting.append(asyncio.ensure_future(act(number)))
    await asyncio.gather(*acting)
    return len(acting)


async def at_once(limit: int, count: int, act: Callable[[int], Awaitable[None]]) -> None:
    """All of ``act(0) … act(count - 1)``, ``limit`` at a time."""
    slots = asyncio.Semaphore(limit)

    async def one(number: int) -> None:
        async with slots:
            await act(number)

    for start in range(0, count, 5000):
        await asyncio.gather(*(one(number) for number in range(start, min(count, start + 5000))))


@asynccontextmanager
async def database(cluster: Cluster) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(cluster.postgres, command_timeout=120)
    try:
        yield connection
    finally:
        await connection.close()


async def states(cluster: Cluster, tag: str) -> Counter[str]:
    """The deliveries of a campaign by state."""
    async with database(cluster) as db:
        rows = await db.fetch(
            "SELECT d.state, count(*) AS n FROM deliveries d JOIN messages m ON m.id = d.message_id"
            " WHERE m.tags[1] = $1 GROUP BY 1",
            tag,
        )
    return Counter({row["state"]: row["n"] for row in rows})


async def delivery_ids(cluster: Cluster, tag: str) -> set[str]:
    async with database(cluster) as db:
        rows = await db.fetch(
            "SELECT d.id FROM deliveries d JOIN messages m ON m.id = d.message_id WHERE m.tags[1] = $1", tag
        )
    return {str(row["id"]) for row in rows}


async def messages(cluster: Cluster, tag: str) -> int:
    async with database(cluster) as db:
        found: int = await db.fetchval("SELECT count(*) FROM messages WHERE tags[1] = $1", tag)
    return found


async def unknown_attempts(cluster: Cluster, tag: str) -> int:
    async with database(cluster) as db:
        found: int = await db.fetchval(
            "SELECT coalesce(sum(d.unknown_attempts), 0) FROM deliveries d JOIN messages m ON m.id = d.message_id"
            " WHERE m.tags[1] = $1",
            tag,
        )
    return found


async def settled(cluster: Cluster, tag: str, *, within: float, progress: Progress) -> float | None:
    """Seconds until nothing of the campaign is due; None when it took longer than ``within``."""
    began = reported = time.monotonic()
    while True:
        left = None
        with contextlib.suppress(*DATABASE_ERRORS):
            async with database(cluster) as db:
                left = await db.fetchval(
                    "SELECT count(*) FROM deliveries d JOIN messages m ON m.id = d.message_id"
                    " WHERE m.tags[1] = $1 AND d.due_at IS NOT NULL",
                    tag,
                )
        if left == 0:
            return time.monotonic() - began
        if time.monotonic() - began > within:
            return None
        if time.monotonic() - reported > 5:
            reported = time.monotonic()
            progress(f"{tag}: {left} are not settled")
        await asyncio.sleep(0.2)


def faults(answers: Mapping[str, int], seconds: float | None, found: Mapping[str, int] | None = None) -> list[str]:
    """Violations where every message should be accepted (``answers``), settled (``seconds``, see :func:`settled`) and,
    if its final states are given, taken by a provider.

    One request in 50 may be refused with 503, which accepts nothing: the machine of a test may be busy.
    """
    tolerated = {"201": sum(answers.values()), "503": sum(answers.values()) // 50}
    violations = [
        f"{number} answers {status}" for status, number in answers.items() if number > tolerated.get(status, 0)
    ]
    violations += ["not settled"] if seconds is None else []
    bad = {state: number for state, number in (found or {}).items() if state not in ("SENT", "DELIVERED")}
    return violations + ([f"ended as {bad}"] if bad else [])


def processes(cluster: Cluster) -> dict[str, int | None]:
    """The pid of every role; a restarted one has another."""
    managed = {name: found.pid for name, found in read_state(cluster.data_dir).items()}
    return managed | {
        name: replica.identity.pid if replica.identity else None for name, replica in cluster.replicas.items()
    }
