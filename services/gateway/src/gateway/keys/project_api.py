"""``/projects/{projectId}/api-keys`` of the project API."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Request

from gateway.accounts.project_api_schemas import DoneResponse
from gateway.dependencies import ServicesDep
from gateway.errors import LimitReached, NotFound
from gateway.keys import service
from gateway.keys.project_api_schemas import CreatedKeyResponse, CreateKeyRequest, KeyResponse, UpdateKeyRequest
from gateway.kit.json_route import JsonRoute
from gateway.kit.numbered_pages import NumberedPage, NumberedPageDep
from gateway.kit.project_api_errors import errors_of
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.project_dependencies import KeysRead, KeysWrite
from sluice.store.api_keys import PROJECT_API, KeySummary

router = APIRouter(prefix="/projects/{projectId}/api-keys", tags=["keys"], route_class=JsonRoute)

_KeyId = Annotated[str, Path(alias="keyId")]


@router.post("", status_code=201, responses=errors_of(LimitReached))
async def create_key(
    body: CreateKeyRequest, request: Request, principal: KeysWrite, services: ServicesDep
) -> CreatedKeyResponse:
    """Create an API key. Its text is in this answer only."""
    actor = services.accounts.access.actor(request, principal)
    key, summary = await service.create(
        services, principal, name=body.name, is_test=False, actor=actor, head=PROJECT_API
    )
    return CreatedKeyResponse(message="API key created successfully", id=str(summary.id), key=key)


@router.get("", responses=errors_of())
async def list_keys(principal: KeysRead, page: NumberedPageDep, services: ServicesDep) -> NumberedPage[KeyResponse]:
    """The keys of the project, newest first, also those of `/v1`."""
    rows, total = await service.page_of_keys(services, principal, limit=page.limit, offset=page.offset)
    return page.page(rows, total, _serialize)


@router.put("/{keyId}", responses=errors_of())
async def update_key(
    key_id: _KeyId, body: UpdateKeyRequest, request: Request, principal: KeysWrite, services: ServicesDep
) -> KeyResponse:
    """Rename a key, or change whether it is accepted; it counts within a second."""
    actor = services.accounts.access.actor(request, principal)
    updated = await service.update(
        services, principal, _read(key_id), name=body.name, is_active=body.is_active, actor=actor
    )
    return _serialize(updated)


@router.delete("/{keyId}", responses=errors_of())
async def revoke_key(key_id: _KeyId, request: Request, principal: KeysWrite, services: ServicesDep) -> DoneResponse:
    """Revoke a key for good; within a second no gateway accepts it."""
    await service.revoke(services, principal, _read(key_id), services.accounts.access.actor(request, principal))
    return DoneResponse(message="API key deleted successfully")


def _read(key_id: str) -> UUID:
    return read_id("key", key_id, NotFound(service.NO_KEY))


def _serialize(key: KeySummary) -> KeyResponse:
    return KeyResponse(
        id=str(key.id),
        name=key.name,
        prefix=key.begins_with,
        is_active=key.is_active,
        is_test=key.is_test,
        created_by=None if key.created_by is None else str(key.created_by),
        created_at=rfc3339(key.created_at),
    )
