"""``/analytics``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from gateway.analytics import service
from gateway.analytics.answer import From, IntervalName, To
from gateway.analytics.project_api_schemas import AnalyticsResponse, serialize
from gateway.dependencies import ServicesDep
from gateway.kit.message_type import MessageType
from gateway.kit.project_api_errors import errors_of
from gateway.project_dependencies import AnalyticsRead
from sluice.runtime.clock import utc_now
from sluice.store.analytics import Filter, Grouping

router = APIRouter(prefix="/analytics", tags=["analytics"])


@router.get("", response_model=AnalyticsResponse, responses=errors_of())
async def get_analytics(
    principal: AnalyticsRead,
    services: ServicesDep,
    message_type: Annotated[MessageType | None, Query(alias="messageType")] = None,
    from_: From = None,
    to: To = None,
    interval: IntervalName = "auto",
) -> Response:
    """What became of the messages that were accepted in a range of time, by interval, channel and provider.

    The intervals are whole: they contain `from` and `to`.
    """
    within = service.range_of(from_, to, service.INTERVALS[interval], now=utc_now())
    filters = Filter(channels=None if message_type is None else message_type.channels)
    by = [Grouping.CHANNEL, Grouping.PROVIDER]
    found = await service.read(services, principal, within, filters, by)
    return Response(serialize(found, services.config), media_type="application/json")
