"""A consumer with many records of one partition in flight that commits only the finished prefix.

Each assignment of a partition gets a window: the offsets that were handed out and not finished yet. A record counts
as finished when its handler says so, in any order; what is committed is the offset below which everything is
finished. A crash therefore repeats records and never skips one; repeats are harmless because claims are
compare-and-set. (Offsets are never computed: compaction and transactions leave gaps.)
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from sluice.runtime import failpoints
from sluice.runtime.tasks import cancel_and_wait, supervised

log = structlog.get_logger()

_POLL_TIMEOUT = 0.1  # seconds a poll waits for records
_COMMIT_INTERVAL = 0.2  # seconds
_HANDLER_RETRY_DELAY = 1.0  # seconds before a handler that raised sees its records again
_POLL_STALL_LIMIT = 15.0  # seconds without a finished poll after which the consumer is not ready
_LAST_POLL_TIMEOUT = 1.0  # seconds for the poll under way when asked to stop
# A consumer that joined before its topics were made (after Kafka's data were wiped) has no partition until it looks.
_METADATA_MAX_AGE_MS = 3_000  # milliseconds
# After a member was killed its whole group stands still until it has been silent for so long (the others wait for it
# in the rebalance that its successor begins). A process that is merely held up for longer repeats some records.
_SESSION_TIMEOUT_MS = 6_000  # milliseconds
_RECONNECT_DELAY = 0.5  # seconds between tries to reach the broker at start


class _Window:
    __slots__ = ("committed", "next_commit", "owned", "partition", "paused", "pending")

    def __init__(self, partition: TopicPartition) -> None:
        self.partition = partition
        self.pending: deque[Record] = deque()
        self.next_commit: int | None = None
        self.committed: int | None = None
        self.owned = True
        self.paused = False  # by us, because it was full

    def advance(self) -> None:
        while self.pending and self.pending[0].acked:
            self.next_commit = self.pending.popleft().offset + 1


class Record:
    """One record in flight. Call :meth:`done` exactly when nothing of it can be lost any more."""

    __slots__ = ("_consumer", "_window", "acked", "headers", "key", "offset", "timestamp", "value")

    def __init__(self, raw: object, window: _Window, consumer: Consumer) -> None:
        self.offset: int = raw.offset  # type: ignore[attr-defined]
        self.key: bytes | None = raw.key  # type: ignore[attr-defined]
        self.value: bytes | None = raw.value  # type: ignore[attr-defined]
        self.timestamp: int = raw.timestamp  # type: ignore[attr-defined]
        self.headers: Sequence[tuple[str, bytes | None]] = raw.headers  # type: ignore[attr-defined]
        self.acked = False
        self._window = window
        self._consumer = consumer

    @property
    def topic(self) -> str:
        """Where it was read."""
        return str(self._window.partition.topic)

    @property
    def partition(self) -> int:
        """Where it was read."""
        return int(self._window.partition.partition)

    @property
    def owned(self) -> bool:
        """False once the partition was given to somebody else: they will see the record again."""
        return self._window.owned

    def ack(self) -> None:
        """Nothing of it can be lost any more; calling it again changes nothing."""
        if not self.acked:
            self.acked = True
            self._consumer._on_ack(self._window)


@dataclass(frozen=True, slots=True)
class _Undecodable:
    """What stands for a record that the client could not decode."""

    offset: int
    key: bytes | None = None
    value: bytes | None = None
    timestamp: int = 0
    headers: Sequence[tuple[str, bytes | None]] = ()


def _still_owned(records: list[Record]) -> list[Record]:
    """Those that are still ours to handle; those that were taken away give back their room."""
    for record in records:
        if not record.owned:
            record.ack()
    return [record for record in records if not record.acked]


Handler = Callable[[list[Record]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one consumer: records in flight in all, and of one partition before it is paused."""

    in_flight: int = 2000
    window: int = 1000
    batch: int = 500


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads topics in a group and hands batches to ``handler``, which takes them over and finishes each record later.

    ``handler`` returns when it has room for more. If it raises, it sees the unfinished records again after a pause.
    """

    def __init__(
        self,
        topics: Iterable[str],
        handler: Handler,
        *,
        servers: str,
        group: str,
        limits: Limits = Limits(),
        drain: float = 20.0,
    ) -> None:
        self._topics = list(topics)
        self._handler = handler
        self._servers = servers
        self._group = group
        self._limits = limits
        self._drain = drain
        self._windows: dict[TopicPartition, _Window] = {}
        self._in_flight = 0
        self._capacity = asyncio.Event()
        self._stopping = asyncio.Event()
        self._client: AIOKafkaConsumer | None = None
        self._isolating = False  # one record at a time, to find the one that cannot be decoded
        self.polled_at = 0.0  # monotonic time of the newest finished poll: the sign of life that readiness looks at

    # -- life ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Consume until :meth:`stop`; then finish what is in flight, commit, and leave the group."""
        self._client = await self._start()
        if self._client is None:
            return
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
        """Records handed out and not finished."""
        return self._in_flight

    def readiness(self) -> str | None:
        """None while polls succeed and the group has given us an answer; otherwise what is missing."""
        if self._stopping.is_set():
            return "stopping"
        if self._client is None or not self.polled_at:
            return "not in the consumer group yet"
        silent = time.monotonic() - self.polled_at
        return f"no poll for {silent:.0f} s" if silent > _POLL_STALL_LIMIT else None

    async def _poll_until_stopped(self, client: AIOKafkaConsumer) -> None:
        async def poll() -> None:
            while not self._stopping.is_set():
                await self._poll_once(client)

        polling = asyncio.create_task(poll(), name=f"{self._group}-polling")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([polling, stopping], return_when=asyncio.FIRST_COMPLETED)
            # During a rebalance a poll lasts as long as the broker is away.
            await asyncio.wait([polling], timeout=_LAST_POLL_TIMEOUT)
        finally:
            stopping.cancel()
            await cancel_and_wait(polling)

    async def _start(self) -> AIOKafkaConsumer | None:
        """A member of the group; None if asked to stop before the broker answered."""
        while not self._stopping.is_set():
            client = AIOKafkaConsumer(
                bootstrap_servers=self._servers,
                client_id=f"sluice-{self._group}",
                group_id=self._group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                session_timeout_ms=_SESSION_TIMEOUT_MS,
                heartbeat_interval_ms=_SESSION_TIMEOUT_MS // 4,
                rebalance_timeout_ms=int((self._drain + 5) * 1000),
                max_poll_interval_ms=300_000,
                fetch_max_wait_ms=200,
                metadata_max_age_ms=_METADATA_MAX_AGE_MS,
                retry_backoff_ms=200,
            )
            client.subscribe(self._topics, listener=self)
            try:
                await client.start()
                return client
            except (KafkaError, OSError) as error:
                await client.stop()
                log.warning("kafka_unreachable", group=self._group, error=type(error).__name__)
                await self._pause(_RECONNECT_DELAY)
        return None

    async def _pause(self, seconds: float) -> None:
        """Wait, unless asked to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _leave(self, client: AIOKafkaConsumer) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._commit(client), 3.0)
        for window in self._windows.values():
            window.owned = False
        with contextlib.suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(client.stop(), 5.0)

    # -- reading ------------------------------------------------------------------------------------------------

    async def _poll_once(self, client: AIOKafkaConsumer) -> None:
        room = self._limits.in_flight - self._in_flight
        try:
            if room <= 0:
                await self._heartbeat_while_full(client)
                return
            polled = await self._poll(client, min(room, self._limits.batch))
        except KafkaError as error:
            log.warning("poll_failed", group=self._group, error=type(error).__name__)
            await asyncio.sleep(_POLL_TIMEOUT)
            return
        self.polled_at = time.monotonic()
        if self._stopping.is_set():
            return  # not taken over, and so not committed
        records = [record for tp, raws in polled.items() for record in self._wrap(tp, raws)]
        if records:
            assert failpoints.hit("consumer.polled")
            self._pause_full(client)
            await self._run_handler(records)

    async def _poll(self, client: AIOKafkaConsumer, most: int) -> Mapping[TopicPartition, Sequence[object]]:
        if self._isolating:
            return await self._poll_isolating_bad_record(client)
        try:
            polled: Mapping[TopicPartition, Sequence[object]] = await client.getmany(
                timeout_ms=int(_POLL_TIMEOUT * 1000), max_records=most
            )
            return polled
        except KafkaError:
            raise
        except Exception as error:
            log.error("poll_undecodable", group=self._group, error=type(error).__name__)
            self._isolating = True
            return {}

    async def _poll_isolating_bad_record(self, client: AIOKafkaConsumer) -> Mapping[TopicPartition, Sequence[object]]:
        """Find the record that the client cannot decode, and hand over an empty one in its place."""
        polled: dict[TopicPartition, Sequence[object]] = {}
        for tp in client.assignment() - client.paused():
            try:
                polled |= await client.getmany(tp, timeout_ms=int(_POLL_TIMEOUT * 1000), max_records=1)
            except KafkaError:
                raise
            except Exception as error:
                offset = await client.position(tp)
                log.error("record_undecodable", topic=tp.topic, offset=offset, error=type(error).__name__)
                client.seek(tp, offset + 1)
                polled[tp] = [_Undecodable(offset)]
                self._isolating = False
        return polled

    def _wrap(self, partition: TopicPartition, raws: Sequence[object]) -> list[Record]:
        window = self._windows.get(partition)
        if window is None or not window.owned:
            return []
        records = [Record(raw, window, self) for raw in raws]
        window.pending.extend(records)
        self._in_flight += len(records)
        return records

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
        """No room: wait for some, and show the group every second that we are alive without reading."""
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

    def _resume(self, window: _Window) -> None:
        client = self._client
        if client is None or not window.paused or len(window.pending) > self._limits.window // 2:
            return
        window.paused = False
        if window.partition in client.paused():
            client.resume(window.partition)

    def _on_ack(self, window: _Window) -> None:
        self._in_flight -= 1
        self._capacity.set()
        if window.owned:
            window.advance()
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
        moved = {
            tp: window.next_commit
            for tp, window in self._windows.items()
            if window.owned and window.next_commit is not None and window.next_commit != window.committed
        }
        if not moved:
            return
        assert failpoints.hit("consumer.before_commit")
        try:
            await client.commit(moved)
        except (CommitFailedError, IllegalStateError) as error:
            # The group has moved on: whoever has the partition now repeats these records and finds them settled.
            log.info("commit_lost_to_rebalance", group=self._group, error=type(error).__name__)
        except KafkaError as error:
            log.warning("commit_failed", group=self._group, error=type(error).__name__)
        else:
            assert failpoints.hit("consumer.committed")
            for tp, offset in moved.items():
                if tp in self._windows:
                    self._windows[tp].committed = offset

    # -- rebalancing --------------------------------------------------------------------------------------------

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Finish what is in flight, commit it, and forget the windows: late endings then change nothing."""
        if self._client is None:
            return
        await self._wait_for_in_flight(self._drain)
        await self._commit(self._client)
        for tp in revoked:
            window = self._windows.pop(tp, None)
            if window is not None:
                window.owned = False

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Fresh windows; the client has forgotten its pauses as well."""
        for tp in assigned:
            old = self._windows.get(tp)
            if old is not None:
                old.owned = False
            self._windows[tp] = _Window(tp)
