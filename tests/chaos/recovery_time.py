"""How long what stood still over a fault was left standing after the fault had healed.

A delivery stands still between two lines of its history when nobody works on it: it waits on the conveyor, or its
worker is gone. Its redrive time runs from the last heal of what it needs (its worker, a router, Kafka, PostgreSQL; for
one that was just accepted its gateway too), or from the moment it fell due if that is later, to its next line.
Waiting that is policy (a scheduled send, the pause between rounds, the wait for a receipt) is not counted, nor is a
provider call that a living worker has under way.

Where faults follow each other closely the last heal flatters. So there is a second figure, ``standing``: all the time
in which everything that the delivery needed was healthy and it still stood, from the first fault that hit it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from tests.chaos.db_snapshot import DbSnapshot, Delivery
from tests.chaos.oracle import LOST_WORKER, Span

WORKER = {"email": "email-worker", "sms": "sms-worker", "push": "push-worker"}
STANDING = ("accepted", "sending", "attempt_failed", "postponed")

Waits = dict[tuple[str, int], datetime]
"""Until when a delivery waits by policy, by its id and the number of its newest event."""


@dataclass(frozen=True, slots=True)
class Stalled:
    """One standstill, in seconds."""

    requeue_after: float
    pending: float


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution, in seconds."""

    n: int
    p50: float
    p99: float
    longest: float


def recovery_times(record: DbSnapshot, faults: Sequence[Span], waits: Waits) -> tuple[Spread, Spread]:
    """Both measures over a whole run: redrive times, standing times."""
    found = [
        stood
        for delivery in record.by_id.values()
        for stood in _of(delivery, [fault for fault in faults if _concerns(fault, delivery.channel)], waits)
    ]
    return spread([stood.requeue_after for stood in found]), spread([stood.pending for stood in found])


def spread(found: Sequence[float]) -> Spread:
    """Of any number of seconds."""
    ordered = sorted(found) or [0.0]
    return Spread(len(found), _quantile(ordered, 0.5), _quantile(ordered, 0.99), round(ordered[-1], 2))


def _quantile(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


def _concerns(fault: Span, channel: str) -> bool:
    target = fault.target.removesuffix("-2")
    return target in ("postgres", "kafka", "router", "gateway", WORKER[channel])


def _of(delivery: Delivery, faults: Sequence[Span], waits: Waits) -> Iterator[Stalled]:
    for before, after in pairwise(delivery.events):
        if before["type"] not in STANDING or not _stood(before, after):
            continue
        due = waits.get((delivery.id, before["sequence"]), before["occurred_at"])
        if before["type"] == "accepted" and delivery.send_at:
            due = delivery.send_at
        hit = [
            fault
            for fault in faults
            if fault.start < after["occurred_at"]
            and fault.end > due
            and (before["type"] == "accepted" or not fault.target.startswith("gateway"))
        ]
        if hit:
            healed = max(
                (fault.end for fault in hit if fault.end <= after["occurred_at"]), default=after["occurred_at"]
            )
            first = max(due, min(fault.start for fault in hit))
            yield Stalled(
                (after["occurred_at"] - max(due, healed)).total_seconds(), healthy(first, after["occurred_at"], hit)
            )


def _stood(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """In flight it stands still only when its worker is gone."""
    return before["type"] != "sending" or LOST_WORKER in after["detail"]


def healthy(start: datetime, end: datetime, faults: Iterable[Span]) -> float:
    """The seconds between two moments in which no fault lay over them."""
    seconds = timedelta()
    reached = start
    for fault in sorted(faults, key=lambda one: one.start):
        if fault.start > reached:
            seconds += min(fault.start, end) - reached
        reached = max(reached, fault.end)
        if reached >= end:
            return seconds.total_seconds()
    return (seconds + (end - reached)).total_seconds()
