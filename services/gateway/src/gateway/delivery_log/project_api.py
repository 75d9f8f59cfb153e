"""``/delivery-log``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from gateway.delivery_log import service
from gateway.delivery_log.project_api_schemas import (
    AttemptResponse,
    LogEntryResponse,
    LogEntryWithAttempts,
    LogMeta,
    LogPageResponse,
)
from gateway.dependencies import ServicesDep
from gateway.kit.fields import Time
from gateway.kit.message_type import TYPE_OF, MessageType
from gateway.kit.numbered_pages import NumberedPageDep
from gateway.kit.project_api_errors import errors_of
from gateway.kit.provider_reference import provider_name
from gateway.kit.responses import rfc3339
from gateway.project_dependencies import DeliveryRead, MessagesRead
from sluice.model.ids import min_id_at
from sluice.store.config_cache import ConfigCache
from sluice.store.delivery_log import WINDOW, Attempt, LogEntry, LogFilters, LogStatus

router = APIRouter(prefix="/delivery-log", tags=["delivery log"])


def _filters(
    message_type: Annotated[MessageType | None, Query(alias="messageType")] = None,
    status: LogStatus | None = None,
    since: Annotated[Time | None, Query(alias="from", description="Accepted at this time or later.")] = None,
    until: Annotated[Time | None, Query(alias="to", description="Accepted before this time.")] = None,
) -> LogFilters:
    return LogFilters(
        channels=None if message_type is None else message_type.channels,
        status=status,
        **({} if since is None else {"first": min_id_at(since)}),
        **({} if until is None else {"end": min_id_at(until)}),
    )


@router.get(
    "",
    responses=errors_of(),
    description=f"The deliveries of the newest {WINDOW:,} messages that fit the filters, newest first. `from` and `to` "
    "move this window to older ones.",
)
async def list_delivery_log(
    principal: MessagesRead,
    services: ServicesDep,
    page: NumberedPageDep,
    filters: Annotated[LogFilters, Depends(_filters)],
) -> LogPageResponse:
    """See ``description``."""
    found = await service.list_entries(services, principal, filters, offset=page.offset, limit=page.limit)
    numbered = page.page(found.entries, found.total, lambda entry: _entry(entry, services.config))
    return LogPageResponse(
        data=numbered.data, meta=LogMeta(**numbered.meta.model_dump(), total_is_exact=found.is_exact)
    )


@router.get("/{deliveryId}", responses=errors_of())
async def get_delivery_log_entry(
    delivery_id: Annotated[str, Path(alias="deliveryId")], principal: DeliveryRead, services: ServicesDep
) -> LogEntryWithAttempts:
    """One delivery with its attempts."""
    entry, attempts = await service.find_entry(services, principal, delivery_id)
    return LogEntryWithAttempts(
        **_fields(entry, services.config), attempts=[_attempt(one, services.config) for one in attempts]
    )


def _entry(entry: LogEntry, config: ConfigCache) -> LogEntryResponse:
    return LogEntryResponse(**_fields(entry, config))


def _fields(entry: LogEntry, config: ConfigCache) -> dict[str, Any]:
    return {
        "id": str(entry.id),
        "message_id": str(entry.message_id),
        "message_type": TYPE_OF[entry.channel],
        "channel": entry.channel,
        "recipient": entry.recipient,
        "status": entry.status,
        "provider": None if entry.provider_id is None else provider_name(entry.provider_id, config),
        "template_id": None if entry.template_id is None else str(entry.template_id),
        "project_id": str(entry.project_id),
        "error": entry.error or None,
        "created_at": rfc3339(entry.created_at),
    }


def _attempt(attempt: Attempt, config: ConfigCache) -> AttemptResponse:
    finished = attempt.finished_at
    return AttemptResponse(
        **asdict(attempt)
        | {
            "provider": provider_name(attempt.provider_id, config),
            "error": attempt.error or None,
            "started_at": rfc3339(attempt.started_at),
            "finished_at": None if finished is None else rfc3339(finished),
        }
    )
