"""The bodies of ``/analytics``."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from gateway.analytics.answer import encode_answer
from gateway.analytics.service import Analytics
from gateway.kit.camel_case import CamelResponse
from gateway.kit.fields import Timestamp
from gateway.kit.message_type import TYPE_OF, MessageType
from gateway.kit.provider_reference import provider_reference
from sluice.model.message import Channel
from sluice.store.analytics import Group
from sluice.store.config_cache import ConfigCache


class PercentilesResponse(CamelResponse):
    """Of durations in milliseconds, each to 3.2 % or half a millisecond."""

    p50: float
    p95: float
    p99: float


class NumbersResponse(CamelResponse):
    """What became of the messages of a channel and a provider.

    ``provider``, its name, and ``provider_id`` are null for messages that no provider was tried for.
    ``failure_rate``: failed by settled.
    """

    message_type: MessageType
    channel: Channel
    provider_id: str | None
    provider: str | None
    settled: int = Field(description="Have ended, or were handed to a provider; cancelled ones are not counted.")
    sent: int = Field(description="A provider accepted them.")
    delivered: int = Field(description="Arrived, and did not bounce afterwards.")
    failed: int = Field(description="Every provider failed, or they expired.")
    unconfirmed: int = Field(description="Ended without an answer of the provider.")
    bounced: int
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
    **{"messageType": "email", "channel": "email", "providerId": "01937b1a-0c5e-7d3b-9c55-2f0d6a1b7e44"},
    **{"provider": "Primary SendGrid", "settled": 1203, "sent": 1200, "delivered": 1180, "failed": 3},
    **{"unconfirmed": 0, "bounced": 12, "complained": 1, "opened": 640, "clicked": 87, "failovers": 2},
    **{"failureRate": 0.002494, "cost": 0.48, "unpriced": 0, "costPerDelivered": 0.000407},
    **{"acceptToSentMs": {"p50": 47.5, "p95": 135.5, "p99": 311.5}},
    "sentToDeliveredMs": {"p50": 2111.5, "p95": 6399.5, "p99": 17407.5},
}


class AnalyticsResponse(CamelResponse):
    """The numbers of a range of intervals. Intervals without any are omitted.

    ``totals``: of the whole range; percentiles of a range are no average of those in ``data``.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra={
            "example": {
                "interval": "hour",
                "from": "2026-11-28T09:00:00.000Z",
                "to": "2026-11-28T10:00:00.000Z",
                "totals": [_NUMBERS],
                "data": [_NUMBERS | {"startsAt": "2026-11-28T09:00:00.000Z"}],
            }
        },
    )

    interval: Literal["hour", "day"]
    from_: Timestamp = Field(alias="from", description="The beginning of the first interval.")
    to: Timestamp = Field(description="The end of the last interval.")
    totals: list[NumbersResponse]
    data: list[PointResponse]


def serialize(found: Analytics, config: ConfigCache) -> bytes:
    """The numbers as the project API shows them, by channel and provider: the JSON of an :class:`AnalyticsResponse`."""
    names = cache(lambda provider_id: provider_reference(provider_id, config).name)

    def group_of(group: Group) -> dict[str, Any]:
        assert group.channel is not None  # it is grouped by
        provider_id = group.provider_id
        return {
            "messageType": TYPE_OF[Channel(group.channel)],
            "channel": group.channel,
            "providerId": None if provider_id is None else str(provider_id),
            "provider": None if provider_id is None else names(provider_id),
        }

    return encode_answer(found, group_of, named=to_camel)
