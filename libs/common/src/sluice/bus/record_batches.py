"""Record batches in which one undecodable record does not hide the others.

A header name is text in UTF-8 by Kafka's protocol, but the broker does not check it and some clients send any bytes.
aiokafka then raises in the middle of a batch, at every poll: the partition stands still, and records that the same poll
took from other partitions are lost. With :func:`install`, all consumers of the process get such a record without key
and value, which their handlers dead-letter like any other unreadable record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import structlog
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from aiokafka.record.util import decode_varint

log = structlog.get_logger()

_UNDECODABLE = ("undecodable", b"a header name is not UTF-8")


def install() -> None:
    """Make aiokafka read batches with the classes of this module; it has no setting for that."""
    fetcher.MemoryRecords = _RecordBatches


def why_undecodable(headers: Sequence[tuple[str, bytes | None]]) -> str | None:
    """Why the record with these headers could not be decoded; None if it was."""
    return _UNDECODABLE[1].decode() if headers and headers[0] is _UNDECODABLE else None


class _RecordBatches(_MemoryRecordsPy):  # type: ignore[misc]
    """The batches of one partition in one response."""

    def next_batch(self) -> Any:
        """The next batch; its raw bytes are kept until it is read."""
        raw = self._next_slice
        batch = super().next_batch()
        return None if batch is None else _Batch(batch, raw)


class _Batch:
    """A batch of aiokafka's compiled reader, which is read again record by record if that one fails."""

    __slots__ = ("_batch", "_raw")

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(_TolerantBatch(self._raw))


class _TolerantBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """Reads a record whose header names are not UTF-8 as one without key and value, and with one header of its own."""

    _pos: int

    def _read_msg(self) -> Any:
        start = self._pos
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            size, body = decode_varint(self._buffer, start)
            _, timestamp_delta_at = decode_varint(self._buffer, body)  # after the attributes
            timestamp_delta, offset_delta_at = decode_varint(self._buffer, timestamp_delta_at)
            offset_delta, _ = decode_varint(self._buffer, offset_delta_at)
            self._pos = body + size
            offset = self.base_offset + offset_delta
            timestamp = self.max_timestamp if self.timestamp_type else self.first_timestamp + timestamp_delta
            log.error("record_undecodable", offset=offset, reason=_UNDECODABLE[1].decode())
            return _DefaultRecordPy(offset, timestamp, self.timestamp_type, None, None, [_UNDECODABLE])
