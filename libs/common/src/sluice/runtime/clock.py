"""The clock: the only module that reads the wall clock.

A process that uses PostgreSQL follows the database's clock (:mod:`sluice.store.contact`), so that the times of all its
replicas are comparable however wrong the clock of a machine is (docs/decisions/0027).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple


class _Reference(NamedTuple):
    time: datetime
    at: float  # monotonic time


_reference: _Reference | None = None


def utc_now() -> datetime:
    """The current time, timezone-aware, in UTC, by the clock that is followed; by this machine's if there is none."""
    if _reference is None:
        return _wall_clock()
    return _reference.time + timedelta(seconds=time.monotonic() - _reference.at)


def follow(moment: datetime, *, at: float) -> timedelta:
    """Follow the clock that showed ``moment`` at monotonic time ``at``; returns how far this machine's is ahead of it.

    Time passes by the monotonic clock from there on, so that a step of the wall clock changes nothing.
    """
    global _reference
    _reference = _Reference(moment, at)
    return _wall_clock() - utc_now()


def _wall_clock() -> datetime:
    return datetime.now(UTC)
