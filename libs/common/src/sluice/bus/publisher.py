"""Publishing without waiting for each record.

Callers hand records over and go on; one task makes batches of what has come together, one for a partition, and gives
them to the client. (Batches of our own: the client's cost a coroutine, a future and its callbacks for each record.)
The queue is bounded: when the broker is away long enough to fill it, records are refused at once, and the recovery
loop drives from the record later.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from zlib import crc32

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from sluice.bus.messages import SCHEMA_VERSION, VERSION_HEADER
from sluice.runtime.batching import BatchPacer
from sluice.runtime.tasks import cancel_and_wait, supervised

log = structlog.get_logger()

_HEADERS = [(VERSION_HEADER, str(SCHEMA_VERSION).encode())]
# Seconds between two batches: a record that comes alone goes at once, under load records travel together. A batch costs
# us, the broker and every reader the same whatever is in it.
_PACE = 0.020
_BATCH = 256 * 1024  # bytes before compression
_LARGEST = 1_000_000  # bytes of one record; the broker takes 1 MiB, and a little of that is not the record's
_RECONNECT_DELAY = 0.5  # seconds between tries to reach the broker at start


class PublishResult:
    """A record that was handed over, until the broker has it or it is known that it will not.

    No future of its own: most are only asked about together with others, and a future each was most of their cost.
    """

    __slots__ = ("_then", "done", "error", "headers", "key", "topic", "value")

    def __init__(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        self.topic = topic
        self.key = key
        self.value = value
        self.headers = headers
        self.done = False
        self.error: str | None = None  # over, and why it was not published
        self._then: Callable[[PublishResult], None] | None = None

    def on_done(self, callback: Callable[[PublishResult], None]) -> None:
        """Call it once it is over, at once if it is; there is room for one."""
        if self.done:
            callback(self)
        else:
            self._then = callback

    def resolve(self, error: str | None = None) -> None:
        """It is over."""
        if not self.done:
            self.done, self.error = True, error
            if self._then is not None:
                try:
                    self._then(self)
                except Exception:  # a bug there must not leave the others without an end
                    log.exception("publication_callback_failed", topic=self.topic)


class Publisher:
    """Hands records to Kafka: all replicas acknowledge, lz4.

    Not the idempotent producer: every reader of ours drops repeats by itself, and a plain batch fails after the
    request time-out instead of staying pending for as long as the broker is away (docs/decisions/0005).
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._queue: deque[PublishResult] = deque()
        self._nonempty = asyncio.Event()
        self._in_hand: Sequence[PublishResult] = ()  # out of the queue, on the way into the client
        self._sent: dict[asyncio.Future[object], Sequence[PublishResult]] = {}  # by the answer to their batch

    def publish(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, str] | None = None
    ) -> PublishResult:
        """Hand a record over; nobody needs to look at what becomes of it.

        Records with one key stay in order. Without a key, records that come together travel together: a few large
        batches instead of one small one for each partition, which costs us, the broker and the reader less.
        """
        with_own = [*_HEADERS, *((name, text.encode()) for name, text in headers.items())] if headers else _HEADERS
        publication = PublishResult(topic, key, value, with_own)
        if len(self._queue) >= self._limit:
            publication.resolve("the queue to Kafka is full")
        elif len(value or b"") + len(key or b"") > _LARGEST:
            publication.resolve(f"the record is larger than {_LARGEST} bytes")
        else:
            self._queue.append(publication)
            self._nonempty.set()
        return publication

    async def run(self, servers: str, name: str) -> None:
        """Connect, then give the client what comes together, until cancelled."""
        producer = await _started(servers, name)
        pace = BatchPacer(_PACE)
        try:
            while True:
                await self._nonempty.wait()
                await pace.wait()
                self._nonempty.clear()
                self._in_hand, self._queue = self._queue, deque()
                by_topic: dict[str, list[PublishResult]] = {}
                for waiting in self._in_hand:
                    by_topic.setdefault(waiting.topic, []).append(waiting)
                for topic, records in by_topic.items():
                    await self._send_topic(producer, topic, records)
                self._in_hand = ()
        finally:
            with contextlib.suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(producer.stop(), 5.0)

    async def _send_topic(self, producer: AIOKafkaProducer, topic: str, records: Sequence[PublishResult]) -> None:
        try:
            partitions = sorted(await producer.partitions_for(topic))
        except _SEND_ERRORS as error:
            _fail_all(records, error)
            return
        led = producer.client.cluster.available_partitions_for_topic(topic)
        anywhere = random.choice(tuple(led or partitions))  # noqa: S311  spreading load, no secret
        shares: dict[int, list[PublishResult]] = {}
        for waiting in records:
            # CRC-32 as librdkafka has it by default; the client's own choice is computed in Python.
            where = anywhere if waiting.key is None else partitions[crc32(waiting.key) % len(partitions)]
            shares.setdefault(where, []).append(waiting)
        for partition, share in shares.items():
            try:
                await self._send(producer, topic, partition, share)
            except _SEND_ERRORS as error:
                _fail_all(share, error)

    async def _send(
        self, producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[PublishResult]
    ) -> None:
        while records:
            batch = producer.create_batch()
            fits = 0
            for waiting in records:
                if not batch.append(timestamp=None, key=waiting.key, value=waiting.value, headers=waiting.headers):
                    break
                fits += 1
            batch.close()
            sent = await producer.send_batch(batch, topic, partition=partition)
            self._sent[sent] = records[:fits]
            sent.add_done_callback(self._on_response)
            records = records[fits:]

    def _on_response(self, sent: asyncio.Future[object]) -> None:
        records = self._sent.pop(sent, ())
        error = asyncio.CancelledError() if sent.cancelled() else sent.exception()
        if error is not None:
            _fail_all(records, error)
            return
        for waiting in records:
            waiting.resolve()

    def fail_pending(self) -> None:
        """Tell those who still wait that it was not published."""
        for records in (self._queue, self._in_hand, *self._sent.values()):
            _fail_all(records, RuntimeError("the publisher was closed"))

    async def flush(self) -> None:
        """Return when all that was handed over so far is acknowledged or has failed."""
        while self._queue or self._in_hand or self._sent:
            await asyncio.sleep(0.005)


