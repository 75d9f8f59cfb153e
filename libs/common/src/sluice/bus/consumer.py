"""A consumer with many records of one partition in flight that commits only the acknowledged prefix.

Each assigned partition has a window: the records that are handed out and not acknowledged. Records are acknowledged in
any order; the committed offset is the one below which every record is acknowledged. A crash therefore repeats records
and never skips one; repeats change nothing, because claims are compare-and-set. Offsets are taken from the client and
never computed: compaction and transactions leave gaps.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from sluice.bus.client import HEARTBEAT_INTERVAL_MS, ISOLATION_LEVEL, SESSION_TIMEOUT_MS, BrokerContact, position
from sluice.bus.connect import connected, stop_client
from sluice.bus.connection import KafkaConnection, client_id
from sluice.bus.dead_letters import count_from_zero
from sluice.bus.window import Record, Window
from sluice.runtime import failpoints, metrics
from sluice.runtime.tasks import cancel_and_wait, run_unless, supervised

log = structlog.get_logger()

_POLL_TIMEOUT = 0.5  # seconds a poll waits for records: it ends with the first, and delays a stop at most
_COMMIT_INTERVAL = 0.2  # seconds
_HANDLER_RETRY_DELAY = 1.0  # seconds before a handler that raised gets its records again
_POLL_STALL_LIMIT = 15.0  # seconds without a finished poll after which the consumer is not ready
_LAST_POLL_TIMEOUT = 1.0  # seconds for the poll in progress at shutdown
# A consumer that joins before its topics are recreated (after a loss of Kafka's data) gets no partition until it
# refreshes its metadata.
_METADATA_MAX_AGE_MS = 3_000  # milliseconds

Handler = Callable[[list[Record]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one consumer, in records: in flight, in flight of one partition before it is paused, in one poll."""

    in_flight: int = 2000
    window: int = 1000
    batch: int = 500


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads topics in a consumer group and passes batches to ``handler``, which acknowledges each record later.

    ``handler`` returns when it has capacity for more. If it raises, it gets the records that it has not acknowledged
    again after a pause. ``drain`` bounds the wait for records in flight at shutdown and before a rebalance, in seconds.
    """

    def __init__(
        self,
        topics: Iterable[str],
        handler: Handler,
        *,
        kafka: KafkaConnection,
        group: str,
        limits: Limits = Limits(),
        drain: float = 20.0,
    ) -> None:
        self._topics = list(topics)
        self._handler = handler
        self._kafka = kafka
        self._group = group
        self._limits = limits
        self._drain = drain
        self._windows: dict[TopicPartition, Window] = {}
        self._in_flight = 0
        self._capacity = asyncio.Event()
        self._stopping = asyncio.Event()
        self._client: AIOKafkaConsumer | None = None
        self._contact = BrokerContact()
        self.polled_at = 0.0  # monotonic time of the newest finished poll

    # -- lifecycle ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Consume until :meth:`stop`; then drain, commit, and leave the group.

        Raises:
            SluiceError: nothing is consumed any more, and only a restart helps.
        """
        metrics.IN_FLIGHT.set_function(lambda: self._in_flight)
        for topic in self._topics:  # a counter that begins with its first event hides that event from a rate
            metrics.series(metrics.RECORDS_CONSUMED, topic)
            count_from_zero(topic)
        self._client = await run_unless(self._stopping, connected(self._kafka, self._new_client, client=self._group))
        if self._client is None:
            return
        self._contact.observe(self._client)
        committer = supervised(self._commit_regularly(), name=f"{self._group}-committer")
        try:
            await self._poll_until_stopped(self._client)
            await self._wait_for_in_flight(self._drain)
        finally:
            await cancel_and_wait(committer)
            await self._leave(self._client)

    def stop(self) -> None:
        """Read nothing more; :meth:`run` returns after the drain."""
        self._stopping.set()
        self._capacity.set()

    @property
    def in_flight(self) -> int:
        """Records that are handed out and not acknowledged."""
        return self._in_flight

    def readiness(self) -> str | None:
        """None while polls finish and the broker answers; otherwise the reason why the consumer is not ready."""
        if self._stopping.is_set():
            return "stopping"
        if not self.polled_at:
            return "not in the consumer group yet"
        age = time.monotonic() - self.polled_at
        return f"no poll for {age:.0f} s" if age > _POLL_STALL_LIMIT else self._contact.fault()

    async def _poll_until_stopped(self, client: AIOKafkaConsumer) -> None:
        async def poll() -> None:
            while not self._stopping.is_set():
                await self._poll_once(client)

        polling = asyncio.create_task(poll(), name=f"{self._group}-polling")
        try:
            await run_unless(self._stopping, self._contact.watch(lambda: not polling.done()))
            # During a rebalance a poll lasts until the broker responds.
            await asyncio.wait([polling], timeout=_LAST_POLL_TIMEOUT)
        finally:
            await cancel_and_wait(polling)

    def _new_client(self) -> AIOKafkaConsumer:
        client = AIOKafkaConsumer(
            **self._kafka.options(),
            client_id=client_id(self._group),
            group_id=self._group,
            isolation_level=ISOLATION_LEVEL,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            rebalance_timeout_ms=int((self._drain + 5) * 1000),
            max_poll_interval_ms=300_000,
            fetch_max_wait_ms=200,
            metadata_max_age_ms=_METADATA_MAX_AGE_MS,
            retry_backoff_ms=200,
        )
        client.subscribe(self._topics, listener=self)
        return client

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond :meth:`stop`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _leave(self, client: AIOKafkaConsumer) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._commit(client), 3.0)
        for window in self._windows.values():
            window.owned = False
        await stop_client(client)

    # -- polling ------------------------------------------------------------------------------------------------

    async def _poll_once(self, client: AIOKafkaConsumer) -> None:
        capacity = self._limits.in_flight - self._in_flight
        try:
            if capacity <= 0:
                await self._heartbeat_while_full(client)
                return
            polled: Mapping[TopicPartition, Sequence[object]] = await client.getmany(
                timeout_ms=int(_POLL_TIMEOUT * 1000), max_records=min(capacity, self._limits.batch)
            )
        except KafkaError as error:
            log.warning("poll_failed", group=self._group, error=type(error).__name__)
            await asyncio.sleep(_POLL_TIMEOUT)
            return
        self.polled_at = time.monotonic()
        if self._stopping.is_set():
            return  # the records are not handed out, and so not committed
        records = [record for tp, raws in polled.items() for record in self._add_to_window(tp, raws)]
        for tp, window in self._windows.items():
            window.read_up_to(position(client, tp))
        if records:
            assert failpoints.hit("consumer.polled")
            self._pause_full(client)
            await self._run_handler(records)

    def _add_to_window(self, partition: TopicPartition, raws: Sequence[object]) -> list[Record]:
        window = self._windows.get(partition)
        if window is None or not window.owned:
            return []
        self._in_flight += len(raws)
        metrics.series(metrics.RECORDS_CONSUMED, partition.topic).inc(len(raws))
        return window.add(raws)

    async def _run_handler(self, records: list[Record]) -> None:
        while records:
            try:
                await self._handler(records)
                return
            except Exception:
                log.exception("handler_failed", group=self._group, records=len(records))
            await self._pause(_HANDLER_RETRY_DELAY)
            if self._stopping.is_set():
                return
            records = _still_owned(records)

    async def _heartbeat_while_full(self, client: AIOKafkaConsumer) -> None:
        """Wait for capacity; every second poll without reading, so that the group does not evict this member."""
        self._capacity.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._capacity.wait(), 1.0)
            return
        paused = [tp for tp in client.assignment() if tp not in client.paused()]
        client.pause(*paused)
        await client.getmany(timeout_ms=0)
        self.polled_at = time.monotonic()
        client.resume(*(tp for tp in paused if tp in client.assignment()))

    def _pause_full(self, client: AIOKafkaConsumer) -> None:
        full = [window for window in self._windows.values() if len(window.pending) >= self._limits.window]
        for window in full:
            if window.partition in client.assignment():
                client.pause(window.partition)
                window.paused = True

    def _resume(self, window: Window) -> None:
        client = self._client
        if client is None or not window.paused or len(window.pending) > self._limits.window // 2:
            return
        window.paused = False
        if window.partition in client.paused():
            client.resume(window.partition)

    def _on_ack(self, window: Window) -> None:
        self._in_flight -= 1
        self._capacity.set()
        if window.owned:
            self._resume(window)

    async def _wait_for_in_flight(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while any(window.pending for window in self._windows.values()):
            if time.monotonic() > deadline:
                log.warning("drain_incomplete", group=self._group, in_flight=self._in_flight)
                return
            await asyncio.sleep(0.02)

    # -- committing ---------------------------------------------------------------------------------------------

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_INTERVAL)
            if self._client is not None:
                await self._commit(self._client)

    async def _commit(self, client: AIOKafkaConsumer) -> None:
        offsets = {
            tp: window.next_commit
            for tp, window in self._windows.items()
            if window.owned and window.next_commit is not None and window.next_commit != window.committed
        }
        if not offsets:
            return
        assert failpoints.hit("consumer.before_commit")
        try:
            await client.commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            # The partitions have another consumer now, which reads these records again and finds them settled.
            log.info("commit_lost_to_rebalance", group=self._group, error=type(error).__name__)
        except KafkaError as error:
            log.warning("commit_failed", group=self._group, error=type(error).__name__)
        else:
            assert failpoints.hit("consumer.committed")
            for tp, offset in offsets.items():
                if tp in self._windows:
                    self._windows[tp].committed = offset

    # -- rebalancing --------------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Drain, commit, and drop the windows: later acknowledgements then change nothing."""
        if self._client is None:
            return
        await self._wait_for_in_flight(self._drain)
        await self._commit(self._client)
        for tp in revoked:
            window = self._windows.pop(tp, None)
            if window is not None:
                window.owned = False
        self._count_partitions()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Start with new windows; the client has dropped its pauses as well."""
        for tp in assigned:
            old = self._windows.get(tp)
            if old is not None:
                old.owned = False
            self._windows[tp] = Window(tp, self._on_ack)
        self._count_partitions()

    def _count_partitions(self) -> None:
        for topic in self._topics:
            metrics.ASSIGNED_PARTITIONS.labels(topic).set(sum(tp.topic == topic for tp in self._windows))


def _still_owned(records: list[Record]) -> list[Record]:
    """The records whose partition is still assigned; the others are acknowledged, which releases their capacity."""
    for record in records:
        if not record.owned:
            record.ack()
    return [record for record in records if not record.acked]
