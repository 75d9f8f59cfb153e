"""Division of a sequence into parts that are stored together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

MAX_DELIVERIES = 1_000
"""Deliveries of one transaction, unless a single message has more: its statement stops the event loop for 5 ms."""


def chunks_of(items: Sequence[T], size: int, deliveries: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """``items`` in order, in parts of at most ``size`` of them with at most :data:`MAX_DELIVERIES` together."""
    start = total = 0
    for at, item in enumerate(items):
        more = deliveries(item)
        if at > start and (at - start == size or total + more > MAX_DELIVERIES):
            yield items[start:at]
            start, total = at, 0
        total += more
    if start < len(items):
        yield items[start:]
