"""How long what stood still over a fault was left standing.

A delivery stands still between two lines of its history when nobody works on it: it waits on the conveyor, or its
worker is gone. Counted is the time in which everything that it needs was healthy and it still stood, from the first
fault that hit it; waiting that is policy (a scheduled send, the pause between rounds, the wait for a receipt) is not
counted, and neither is a provider call that a living worker has under way.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.chaos.oracle import LOST_WORKER, Span
from tests.chaos.record import Delivery, Record

WORKER = {"email": "email-worker", "sms": "sms-worker", "push": "push-worker"}
STANDING = ("accepted", "sending", "attempt_failed", "postponed")

Waits = dict[tuple[str, int], datetime]
"""Until when a delivery waits by policy, by its id and the number of its newest event."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """The distribution, in seconds."""

    n: int
    p50: float
    p99: float
    longest: float


def redriven(record: Record, faults: Sequence[Span], waits: Waits) -> Redriven:
    """The measure over a whole run."""
    found = sorted(
        seconds
        for delivery in record.by_id.values()
        for seconds in _of(delivery, [fault for fault in faults if _concerns(fault, delivery.channel)], waits)
    )
    if not found:
        return Redriven(0, 0.0, 0.0, 0.0)
    return Redriven(len(found), _quantile(found, 0.5), _quantile(found, 0.99), round(found[-1], 2))


def _quantile(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


def _concerns(fault: Span, channel: str) -> bool:
    target = fault.target.removesuffix("-2")
    return target in ("postgres", "kafka", "router", "gateway", WORKER[channel])


def _of(delivery: Delivery, faults: Sequence[Span], waits: Waits) -> Iterable[float]:
    for before, after in zip(delivery.events, delivery.events[1:], strict=False):
        if before["kind"] not in STANDING or not _stood(before, after):
            continue
        start = waits.get((delivery.id, before["number"]), before["at"])
        if before["kind"] == "accepted" and delivery.send_at:
            start = delivery.send_at
        hit = [fault for fault in faults if fault.start < after["at"] and fault.end > start]
        if hit:
            first = max(start, min(fault.start for fault in hit))
            yield healthy(first, after["at"], hit)


def _stood(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """In flight it stands still only when its worker is gone."""
    return before["kind"] != "sending" or LOST_WORKER in after["detail"]


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
