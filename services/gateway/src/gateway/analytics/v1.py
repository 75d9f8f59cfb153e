"""``/v1/analytics``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from gateway.analytics import service
from gateway.analytics.answer import From, IntervalName, To
from gateway.analytics.v1_schemas import AnalyticsResponse, GroupBy, serialize
from gateway.dependencies import AnalyticsRead, ServicesDep
from gateway.kit.fields import Short
from gateway.kit.v1_errors import errors_of
from gateway.messages.service import providers_named
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from sluice.store.analytics import Filter

router = APIRouter(prefix="/v1/analytics", tags=["analytics"])


@router.get("", response_model=AnalyticsResponse, responses=errors_of())
async def get_analytics(
    principal: AnalyticsRead,
    services: ServicesDep,
    from_: From = None,
    to: To = None,
    interval: IntervalName = "auto",
    channel: Channel | None = None,
    provider: Annotated[Short | None, Query(description="The id, package or name.")] = None,
    tag: Annotated[Short | None, Query()] = None,
    group_by: Annotated[
        list[GroupBy], Query(max_length=3, description="Repeat it for several. `tag`: the 50 largest.")
    ] = [],  # noqa: B006  FastAPI copies it
) -> Response:
    """What became of the messages that were accepted in a range of time, by interval.

    The intervals are whole: they contain `from` and `to`. A test key gets the numbers of test messages.
    """
    filters = Filter(
        channels=None if channel is None else [channel.value],
        provider_ids=None if provider is None else providers_named(services, principal.scope, provider),
        tag=tag,
    )
    within = service.range_of(from_, to, service.INTERVALS[interval], now=utc_now())
    by = [each.grouping for each in group_by]
    found = await service.read(services, principal, within, filters, by)
    return Response(serialize(found, services.config), media_type="application/json")
