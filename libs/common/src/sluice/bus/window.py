"""The records of one assigned partition that are in flight, and the offset that may be committed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from aiokafka import TopicPartition


class Window:
    """Records of one partition that are handed out and not acknowledged, in the order of their offsets.

    ``next_commit`` is the offset below which every record is acknowledged; None before the first one is. Each
    assignment of the partition gets a new window; ``owned`` ends with the assignment.
    """

    __slots__ = ("_on_ack", "_position", "committed", "next_commit", "owned", "partition", "paused", "pending")

    def __init__(self, partition: TopicPartition, on_ack: Callable[[Window], None]) -> None:
        self.partition = partition
        self.pending: deque[Record] = deque()
        self.next_commit: int | None = None
        self.committed: int | None = None
        self.owned = True
        self.paused = False  # by the consumer, because the window was full
        self._position: int | None = None
        self._on_ack = on_ack

    def add(self, raws: Sequence[object]) -> list[Record]:
        """The records of the client as records in flight."""
        records = [Record(raw, self) for raw in raws]
        self.pending.extend(records)
        return records

    def read_up_to(self, position: int | None) -> None:
        """The client reads next at ``position``; every record below it is in ``pending`` or acknowledged.

        Behind the last record may be control records and aborted records of transactions: the group would seem to lag
        behind for ever if they were not committed.
        """
        self._position = position
        if position is not None and not self.pending:
            self.next_commit = position

    def acknowledged(self) -> None:
        """One of the records was acknowledged: move ``next_commit`` over the acknowledged prefix."""
        while self.owned and self.pending and self.pending[0].acked:
            self.next_commit = self.pending.popleft().offset + 1
        if self._position is not None and not self.pending:
            self.next_commit = self._position
        self._on_ack(self)


class Record:
    """One record in flight. Call :meth:`ack` when the record needs no further work."""

    __slots__ = ("_window", "acked", "headers", "key", "offset", "timestamp", "value")

    def __init__(self, raw: object, window: Window) -> None:
        self.offset: int = raw.offset  # type: ignore[attr-defined]
        self.key: bytes | None = raw.key  # type: ignore[attr-defined]
        self.value: bytes | None = raw.value  # type: ignore[attr-defined]
        self.timestamp: int = raw.timestamp  # type: ignore[attr-defined]
        self.headers: Sequence[tuple[str, bytes | None]] = raw.headers  # type: ignore[attr-defined]
        self.acked = False
        self._window = window

    @property
    def topic(self) -> str:
        """The topic it was read from."""
        return str(self._window.partition.topic)

    @property
    def partition(self) -> int:
        """The partition it was read from."""
        return int(self._window.partition.partition)

    @property
    def owned(self) -> bool:
        """False once the partition is revoked: its next consumer reads the record again."""
        return self._window.owned

    def ack(self) -> None:
        """Acknowledge: the record needs no further work. Repeated calls change nothing."""
        if not self.acked:
            self.acked = True
            self._window.acknowledged()
