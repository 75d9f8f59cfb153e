"""``/v1/audit``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel

from gateway.audit import service
from gateway.dependencies import AuditRead, ServicesDep
from gateway.kit.actor import ActorResponse, actor_response
from gateway.kit.fields import Timestamp, one_line
from gateway.kit.json_route import JsonRoute
from gateway.kit.pagination import Page, PageDep
from gateway.kit.responses import rfc3339
from gateway.kit.v1_errors import errors_of
from sluice.model import ids
from sluice.store.audit import AuditEntry

router = APIRouter(prefix="/v1/audit", tags=["audit"], route_class=JsonRoute)

_Filter = Annotated[str | None, Query(max_length=100), AfterValidator(lambda text: text and one_line(text))]


class AuditEntryResponse(BaseModel):
    """One change. ``changes``: the fields that changed, without secrets; ``address``: the client's."""

    id: str
    actor: ActorResponse
    action: str
    noun: str
    object_id: str
    changes: dict[str, Any]
    address: str | None
    created_at: Timestamp


@router.get("", responses=errors_of())
async def list_audit_entries(
    principal: AuditRead, page: PageDep, services: ServicesDep, noun: _Filter = None, object_id: _Filter = None
) -> Page[AuditEntryResponse]:
    """Who changed what in the project, newest first: its settings, members, keys and whatever else is configured."""
    rows = await service.list_entries(
        services, principal, noun=noun, object_id=object_id, limit=page.fetch, before=page.before
    )
    return page.page(rows, lambda row: row.id, _serialize)


def _serialize(entry: AuditEntry) -> AuditEntryResponse:
    return AuditEntryResponse(
        id=ids.encode_id("aud", entry.id),
        actor=actor_response(entry.actor_kind, entry.actor_id, entry.actor_name),
        action=entry.action,
        noun=entry.noun,
        object_id=entry.object_id,
        changes=dict(entry.changes),
        address=entry.address,
        created_at=rfc3339(entry.occurred_at),
    )
