"""What a delivery contributes to the analytics of its project, and the histogram of durations.

The contribution of a delivery is a pure function of its history: a count that grows by the difference of two
contributions is right whatever was counted before, and however often (docs/decisions/0066).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import accumulate
from math import ceil
from struct import unpack
from typing import NamedTuple
from uuid import UUID

from sluice.model.state import RANK, EventType, State


class Count(StrEnum):
    """What is counted; the values are columns of ``analytics_rollups``.

    Once for each delivery, except failovers and what is counted for each *taken* attempt: one that its provider
    accepted, by its response or by a later receipt.
    """

    SETTLED = "settled"  # has ended, or was handed to a provider; a cancelled delivery is not counted
    SENT = "sent"  # a provider accepted it
    DELIVERED = "delivered"  # arrived, and did not bounce afterwards
    FAILED = "failed"  # ended FAILED or EXPIRED
    UNCONFIRMED = "unconfirmed"  # ended without evidence
    BOUNCED = "bounced"  # also for now: SOFT_BOUNCE
    COMPLAINED = "complained"
    OPENED = "opened"  # or read
    CLICKED = "clicked"
    FAILOVERS = "failovers"  # attempts that were followed by one at another provider
    COST = "cost"  # of the taken attempts, in millionths: see sluice.model.cost
    UNPRICED = "unpriced"  # taken attempts at providers without a price


class Duration(StrEnum):
    """What is measured, in milliseconds; the values are columns of ``analytics_rollups``."""

    ACCEPT_TO_SENT = "accept_to_sent"  # from the acceptance, or the time to send at, to the provider's acceptance
    SENT_TO_DELIVERED = "sent_to_delivered"  # by the times of the events, the second one as the provider states it


class HistoryEvent(NamedTuple):
    """The part of an event that counts. ``state``: what it asserts. ``cost``: of its attempt, if that has a price."""

    type: str
    state: str | None
    occurred_at: datetime
    provider_id: UUID | None
    attempt: int | None = None
    cost: int | None = None


class Cell(NamedTuple):
    """A number in the rollup of a provider; ``bucket``: of the histogram, for a duration."""

    provider_id: UUID | None
    name: Count | Duration
    bucket: int = 0


_BY_STATE: dict[str, Count] = {
    State.DELIVERED: Count.DELIVERED,
    State.FAILED: Count.FAILED,
    State.EXPIRED: Count.FAILED,
    State.UNCONFIRMED: Count.UNCONFIRMED,
    State.BOUNCED: Count.BOUNCED,
    State.SOFT_BOUNCE: Count.BOUNCED,
    State.COMPLAINED: Count.COMPLAINED,
}
_RANKS: dict[str | None, int] = {state.value: rank for state, rank in RANK.items()}  # without states of a newer program
_UNCOUNTED = frozenset({State.QUEUED, State.SENDING, State.CANCELLED})
_FIRSTS: dict[str, Count] = {
    EventType.SENT: Count.SENT,
    EventType.DELIVERED: Count.SENT,
    EventType.OPENED: Count.OPENED,
    EventType.READ: Count.OPENED,
    EventType.CLICKED: Count.CLICKED,
}


class _Outline(NamedTuple):
    """An event without its time: what the counts depend on, and what thousands of deliveries have in common."""

    type: str
    state: str | None
    provider_id: UUID | None
    attempt: int | None
    cost: int | None


class _Counts(NamedTuple):
    """``attempted``: the provider of the newest attempt."""

    cells: Mapping[Cell, int]
    attempted: UUID | None


def contribution(history: Sequence[HistoryEvent], send_at: datetime | None) -> Counter[Cell]:
    """What a delivery with this history, in order of its sequence, adds to the rollups.

    A count belongs to the provider whose event made it first; without one, to the provider of the newest attempt, and
    to no provider where there was none.
    """
    counts = _counts(
        tuple([_Outline(type_, state, provider, attempt, cost) for type_, state, _, provider, attempt, cost in history])
    )
    cells = Counter(counts.cells)
    for duration, event, measured in _durations(history, send_at):
        cells[Cell(event.provider_id or counts.attempted, duration, bucket_of(measured))] += 1
    return cells


@lru_cache(maxsize=4096)
def _counts(history: tuple[_Outline, ...]) -> _Counts:
    cells = _costs(history)
    firsts: dict[str, _Outline] = {}
    attempted: UUID | None = None
    last: _Outline | None = None  # that made the state
    for event in history:
        firsts.setdefault(event.type, event)
        if event.type == EventType.SENDING:
            if attempted is not None and event.provider_id != attempted:
                cells[Cell(attempted, Count.FAILOVERS)] += 1
            attempted = event.provider_id
        if _rank(event) > (-1 if last is None else _rank(last)):
            last = event
    made = {_FIRSTS[type_]: event for type_, event in reversed(firsts.items()) if type_ in _FIRSTS}
    if last is not None and last.state is not None and last.state not in _UNCOUNTED:
        made[Count.SETTLED] = last
        if last.state in _BY_STATE:
            made[_BY_STATE[last.state]] = last
        if last.state == State.COMPLAINED and EventType.DELIVERED in firsts:
            made[Count.DELIVERED] = firsts[EventType.DELIVERED]
    cells.update(Cell(event.provider_id or attempted, count) for count, event in made.items())
    return _Counts(cells, attempted)


def _costs(history: Sequence[_Outline]) -> Counter[Cell]:
    cells: Counter[Cell] = Counter()
    taken: set[int] = set()
    for event in history:
        if _FIRSTS.get(event.type) is Count.SENT and event.attempt is not None and event.attempt not in taken:
            taken.add(event.attempt)
            name, number = (Count.UNPRICED, 1) if event.cost is None else (Count.COST, event.cost)
            cells[Cell(event.provider_id, name)] += number
    return cells


def _rank(event: _Outline) -> int:
    return _RANKS.get(event.state, -1)


def _durations(
    history: Sequence[HistoryEvent], send_at: datetime | None
) -> Iterator[tuple[Duration, HistoryEvent, timedelta]]:
    firsts = {event.type: event for event in reversed(history)}
    accepted, sent = firsts.get(EventType.ACCEPTED), firsts.get(EventType.SENT)
    delivered = firsts.get(EventType.DELIVERED)
    if accepted is not None and sent is not None:
        start = accepted.occurred_at if send_at is None else max(accepted.occurred_at, send_at)
        yield Duration.ACCEPT_TO_SENT, sent, sent.occurred_at - start
    if sent is not None and delivered is not None:
        yield Duration.SENT_TO_DELIVERED, delivered, delivered.occurred_at - sent.occurred_at


# -- histogram -----------------------------------------------------------------------------------------------------

# Buckets of HDR histograms: each power of two is divided into 16 of equal width, so that a bucket is at most 1/16 of
# its values wide. Integers only: the same value has the same bucket in every program, and in SQL.
_BITS = 4
_WIDTH = 1 << _BITS
_MILLISECOND = timedelta(milliseconds=1)
_MOST = (1 << 32) - 1  # 50 days: longer durations are counted as this
BUCKETS = (32 - _BITS) * _WIDTH + _WIDTH
"""The number of buckets, from 0."""


def bucket_of(duration: timedelta) -> int:
    """The bucket of a duration; a negative one, between two clocks, counts as 0."""
    value = min(max(0, duration // _MILLISECOND), _MOST)
    shift = max(0, value.bit_length() - _BITS - 1)
    return shift * _WIDTH + (value >> shift)


def value_of(bucket: int) -> float:
    """The middle of a bucket in milliseconds: at most 3.2 % from each of its values of 16 ms or more."""
    shift = max(0, bucket // _WIDTH - 1)
    return ((bucket - shift * _WIDTH) << shift) + ((1 << shift) - 1) / 2


_DIGITS = 12  # decimal digits of the number of one bucket


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many durations are in which bucket. ``buckets``: ascending; ``numbers``: one for each bucket.

    In PostgreSQL a histogram is one number, whose digits in base 10^12 are the numbers of the buckets: ``+`` and
    ``sum`` merge histograms (docs/decisions/0066).
    """

    buckets: Sequence[int] = ()
    numbers: Sequence[int] = ()

    @classmethod
    def parse(cls, text: str) -> Histogram:
        """The histogram of a number in decimal digits, at least ``0``."""
        used = text.rstrip("0")
        first = (len(text) - len(used)) // _DIGITS  # the buckets below are empty
        length = -(-len(text) // _DIGITS) - first if used else 0
        digits = text[: len(text) - first * _DIGITS].zfill(length * _DIGITS) if used else ""
        numbers = list(map(int, unpack(f"{_DIGITS}s" * length, digits.encode())))  # the fastest way to split a text
        numbers.reverse()
        return cls(range(first, first + length), numbers)

    def __str__(self) -> str:
        """The number in decimal digits."""
        numbers = dict(zip(self.buckets, self.numbers, strict=True))
        digits = [f"{numbers.get(bucket, 0):0{_DIGITS}}" for bucket in range(max(numbers, default=0), -1, -1)]
        return "".join(digits).lstrip("0") or "0"

    def quantiles(self, fractions: Sequence[float]) -> list[float | None]:
        """For each fraction (more than 0, at most 1) the milliseconds that so many do not exceed; None for none.

        By the nearest rank: the value of a duration that was measured, to the width of its bucket.
        """
        upto = list(accumulate(self.numbers))
        if not upto:
            return [None] * len(fractions)
        return [value_of(self.buckets[bisect_left(upto, ceil(fraction * upto[-1]))]) for fraction in fractions]
