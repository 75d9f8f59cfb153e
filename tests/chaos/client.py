"""The client: sends its requests on time, independent of responses, and logs every request and response.

A result is ``ok`` (201: the message exists), ``bus`` (Kafka acknowledged the record), ``fail`` (a definite rejection),
``refused`` (503: nothing was accepted), ``unreached`` (no gateway listened), or ``info`` (unknown: time-out, reset).
A request with an idempotency key is repeated until it has a response, as a careful caller would; one without is
repeated only while no gateway listens.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import aiohttp
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from sluice.bus.connection import KafkaConnection
from sluice.bus.messages import SCHEMA_VERSION, VERSION_HEADER
from sluice.bus.topics import Topic
from tests.chaos.cluster import Cluster
from tests.chaos.ledgers import Ledger, now
from tests.chaos.workload_plan import PlannedRequest, body, digest

ANSWER = 5.0  # seconds that the client waits for a response
MAX_TRIES = 40  # of a request with a key
MAX_PAUSE = 3.0  # seconds between two tries


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of one request."""

    result: str
    status: int | None = None
    id: str | None = None
    code: str | None = None


class Client:
    """Sends planned requests. ``counts`` has the results so far."""

    def __init__(self, cluster: Cluster, ledger: Ledger, *, seed: int) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._dice = Random(f"client {seed}")
        self._session: aiohttp.ClientSession | None = None
        self._producer: Any = None
        self._producer_lock = asyncio.Lock()
        self.counts: Counter[str] = Counter()

    async def run(self, planned_requests: list[PlannedRequest]) -> None:
        """Send every request at its time; returns when each has a response or was given up."""
        began = asyncio.get_running_loop().time()
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=ANSWER)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as self._session:
            async with asyncio.TaskGroup() as group:
                for planned in planned_requests:
                    await asyncio.sleep(began + planned.at - asyncio.get_running_loop().time())
                    group.create_task(self._place(planned))
            await self._drop_producer(self._producer)

    # -- one planned request -------------------------------------------------------------------------------------------

    async def _place(self, planned: PlannedRequest) -> None:
        self.counts["placed"] += 1
        request = self._request(planned)
        answers = await asyncio.gather(*(self._until_answered(planned, "send", request) for _ in range(planned.copies)))
        found = next((answer.id for answer in answers if answer.id), None)
        after: list[Any] = []
        if found is not None and planned.cancel_after is not None:
            after.append(self._cancel(planned, found))
        if planned.late_copy is not None:
            after.append(self._copy_late(planned, request))
        # Only an accepted request uses its key: one that was late for its own send_at did not.
        timed = planned.send_in is not None or planned.expires_in is not None
        if planned.conflict and any(one.result == "ok" or (one.result == "bus" and not timed) for one in answers):
            after.append(self._until_answered(planned, "conflict", self._request(planned, other=True)))
        await asyncio.gather(*after)

    def _request(self, planned: PlannedRequest, *, other: bool = False) -> bytes:
        moment, times = now(), {}
        for field, ahead in (("send_at", planned.send_in), ("expires_at", planned.expires_in)):
            if ahead is not None:
                times[field] = _rfc3339(moment + timedelta(seconds=ahead + (planned.send_in or 0)))
        if planned.send_in is not None:
            times["send_at"] = _rfc3339(moment + timedelta(seconds=planned.send_in))
        preferred = self._cluster.project.named(planned.preferred) if planned.preferred else None
        return body(planned, preferred=preferred, times=times, other=other)

    async def _copy_late(self, planned: PlannedRequest, request: bytes) -> None:
        await asyncio.sleep(planned.late_copy or 0)
        # Through HTTP, also if the first one went through Kafka: the key is the same.
        await self._until_answered(replace(planned, source="http"), "copy", request)

    async def _until_answered(self, planned: PlannedRequest, what: str, request: bytes) -> Answer:
        pause = 0.1
        for attempt in range(1, MAX_TRIES + 1):
            answer = await self._once(planned, what, request, attempt)
            if answer.result in ("ok", "bus", "fail") or (planned.key is None and answer.result != "unreached"):
                break
            await asyncio.sleep(pause * self._dice.uniform(0.5, 1))
            pause = min(MAX_PAUSE, pause * 2)
        return answer

    async def _once(self, planned: PlannedRequest, what: str, request: bytes, attempt: int) -> Answer:
        began = now()
        about = {
            "request": planned.number,
            "what": what,
            "source": planned.source,
            "key": planned.key,
            "body": digest(request),
        }
        times = json.loads(request)
        about["late_after"] = times.get("send_at") or times.get("expires_at")
        self._ledger.write(**about, attempt=attempt, stage="invoke")
        answer = await (self._publish(planned, request) if planned.source == "bus" else self._post(planned, request))
        self._count(what, answer)
        self._ledger.write(
            **about,
            attempt=attempt,
            stage="done",
            began=began,
            result=answer.result,
            status=answer.status,
            id=answer.id,
            code=answer.code,
        )
        return answer

    def _count(self, what: str, answer: Answer) -> None:
        self.counts[answer.result if what == "send" else f"{what} {answer.result}"] += 1

    # -- HTTP and Kafka -----------------------------------------------------------------------------------------

    def _key(self, planned: PlannedRequest) -> str:
        return self._cluster.project.sandbox_key if planned.sandbox else self._cluster.project.key

    async def _post(self, planned: PlannedRequest, request: bytes) -> Answer:
        headers = {"x-sendpipe-key": self._key(planned), "content-type": "application/json"}
        return await self._http("POST", "/v1/messages/channel", headers, request)

    async def _http(self, method: str, path: str, headers: dict[str, str], request: bytes | None = None) -> Answer:
        gateways = self._dice.sample(self._cluster.gateways, k=len(self._cluster.gateways))
        for gateway in gateways:
            try:
                return await self._exchange(method, gateway + path, headers, request)
            except aiohttp.ClientConnectorError:
                continue  # nothing was sent, so the next gateway may be tried
        return Answer("unreached")

    async def _exchange(self, method: str, url: str, headers: dict[str, str], request: bytes | None) -> Answer:
        assert self._session is not None
        try:
            async with self._session.request(method, url, data=request, headers=headers) as response:
                return _read(response.status, await response.read())
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientError, OSError, TimeoutError):
            return Answer("info")

    async def _cancel(self, planned: PlannedRequest, message_id: str) -> None:
        await asyncio.sleep(planned.cancel_after or 0)
        about = {"request": planned.number, "what": "cancel", "id": message_id}
        self._ledger.write(**about, stage="invoke")
        answer = await self._http("DELETE", f"/v1/messages/{message_id}/cancel", {"x-sendpipe-key": self._key(planned)})
        self._count("cancel", answer)
        self._ledger.write(**about, stage="done", result=answer.result, status=answer.status)

    async def _publish(self, planned: PlannedRequest, request: bytes) -> Answer:
        headers = [(VERSION_HEADER, str(SCHEMA_VERSION).encode()), ("x-sendpipe-key", self._key(planned).encode())]
        producer = None
        try:
            async with asyncio.timeout(20):
                producer = await self._open_producer()
                await producer.send_and_wait(Topic.SEND_REQUESTS.value, request, headers=headers)
        except (KafkaError, OSError, TimeoutError, AssertionError):
            await self._drop_producer(producer)
            return Answer("info")
        return Answer("bus")

    async def _open_producer(self) -> Any:
        async with self._producer_lock:
            if self._producer is None:
                # Idempotent, so that its own retries cannot write a record twice.
                producer = AIOKafkaProducer(
                    **KafkaConnection.to(self._cluster.kafka).options(),
                    enable_idempotence=True,
                    request_timeout_ms=8_000,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def _drop_producer(self, producer: Any) -> None:
        """After an error (and a wiped broker) its sequence numbers are invalid."""
        if producer is None or producer is not self._producer:
            return
        self._producer = None
        try:
            await asyncio.wait_for(producer.stop(), 5)
        except (KafkaError, OSError, TimeoutError, AssertionError):
            return


def _read(status: int, content: bytes) -> Answer:
    if status in (200, 201):
        return Answer("ok", status, json.loads(content)["id"])
    code = json.loads(content).get("error", {}).get("code") if content[:1] == b"{" else None
    if status == 503:
        return Answer("refused", status, None, code)
    return Answer("info" if status >= 500 else "fail", status, None, code)


def _rfc3339(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
