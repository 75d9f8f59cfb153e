"""The parts of the requests and answers about analytics that both APIs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import Query

from gateway.analytics.service import Analytics, Numbers
from gateway.kit.fields import Time
from gateway.kit.responses import rfc3339
from sluice.model.analytics import Count, Duration
from sluice.model.cost import in_currency

From = Annotated[Time | None, Query(alias="from", description="24 hours before `to` by default.")]
To = Annotated[Time | None, Query(description="Now by default.")]
IntervalName = Annotated[
    Literal["auto", "hour", "day"],
    Query(description="In UTC; `auto`: hours for a range of up to three days, and days otherwise."),
]


def answer_of(found: Analytics, group_of: Callable[[Numbers], dict[str, Any]]) -> dict[str, Any]:
    """The fields of an answer. ``group_of``: the fields that say which group numbers are of."""

    def fields(numbers: Numbers) -> dict[str, Any]:
        return group_of(numbers) | _values(numbers)

    return {
        "interval": found.within.interval.value,
        "from": rfc3339(found.within.first),
        "to": rfc3339(found.within.end),
        "totals": [fields(each) for each in found.totals],
        "data": [
            fields(each) | {"starts_at": rfc3339(each.group.starts_at)}
            for each in found.points
            if each.group.starts_at is not None
        ],
    }


def _values(numbers: Numbers) -> dict[str, Any]:
    durations = {name: None if found is None else found._asdict() for name, found in numbers.percentiles.items()}
    return {
        **{name.value: number for name, number in numbers.group.counts.items()},
        "failure_rate": numbers.failure_rate,
        "cost": in_currency(numbers.group.counts[Count.COST]),
        "cost_per_delivered": numbers.cost_per_delivered,
        "accept_to_sent_ms": durations[Duration.ACCEPT_TO_SENT],
        "sent_to_delivered_ms": durations[Duration.SENT_TO_DELIVERED],
    }
