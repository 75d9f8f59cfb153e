"""The bodies of ``/v1/analytics``."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.analytics.answer import encode_answer
from gateway.analytics.service import Analytics
from gateway.kit.fields import Timestamp
from gateway.kit.provider_reference import ProviderReference, provider_reference
from sluice.model.message import Channel
from sluice.store.analytics import Group, Grouping
from sluice.store.config_cache import ConfigCache


class GroupBy(StrEnum):
    """What the numbers are divided by."""

    CHANNEL = "channel"
    PROVIDER = "provider"
    TAG = "tag"

    @property
    def grouping(self) -> Grouping:
        """As the store names it."""
        return Grouping[self.name]


class PercentilesResponse(BaseModel):
    """Of durations in milliseconds, each to 3.2 % or half a millisecond."""

    model_config = ConfigDict(frozen=True)

    p50: float
    p95: float
    p99: float


class NumbersResponse(BaseModel):
    """What became of the messages of a group. What the request does not group by is null.

    ``provider`` is also null for messages that no provider was tried for. ``failure_rate``: failed by settled.
    """

    model_config = ConfigDict(frozen=True)

    channel: Channel | None
    provider: ProviderReference | None
    tag: str | None
    settled: int = Field(description="Have ended, or were handed to a provider; cancelled ones are not counted.")
    sent: int = Field(description="A provider accepted them.")
    delivered: int = Field(description="Arrived, and did not bounce afterwards.")
    failed: int = Field(description="Ended `FAILED` or `EXPIRED`.")
    unconfirmed: int = Field(description="Ended without an answer of the provider.")
    bounced: int = Field(description="`BOUNCED` or `SOFT_BOUNCE`.")
    complained: int
    opened: int = Field(description="Opened or read at least once.")
    clicked: int = Field(description="With at least one click.")
    failovers: int = Field(description="Attempts that were followed by one at another provider.")
    failure_rate: float | None
    cost: float = Field(
        description="Of the attempts that providers accepted, at their prices then, in the currency of the prices."
    )
    unpriced: int = Field(description="Such attempts at providers without a price: they are not in the cost.")
    cost_per_delivered: float | None = Field(description="Null where nothing is delivered, or attempts are unpriced.")
    accept_to_sent_ms: PercentilesResponse | None
    sent_to_delivered_ms: PercentilesResponse | None


class PointResponse(NumbersResponse):
    """The numbers of the interval that begins at ``starts_at``."""

    starts_at: Timestamp


_NUMBERS: dict[str, Any] = {
    **{"channel": None, "provider": {"id": "prv_01k9z2q7m3e8r9v1x5b6c7d8e9", "name": "mailgun eu"}, "tag": None},
    **{"settled": 1203, "sent": 1200, "delivered": 1180, "failed": 3, "unconfirmed": 0, "bounced": 12},
    **{"complained": 1, "opened": 640, "clicked": 87, "failovers": 2, "failure_rate": 0.002494},
    **{"cost": 0.48, "unpriced": 0, "cost_per_delivered": 0.000407},
    "accept_to_sent_ms": {"p50": 47.5, "p95": 135.5, "p99": 311.5},
    "sent_to_delivered_ms": {"p50": 2111.5, "p95": 6399.5, "p99": 17407.5},
}


class AnalyticsResponse(BaseModel):
    """The numbers of a range of intervals. Groups and intervals without any are omitted.

    ``totals``: of the whole range, for each group; percentiles of a range are no average of those in ``data``.
    """

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "example": {
                "interval": "hour",
                "from": "2026-11-28T09:00:00.000Z",
                "to": "2026-11-28T10:00:00.000Z",
                "totals": [_NUMBERS],
                "data": [_NUMBERS | {"starts_at": "2026-11-28T09:00:00.000Z"}],
            }
        },
    )

    interval: Literal["hour", "day"]
    from_: Timestamp = Field(alias="from", description="The beginning of the first interval.")
    to: Timestamp = Field(description="The end of the last interval.")
    totals: list[NumbersResponse]
    data: list[PointResponse]


def serialize(found: Analytics, config: ConfigCache) -> bytes:
    """The numbers as ``/v1`` shows them: the JSON of an :class:`AnalyticsResponse`."""
    providers = cache(lambda provider_id: provider_reference(provider_id, config).model_dump())

    def group_of(group: Group) -> dict[str, Any]:
        provider = None if group.provider_id is None else providers(group.provider_id)
        return {"channel": group.channel, "provider": provider, "tag": group.tag}

    return encode_answer(found, group_of)
