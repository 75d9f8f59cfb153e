"""``/v1/suppressions``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AfterValidator

from gateway.dependencies import ServicesDep, SuppressionsRead, SuppressionsWrite
from gateway.errors import NotFound, ValidationFailed
from gateway.kit.fields import Time, one_line
from gateway.kit.json_route import JsonRoute
from gateway.kit.pagination import Page, PageDep
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.projects.v1_schemas import DeletedResponse
from gateway.suppressions import service
from gateway.suppressions.v1_schemas import (
    AddedSuppressionsResponse,
    AddSuppressionsRequest,
    RemovedSuppressionsResponse,
    SourceResponse,
    SuppressionResponse,
)
from sluice.model import ids
from sluice.model.message import Channel
from sluice.model.suppression import MAX_ADDRESS, SuppressionReason, known_address
from sluice.store.suppressions import Filter, Suppression

router = APIRouter(prefix="/v1/suppressions", tags=["suppressions"], route_class=JsonRoute)

_Text = Annotated[str | None, Query(max_length=MAX_ADDRESS), AfterValidator(lambda text: text and one_line(text))]
_TimeFilter = Annotated[Time | None, Query()]


def _filters(
    channel: Channel | None = None,
    address: _Text = None,
    reason: SuppressionReason | None = None,
    provider: _Text = None,
    since: _TimeFilter = None,
    until: _TimeFilter = None,
) -> Filter:
    if address is not None and channel is None:
        raise ValidationFailed("channel: is required with address", field="channel")
    provider_id = None
    if provider is not None:
        try:
            provider_id = ids.decode_id("prv", provider)
        except ids.InvalidIdError as error:
            raise ValidationFailed(f"provider: {error}", field="provider") from None
    key = address if address is None or channel is None else known_address(channel, address)
    if address is not None and key is None:
        raise ValidationFailed("address: is not an address of this channel", field="address")
    return Filter(channel, key, reason, provider_id, since, until)


FilterDep = Annotated[Filter, Depends(_filters)]


@router.post("", status_code=201, responses=errors_of())
async def add_suppressions(
    body: AddSuppressionsRequest, request: Request, principal: SuppressionsWrite, services: ServicesDep
) -> AddedSuppressionsResponse:
    """Suppress addresses: messages to them fail with reason `suppressed`, and no provider is called."""
    rows, added = await service.add(
        services,
        principal,
        channel=body.channel,
        addresses=body.addresses,
        reason=body.reason,
        detail=body.detail,
        actor=services.accounts.access.actor(request, principal),
    )
    return AddedSuppressionsResponse(added=added, data=[_serialize(row) for row in rows])


@router.get("", responses=errors_of())
async def list_suppressions(
    principal: SuppressionsRead, filters: FilterDep, page: PageDep, services: ServicesDep
) -> Page[SuppressionResponse]:
    """The suppressed addresses of the project, newest first. `since` is included, `until` is not."""
    rows = await service.list_suppressions(services, principal, filters, limit=page.fetch, before=page.before)
    return page.page(rows, lambda row: row.id, _serialize)


@router.delete("", responses=errors_of())
async def remove_suppressions(
    request: Request, principal: SuppressionsWrite, filters: FilterDep, services: ServicesDep
) -> RemovedSuppressionsResponse:
    """Remove all suppressions that match; at least one filter is required.

    After an incident of a provider that reported wrong bounces: its `provider`, `reason=hard_bounce`, `since` and
    `until`.
    """
    actor = services.accounts.access.actor(request, principal)
    return RemovedSuppressionsResponse(removed=await service.remove_matching(services, principal, filters, actor))


@router.get("/{suppression_id}", responses=errors_of())
async def get_suppression(
    suppression_id: str, principal: SuppressionsRead, services: ServicesDep
) -> SuppressionResponse:
    """One suppression with its source."""
    found = read_id("sup", suppression_id, NotFound(service.NO_SUPPRESSION))
    return _serialize(await service.find(services, principal, found))


@router.delete("/{suppression_id}", responses=errors_of())
async def remove_suppression(
    suppression_id: str, request: Request, principal: SuppressionsWrite, services: ServicesDep
) -> DeletedResponse:
    """Remove one suppression: messages to the address are sent again."""
    found = read_id("sup", suppression_id, NotFound(service.NO_SUPPRESSION))
    await service.remove(services, principal, found, services.accounts.access.actor(request, principal))
    return DeletedResponse(id=ids.encode_id("sup", found))


def _serialize(row: Suppression) -> SuppressionResponse:
    event = row.delivery_id is not None and row.event_sequence is not None
    source = SourceResponse(
        message_id=None if row.message_id is None else ids.encode_id("msg", row.message_id),
        event_id=f"{ids.encode_id('evt', row.delivery_id)}_{row.event_sequence}" if event and row.delivery_id else None,
        provider_id=None if row.provider_id is None else ids.encode_id("prv", row.provider_id),
    )
    return SuppressionResponse(
        id=ids.encode_id("sup", row.id),
        channel=row.channel,
        address=row.address,
        reason=row.reason,
        detail=row.detail,
        source=None if row.delivery_id is None and row.provider_id is None else source,
        created_at=rfc3339(row.created_at),
    )
