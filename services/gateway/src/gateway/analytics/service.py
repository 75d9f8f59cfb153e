"""What became of the messages of a project, by interval, for every API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from gateway.auth.principal import Principal
from gateway.errors import ValidationFailed
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.model.analytics import Count, Duration, Histogram
from sluice.model.cost import in_currency
from sluice.store import analytics
from sluice.store.analytics import HOURS_KEPT, MAX_GROUPS, Filter, Group, Grouping, Interval, Range, TooManyGroupsError

DEFAULT_RANGE = timedelta(hours=24)
LONGEST = {Interval.HOUR: timedelta(days=14), Interval.DAY: timedelta(days=731)}
"""The longest range for each interval."""
INTERVALS: Mapping[str, Interval | None] = {"auto": None, **{interval.value: interval for interval in Interval}}
"""The intervals as requests name them; None: by the length of the range."""
_AUTO_HOURS = timedelta(days=3)  # without an interval, a range of up to this length is shown by the hour
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)  # nothing is older
_INSTANT = timedelta(microseconds=1)
_FRACTIONS = (0.5, 0.95, 0.99)


class Percentiles(NamedTuple):
    """Of durations, in milliseconds, each to 3.2 % or half a millisecond."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of a group. ``failure_rate``: None where nothing is settled; ``percentiles``: where none is known.

    ``cost_per_delivered``: in the project's currency; None where nothing is delivered, or a part of the cost unknown.
    """

    group: Group
    failure_rate: float | None
    cost_per_delivered: float | None
    percentiles: dict[Duration, Percentiles | None]


@dataclass(frozen=True, slots=True)
class Analytics:
    """The numbers of the whole range, and those of each interval, in order."""

    within: Range
    totals: list[Numbers]
    points: list[Numbers]


async def read(
    services: Services, principal: Principal, within: Range, filters: Filter, by: Sequence[Grouping]
) -> Analytics:
    """The numbers of the principal's messages: test messages for a test key, live messages otherwise.

    Raises:
        ValidationFailed: there are more groups than an answer may have.
        Unavailable: PostgreSQL does not answer.
    """
    scope = principal.scope
    try:
        async with transaction(services.pool, scope.project_id) as db:
            groups = await analytics.read(db, scope, within, filters, by)
    except TooManyGroupsError:
        raise ValidationFailed(
            f"from: the answer would have more than {MAX_GROUPS} rows: ask for a shorter range, for days, or for fewer "
            "groups",
            field="from",
        ) from None
    numbers = await asyncio.to_thread(lambda: [_numbers(group) for group in groups])
    return Analytics(
        within,
        [each for each in numbers if each.group.starts_at is None],
        [each for each in numbers if each.group.starts_at is not None],
    )


def _numbers(group: Group) -> Numbers:
    settled, delivered = group.counts[Count.SETTLED], group.counts[Count.DELIVERED]
    cost_is_known = not group.counts[Count.UNPRICED]
    return Numbers(
        group,
        round(group.counts[Count.FAILED] / settled, 6) if settled else None,
        in_currency(round(group.counts[Count.COST] / delivered)) if delivered and cost_is_known else None,
        {name: _percentiles(text) for name, text in group.histograms.items()},
    )


@lru_cache(maxsize=4096)  # an interval that has ended seldom changes, and each refresh of a page reads it again
def _percentiles(histogram: str) -> Percentiles | None:
    known = [value for value in Histogram.parse(histogram).quantiles(_FRACTIONS) if value is not None]
    return Percentiles(*known) if known else None


def range_of(since: datetime | None, until: datetime | None, interval: Interval | None, *, now: datetime) -> Range:
    """The intervals that contain the times from ``since`` to ``until``; of both, the last 24 hours by default.

    ``interval`` None: hours for up to three days, if they are kept, and days otherwise.

    Raises:
        ValidationFailed: the range ends before it begins, lies in the future, or is too long; hours are not kept that
            long. The field is named.
    """
    if since is not None and since > now:
        raise ValidationFailed("from: is in the future", field="from")
    if since is not None and until is not None and until <= since:
        raise ValidationFailed("to: must be after from", field="to")
    end = now if until is None else max(min(until, now), _EARLIEST).astimezone(UTC)
    first = end - DEFAULT_RANGE if since is None else max(since, _EARLIEST).astimezone(UTC)
    oldest_hour = Interval.DAY.start(now - HOURS_KEPT)
    if interval is None:
        by_hour = end - first <= _AUTO_HOURS and first >= oldest_hour
        interval = Interval.HOUR if by_hour else Interval.DAY
    if interval is Interval.HOUR and first < oldest_hour:
        raise ValidationFailed(f"from: hours are kept for {HOURS_KEPT.days} days: ask for interval=day", field="from")
    if end - first > LONGEST[interval]:
        raise ValidationFailed(
            f"from: the range may have at most {LONGEST[interval].days} days by the {interval}", field="from"
        )
    return Range(interval, interval.start(first), interval.start(end - _INSTANT) + interval.length)