_SEND_ERRORS = (KafkaError, AssertionError, OSError, TimeoutError)  # aiokafka asserts that it knows the partition


def _fail_all(records: Iterable[PublishResult], error: BaseException) -> None:
    for waiting in records:
        waiting.resolve(f"{type(error).__name__}: {error}")


async def wait_for_acks(publications: Sequence[PublishResult]) -> bool:
    """Whether the broker has acknowledged every one of them, once that is known."""
    under_way = [one for one in publications if not one.done]
    if under_way:
        left = len(under_way)
        all_over = asyncio.get_running_loop().create_future()

        def count(_: PublishResult) -> None:
            nonlocal left
            left -= 1
            if not left and not all_over.done():
                all_over.set_result(None)

        for one in under_way:
            one.on_done(count)
        await all_over
    return not any(one.error for one in publications)


@asynccontextmanager
async def open_publisher(servers: str, *, name: str, limit: int = 50_000) -> AsyncIterator[Publisher]:
    """A publisher that may be used at once; what is handed over before the broker answers waits in the queue.

    At the end what was handed over is given five seconds to be acknowledged.
    """
    publisher = Publisher(limit=limit)
    feeder = supervised(publisher.run(servers, name), name="publisher")
    try:
        yield publisher
    finally:
        with contextlib.suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(publisher.flush(), 5.0)
        await cancel_and_wait(feeder)
        publisher.fail_pending()


async def _started(servers: str, name: str) -> AIOKafkaProducer:
    """A connected client, however long that takes."""
    while True:
        producer = AIOKafkaProducer(
            bootstrap_servers=servers,
            client_id=f"sluice-{name}",
            acks="all",
            max_batch_size=_BATCH,
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
            await asyncio.sleep(_RECONNECT_DELAY)
        except BaseException:
            await producer.stop()
            raise
