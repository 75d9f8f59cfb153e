"""Recovery times: how long stalled deliveries waited after a fault had healed.

A delivery is stalled between two events of its history when no process works on it: it waits in the dispatch queue, or
its worker is dead. Its recovery time runs from the last heal of a dependency (its worker, a router, Kafka, PostgreSQL;
just after acceptance its gateway too), or from its due time if that is later, to its next event. Waiting by policy (a
scheduled send, the pause between rounds, the wait for a receipt) is not counted, nor is a provider call that a living
worker has in flight.

Where faults follow each other closely, the last heal flatters. Therefore the second figure: the total time during which
the delivery was stalled although every dependency was healthy, from the first fault that affected it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sluice.runtime.percentile import percentile
from tests.chaos.db_snapshot import DbSnapshot, Delivery
from tests.chaos.oracle import LOST_WORKER, Span

WORKER = {
    "email": "email-worker",
    "push": "push-worker",
    **dict.fromkeys(("sms", "whatsapp", "telegram", "signal"), "sms-worker"),
}
STALLING = ("accepted", "sending", "attempt_failed", "postponed")

Waits = dict[tuple[str, int], datetime]
"""The end of a delivery's wait by policy, by its id and the sequence of its newest event."""


@dataclass(frozen=True, slots=True)
class Stalled:
    """One delivery between two events, in seconds."""

    recovery: float
    stalled: float


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution, in seconds."""

    n: int
    p50: float
    p99: float
    longest: float


def recovery_times(snapshot: DbSnapshot, faults: Sequence[Span], waits: Waits) -> tuple[Spread, Spread]:
    """Both figures of a run: recovery times, stalled times."""
    found = [
        one
        for delivery in snapshot.by_id.values()
        for one in _of(delivery, [fault for fault in faults if _concerns(fault, delivery.channel)], waits)
    ]
    return spread([one.recovery for one in found]), spread([one.stalled for one in found])


def spread(found: Sequence[float]) -> Spread:
    """The distribution of any number of seconds."""
    return Spread(len(found), *(round(percentile(found, share) or 0.0, 2) for share in (0.5, 0.99, 1.0)))


def _concerns(fault: Span, channel: str) -> bool:
    target = fault.target.removesuffix("-2")
    return target in ("postgres", "kafka", "router", "gateway", WORKER[channel])


def _of(delivery: Delivery, faults: Sequence[Span], waits: Waits) -> Iterator[Stalled]:
    for before, after in pairwise(delivery.events):
        if before["type"] not in STALLING or not _is_stalled(before, after):
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


def _is_stalled(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """A delivery in flight is stalled only if its worker was lost."""
    return before["type"] != "sending" or LOST_WORKER in after["detail"]


def healthy(start: datetime, end: datetime, faults: Iterable[Span]) -> float:
    """The seconds between two times without any of the faults."""
    seconds = timedelta()
    reached = start
    for fault in sorted(faults, key=lambda one: one.start):
        if fault.start > reached:
            seconds += min(fault.start, end) - reached
        reached = max(reached, fault.end)
        if reached >= end:
            return seconds.total_seconds()
    return (seconds + (end - reached)).total_seconds()
