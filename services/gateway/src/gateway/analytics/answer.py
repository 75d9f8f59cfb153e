"""The parts of the requests and answers about analytics that both APIs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import orjson
from fastapi import Query

from gateway.analytics.service import Analytics, Numbers
from gateway.kit.fields import Time
from gateway.kit.responses import rfc3339
from sluice.model.analytics import Count, Duration
from sluice.model.cost import in_currency
from sluice.store.analytics import Group

From = Annotated[Time | None, Query(alias="from", description="24 hours before `to` by default.")]
To = Annotated[Time | None, Query(description="Now by default.")]
IntervalName = Annotated[
    Literal["auto", "hour", "day"],
    Query(description="In UTC; `auto`: hours for a range of up to three days, and days otherwise."),
]


class _Names:
    """The names of the fields, as an API writes them."""

    def __init__(self, named: Callable[[str], str]) -> None:
        self.counts = [(count, named(count.value)) for count in Count if count is not Count.COST]
        self.durations = [(duration, named(f"{duration.value}_ms")) for duration in Duration]
        self.failure_rate, self.cost = named("failure_rate"), named("cost")
        self.cost_per_delivered, self.starts_at = named("cost_per_delivered"), named("starts_at")


def encode_answer(
    found: Analytics, group_of: Callable[[Group], dict[str, Any]], *, named: Callable[[str], str] = str
) -> bytes:
    """An answer as JSON. ``group_of``: the fields that say of which group numbers are; ``named``: names as written.

    An answer may have thousands of rows. It is written without a model, whose validation took twice as long as all
    the rest; the tests compare answers with the model, which is that of the document.
    """
    names = _Names(named)
    return orjson.dumps(
        {
            "interval": found.within.interval.value,
            "from": rfc3339(found.within.first),
            "to": rfc3339(found.within.end),
            "totals": [_row(numbers, group_of(numbers.group), names) for numbers in found.totals],
            "data": [_row(numbers, group_of(numbers.group), names) for numbers in found.points],
        }
    )


def _row(numbers: Numbers, fields: dict[str, Any], names: _Names) -> dict[str, Any]:
    """``fields`` with the numbers."""
    group = numbers.group
    for count, name in names.counts:
        fields[name] = group.counts[count]
    fields[names.failure_rate] = numbers.failure_rate
    fields[names.cost] = in_currency(group.counts[Count.COST])
    fields[names.cost_per_delivered] = numbers.cost_per_delivered
    for duration, name in names.durations:
        percentiles = numbers.percentiles[duration]
        fields[name] = None if percentiles is None else percentiles._asdict()
    if group.starts_at is not None:
        fields[names.starts_at] = rfc3339(group.starts_at)
    return fields
