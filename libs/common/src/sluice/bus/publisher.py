"""Publishing without waiting for each record.

Callers enqueue records and continue; one task groups the queue into one batch per partition and passes the batches to
the client. The batches are built here, because the client's own batching costs a coroutine, a future and callbacks per
record. The queue is bounded: while the broker is unavailable and the queue is full, records are refused at once, and
the recovery loop requeues their deliveries from the database later.
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

from sluice.bus.connect import connected, stop_client
from sluice.bus.connection import KafkaConnection, client_id
from sluice.bus.messages import SCHEMA_VERSION, VERSION_HEADER
from sluice.runtime import metrics
from sluice.runtime.batching import BatchPacer
from sluice.runtime.tasks import cancel_and_wait, supervised

log = structlog.get_logger()

_HEADERS = [(VERSION_HEADER, str(SCHEMA_VERSION).encode())]
# Seconds between two batches: a single record is sent at once, under load records share a batch. The cost of a batch
# for producer, broker and consumers hardly depends on its content.
_PACE = 0.020
_BATCH = 256 * 1024  # bytes before compression
_MAX_RECORD = 1_000_000  # bytes of key and value; the broker accepts 1 MiB with headers and framing


class PublishResult:
    """The result of one publication: ``done`` once the broker acknowledged the record or it failed with ``error``.

    Not a future: most results are awaited together (:func:`wait_for_acks`), and futures were most of their cost.
    """

    __slots__ = ("_then", "done", "error", "headers", "key", "topic", "value")

    def __init__(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        self.topic = topic
        self.key = key
        self.value = value
        self.headers = headers
        self.done = False
        self.error: str | None = None  # why the record was not published
        self._then: Callable[[PublishResult], None] | None = None

    def on_done(self, callback: Callable[[PublishResult], None]) -> None:
        """Call ``callback`` when the result is done, at once if it is; a result has at most one callback."""
        if self.done:
            callback(self)
        else:
            self._then = callback

    def resolve(self, error: str | None = None) -> None:
        """Set the result; the first call counts."""
        if not self.done:
            self.done, self.error = True, error
            if self._then is not None:
                try:
                    self._then(self)
                except Exception:  # the other results of the batch must still be resolved
                    log.exception("publication_callback_failed", topic=self.topic)


class Publisher:
    """Publishes records with ``acks=all`` and Snappy (docs/decisions/0069).

    Not with an idempotent producer: all consumers tolerate repeats, and a plain batch fails after the request timeout
    instead of staying pending while the broker is unavailable (docs/decisions/0005).
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._queue: deque[PublishResult] = deque()
        self._nonempty = asyncio.Event()
        self._in_hand: Sequence[PublishResult] = ()  # taken from the queue, not yet passed to the client
        self._sent: dict[asyncio.Future[object], Sequence[PublishResult]] = {}  # by the response to their batch

    def publish(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, str] | None = None
    ) -> PublishResult:
        """Enqueue a record; the result may be ignored.

        Records with one key stay in order. Records without a key that are enqueued together share a partition: a few
        large batches instead of a small one for each partition.
        """
        all_headers = [*_HEADERS, *((name, text.encode()) for name, text in headers.items())] if headers else _HEADERS
        result = PublishResult(topic, key, value, all_headers)
        if len(self._queue) >= self._limit:
            _fail(result, "the publisher's queue is full")
        elif len(value or b"") + len(key or b"") > _MAX_RECORD:
            _fail(result, f"the record is larger than {_MAX_RECORD} bytes")
        else:
            self._queue.append(result)
            self._nonempty.set()
        return result

    async def run(self, kafka: KafkaConnection, name: str) -> None:
        """Connect, then send the queue in batches, until cancelled."""
        producer = await connected(kafka, lambda: _create_producer(kafka, name), client=name)
        pace = BatchPacer(_PACE)
        try:
            while True:
                await self._nonempty.wait()
                await pace.wait()
                self._nonempty.clear()
                self._in_hand, self._queue = self._queue, deque()
                by_topic: dict[str, list[PublishResult]] = {}
                for result in self._in_hand:
                    by_topic.setdefault(result.topic, []).append(result)
                for topic, records in by_topic.items():
                    await self._send_topic(producer, topic, records)
                self._in_hand = ()
        finally:
            await stop_client(producer)

    async def _send_topic(self, producer: AIOKafkaProducer, topic: str, records: Sequence[PublishResult]) -> None:
        try:
            partitions = sorted(await producer.partitions_for(topic))
        except _SEND_ERRORS as error:
            _fail_all(records, error)
            return
        with_leader = producer.client.cluster.available_partitions_for_topic(topic)
        keyless = random.choice(tuple(with_leader or partitions))  # noqa: S311  spreading load, no secret
        shares: dict[int, list[PublishResult]] = {}
        for result in records:
            # CRC-32, the default of librdkafka; the client's own partitioner is pure Python.
            partition = keyless if result.key is None else partitions[crc32(result.key) % len(partitions)]
            shares.setdefault(partition, []).append(result)
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
            for result in records:
                if not batch.append(timestamp=None, key=result.key, value=result.value, headers=result.headers):
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
        if records:
            metrics.series(metrics.RECORDS_PUBLISHED, records[0].topic, "acknowledged").inc(len(records))
        for result in records:
            result.resolve()

    def fail_pending(self) -> None:
        """Resolve all results that are not done with an error."""
        for records in (self._queue, self._in_hand, *self._sent.values()):
            _fail_all(records, RuntimeError("the publisher was closed"))

    async def flush(self) -> None:
        """Wait until every record that was enqueued is acknowledged or has failed."""
        while self._queue or self._in_hand or self._sent:
            await asyncio.sleep(0.005)


_SEND_ERRORS = (KafkaError, AssertionError, OSError, TimeoutError)  # aiokafka asserts that the partition exists


def _fail_all(records: Iterable[PublishResult], error: BaseException) -> None:
    for result in records:
        _fail(result, f"{type(error).__name__}: {error}")


def _fail(result: PublishResult, error: str) -> None:
    if not result.done:
        metrics.series(metrics.RECORDS_PUBLISHED, result.topic, "failed").inc()
        result.resolve(error)


async def wait_for_acks(results: Sequence[PublishResult]) -> bool:
    """Wait until all results are done; true if the broker acknowledged every record."""
    pending = [result for result in results if not result.done]
    if pending:
        missing = len(pending)
        all_done = asyncio.get_running_loop().create_future()

        def count(_: PublishResult) -> None:
            nonlocal missing
            missing -= 1
            if not missing and not all_done.done():
                all_done.set_result(None)

        for result in pending:
            result.on_done(count)
        await all_done
    return not any(result.error for result in results)


@asynccontextmanager
async def open_publisher(kafka: KafkaConnection, *, name: str, limit: int = 50_000) -> AsyncIterator[Publisher]:
    """A publisher, usable at once: records that are published before the broker responds wait in the queue.

    At the end, the records in the queue have five seconds to be acknowledged.
    """
    publisher = Publisher(limit=limit)
    feeder = supervised(publisher.run(kafka, name), name="publisher")
    try:
        yield publisher
    finally:
        with contextlib.suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(publisher.flush(), 5.0)
        await cancel_and_wait(feeder)
        publisher.fail_pending()


def _create_producer(kafka: KafkaConnection, name: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(
        **kafka.options(),
        client_id=client_id(name),
        acks="all",
        max_batch_size=_BATCH,
        compression_type="snappy",
        request_timeout_ms=10_000,
        retry_backoff_ms=100,
        metadata_max_age_ms=60_000,
    )
