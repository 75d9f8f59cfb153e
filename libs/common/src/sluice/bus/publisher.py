"""Publishing without waiting for each record.

Callers hand records over and go on; one task feeds the client, which batches. The queue is bounded: when the broker
is away long enough to fill it, records are refused at once, and the recovery loop drives from the record later.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from sluice.bus.events import SCHEMA_VERSION, VERSION_HEADER
from sluice.tasks import end

log = structlog.get_logger()

_HEADERS = [(VERSION_HEADER, str(SCHEMA_VERSION).encode())]
_TOGETHER = 0.02  # seconds for which records without a key go to the same partition
_START_AGAIN = 0.5  # seconds between tries to reach the broker at start


class NotPublishedError(Exception):
    """The broker has not acknowledged the record: full queue, time-out, or refusal."""


@dataclass(slots=True)
class _Waiting:
    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    result: asyncio.Future[None]


class Publisher:
    """Hands records to Kafka: all replicas acknowledge, small linger, lz4.

    Not the idempotent producer: every reader of ours drops repeats by itself, and a plain batch fails after the
    request time-out instead of staying pending for as long as the broker is away (docs/decisions/0005).
    """

    def __init__(self, *, limit: int) -> None:
        self._loop = asyncio.get_running_loop()  # asking for it costs a system call each time
        self._in_client = 0
        self._sticky: dict[str, tuple[int, float]] = {}  # topic: partition, until which monotonic time
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(limit)

    def publish(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, str] | None = None
    ) -> asyncio.Future[None]:
        """Hand a record over. The future ends with the broker's acknowledgement or :class:`NotPublishedError`.

        Records with one key stay in order. Without a key, records that come together travel together: a few large
        batches instead of one small one for each partition, which costs us, the broker and the reader less.
        Nobody needs to await it: an exception in it is taken note of here.
        """
        result: asyncio.Future[None] = self._loop.create_future()
        result.add_done_callback(_take_note)
        extra = [(name, text.encode()) for name, text in (headers or {}).items()]
        try:
            self._queue.put_nowait(_Waiting(topic, key, value, _HEADERS + extra, result))
        except asyncio.QueueFull:
            result.set_exception(NotPublishedError("the queue to Kafka is full"))
        return result

    async def feed(self, servers: str, name: str) -> None:
        """Connect, then move records from the queue into the client's batches until cancelled."""
        producer = await _started(servers, name)
        try:
            while True:
                waiting = await self._queue.get()
                if not waiting.result.done():
                    await self._send(producer, waiting)
        finally:
            with contextlib.suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(producer.stop(), 5.0)

    async def _send(self, producer: AIOKafkaProducer, waiting: _Waiting) -> None:
        self._in_client += 1
        try:
            sent = await producer.send(
                waiting.topic,
                waiting.value,
                key=waiting.key,
                partition=None if waiting.key is not None else self._partition(producer, waiting.topic),
                headers=waiting.headers,
            )
        except (KafkaError, AssertionError, OSError, TimeoutError) as error:
            self._in_client -= 1
            _fail(waiting.result, error)
            return
        except asyncio.CancelledError:
            _fail(waiting.result, RuntimeError("the publisher was closed"))
            raise
        sent.add_done_callback(partial(self._answered, waiting.result))

    def _partition(self, producer: AIOKafkaProducer, topic: str) -> int | None:
        """Where records without a key go just now; None while the client does not know the topic's partitions."""
        now = time.monotonic()
        known = self._sticky.get(topic)
        if known is not None and now < known[1]:
            return known[0]
        led = producer.client.cluster.available_partitions_for_topic(topic)
        if not led:
            return None
        partition: int = random.choice(tuple(led))  # noqa: S311  spreading load, no secret
        self._sticky[topic] = (partition, now + _TOGETHER)
        return partition

    def _answered(self, result: asyncio.Future[None], sent: asyncio.Future[object]) -> None:
        self._in_client -= 1
        if result.done():
            return
        if sent.cancelled():
            _fail(result, RuntimeError("the client was closed"))
        elif error := sent.exception():
            _fail(result, error)
        else:
            result.set_result(None)

    def refuse_the_rest(self) -> None:
        """Tell those who still wait that it was not published."""
        while not self._queue.empty():
            _fail(self._queue.get_nowait().result, RuntimeError("the publisher was closed"))

    async def drained(self) -> None:
        """Return when all that was handed over so far is acknowledged or has failed."""
        while not self._queue.empty() or self._in_client:
            await asyncio.sleep(0.005)


def _take_note(result: asyncio.Future[None]) -> None:
    if not result.cancelled():
        result.exception()


def _fail(result: asyncio.Future[None], error: BaseException) -> None:
    if not result.done():
        result.set_exception(NotPublishedError(f"{type(error).__name__}: {error}"))


async def acknowledged(results: Iterable[asyncio.Future[None]]) -> bool:
    """Whether the broker has acknowledged every one of them."""
    outcomes = await asyncio.gather(*results, return_exceptions=True)
    return not any(isinstance(outcome, BaseException) for outcome in outcomes)


@asynccontextmanager
async def open_publisher(servers: str, *, name: str, limit: int = 50_000) -> AsyncIterator[Publisher]:
    """A publisher that may be used at once; what is handed over before the broker answers waits in the queue.

    At the end what was handed over is given five seconds to be acknowledged.
    """
    publisher = Publisher(limit=limit)
    feeder = asyncio.create_task(publisher.feed(servers, name), name="publisher")
    try:
        yield publisher
    finally:
        with contextlib.suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(publisher.drained(), 5.0)
        await end(feeder)
        publisher.refuse_the_rest()


async def _started(servers: str, name: str) -> AIOKafkaProducer:
    """A connected client, however long that takes."""
    while True:
        producer = AIOKafkaProducer(
            bootstrap_servers=servers,
            client_id=f"sluice-{name}",
            acks="all",
            linger_ms=4,
            max_batch_size=256 * 1024,
            compression_type="lz4",
            request_timeout_ms=10_000,
            retry_backoff_ms=100,
            metadata_max_age_ms=60_000,
        )
        try:
            await producer.start()
            return producer
        except (KafkaError, OSError) as error:
            log.warning("kafka_unreachable", error=type(error).__name__)
            await producer.stop()
            await asyncio.sleep(_START_AGAIN)
        except BaseException:
            await producer.stop()
            raise
