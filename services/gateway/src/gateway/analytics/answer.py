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


def encode_answer(
    found: Analytics,
    group_of: Callable[[Group], dict[str, Any]],
    *,
    named: Callable[[str], str] = str,
) -> bytes:
    """An answer as JSON. ``group_of``: the fields that say of which group numbers are; ``named``: names as written.

    An answer may have thousands of rows. It is written without a model, whose validation took twice as long as all
    the rest; the tests compare answers with the model, which is that of the document.
    """
    counts = [(count, named(count.value)) for count in Count if count is not Count.COST]
    durations = [(name, named(f"{name.value}_ms")) for name in Duration]
    failure_rate, cost, cost_per_delivered, starts_at = map(
        named, ("failure_rate", "cost", "cost_per_delivered", "starts_at")
    )

    def row(numbers: Numbers) -> dict[str, Any]:
        group = numbers.group
        fields = group_of(group)
        for count, name in counts:
            fields[name] = group.counts[count]
        fields[failure_rate] = numbers.failure_rate
        fields[cost] = in_currency(group.counts[Count.COST])
        fields[cost_per_delivered] = numbers.cost_per_delivered
        for duration, name in durations:
            percentiles = numbers.percentiles[duration]
            fields[name] = None if percentiles is None else percentiles._asdict()
        if group.starts_at is not None:
            fields[starts_at] = rfc3339(group.starts_at)
        return fields

    return orjson.dumps(
        {
            "interval": found.within.interval.value,
            "from": rfc3339(found.within.first),
            "to": rfc3339(found.within.end),
            "totals": [row(numbers) for numbers in found.totals],
            "data": [row(numbers) for numbers in found.points],
        }
    )
