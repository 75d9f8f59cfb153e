"""``/v1/projects/{slug}/keys``."""

from __future__ import annotations

from fastapi import APIRouter, Request

from gateway.dependencies import KeysRead, KeysWrite, ServicesDep
from gateway.errors import LimitReached, NotFound
from gateway.keys import service
from gateway.keys.v1_schemas import CreatedKeyResponse, CreateKeyRequest, KeyResponse
from gateway.kit.json_route import JsonRoute
from gateway.kit.pagination import Page, PageDep
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.projects.v1_schemas import DeletedResponse
from sluice.model import ids
from sluice.store.api_keys import KeySummary

router = APIRouter(prefix="/v1/projects/{slug}/keys", tags=["keys"], route_class=JsonRoute)


@router.post("", status_code=201, responses=errors_of(LimitReached))
async def create_key(
    slug: str, body: CreateKeyRequest, request: Request, principal: KeysWrite, services: ServicesDep
) -> CreatedKeyResponse:
    """Create an API key. Its text is in this answer only."""
    actor = services.accounts.access.actor(request, principal)
    key, summary = await service.create(services, principal, name=body.name, is_test=body.test, actor=actor)
    return CreatedKeyResponse(**_serialize(summary).model_dump(), key=key)


@router.get("", responses=errors_of())
async def list_keys(slug: str, principal: KeysRead, page: PageDep, services: ServicesDep) -> Page[KeyResponse]:
    """The keys of the project, newest first."""
    rows = await service.list_keys(services, principal, limit=page.fetch, before=page.before)
    return page.page(rows, lambda row: row.id, _serialize)


@router.delete("/{key_id}", responses=errors_of())
async def revoke_key(
    slug: str, key_id: str, request: Request, principal: KeysWrite, services: ServicesDep
) -> DeletedResponse:
    """Revoke an API key; within a second no gateway accepts it."""
    found = read_id("key", key_id, NotFound(service.NO_KEY))
    await service.revoke(services, principal, found, services.accounts.access.actor(request, principal))
    return DeletedResponse(id=ids.encode_id("key", found))


def _serialize(key: KeySummary) -> KeyResponse:
    return KeyResponse(
        id=ids.encode_id("key", key.id),
        name=key.name,
        prefix=key.begins_with,
        test=key.is_test,
        active=key.is_active,
        created_by=None if key.created_by is None else ids.encode_id("usr", key.created_by),
        created_at=rfc3339(key.created_at),
    )
