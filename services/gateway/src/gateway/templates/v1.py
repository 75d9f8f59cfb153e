"""``/v1/templates``."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from gateway.dependencies import ServicesDep, TemplatesRead, TemplatesWrite
from gateway.errors import TemplateChanged, TemplateNotFound, ValidationFailed
from gateway.kit.pagination import Page, PageDep
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.projects.v1_schemas import DeletedResponse
from gateway.templates import service
from gateway.templates.bodies import TemplateRoute
from gateway.templates.v1_schemas import (
    CreateTemplateRequest,
    PreviewRequest,
    PreviewResponse,
    PreviewSourcesRequest,
    PreviewSourcesResponse,
    TemplateResponse,
    TemplateSummaryResponse,
    TemplateVersionResponse,
    UpdateTemplateRequest,
    parts_of,
)
from sluice.model import ids
from sluice.model.template import TemplateKind
from sluice.store.templates import StoredTemplate, TemplateSummary, TemplateVersion

router = APIRouter(prefix="/v1/templates", tags=["templates"], route_class=TemplateRoute)

_MAX_VERSION = 2**31 - 1
_Version = Annotated[int | None, Query(ge=1, le=_MAX_VERSION, description="The current version by default.")]


@router.post("", status_code=201, responses=errors_of())
async def create_template(
    body: CreateTemplateRequest, request: Request, principal: TemplatesWrite, services: ServicesDep
) -> TemplateResponse:
    """Create a template. An error in a source has its `line` and `column`, from 1."""
    template = await service.create(
        services,
        principal,
        kind=body.kind,
        name=body.name,
        sources=body.sources,
        actor=services.accounts.access.actor(request, principal),
    )
    return _serialize(template)


@router.get("", responses=errors_of())
async def list_templates(
    principal: TemplatesRead, page: PageDep, services: ServicesDep, kind: TemplateKind | None = None
) -> Page[TemplateSummaryResponse]:
    """The templates of the project, newest first, without their sources."""
    rows = await service.list_templates(services, principal, kind=kind, limit=page.fetch, before=page.before)
    return page.page(rows, lambda row: row.id, _summary)


@router.post("/preview", responses=errors_of())
async def preview_template_sources(
    body: PreviewSourcesRequest, principal: TemplatesRead, services: ServicesDep
) -> PreviewSourcesResponse:
    """Check and render sources that are not saved."""
    parts, variables = await service.preview_sources(
        services, kind=body.kind, sources=body.sources, variables=body.variables
    )
    return PreviewSourcesResponse(**parts_of(parts), variables=list(variables))


@router.get("/{template_id}", responses=errors_of())
async def get_template(
    template_id: str, principal: TemplatesRead, services: ServicesDep, version: _Version = None
) -> TemplateResponse:
    """One template with its sources, in its current version or another one."""
    return _serialize(await service.find(services, principal, _id(template_id), version))


@router.patch("/{template_id}", responses=errors_of(TemplateChanged))
async def update_template(
    template_id: str, body: UpdateTemplateRequest, request: Request, principal: TemplatesWrite, services: ServicesDep
) -> TemplateResponse:
    """Change a template. Other sources make a new version; messages that are accepted already do not change."""
    template = await service.update(
        services,
        principal,
        _id(template_id),
        name=body.name,
        changes=body.changes,
        replaces_data="data" in body.model_fields_set,
        expected_version=body.version,
        actor=services.accounts.access.actor(request, principal),
    )
    return _serialize(template)


@router.delete("/{template_id}", responses=errors_of())
async def delete_template(
    template_id: str, request: Request, principal: TemplatesWrite, services: ServicesDep
) -> DeletedResponse:
    """Delete a template. Messages that are accepted already are sent."""
    found = _id(template_id)
    await service.delete(services, principal, found, services.accounts.access.actor(request, principal))
    return DeletedResponse(id=ids.encode_id("tpl", found))


@router.get("/{template_id}/versions", responses=errors_of())
async def list_template_versions(
    template_id: str, principal: TemplatesRead, page: PageDep, services: ServicesDep
) -> Page[TemplateVersionResponse]:
    """The versions of a template, newest first. `GET /v1/templates/{template_id}?version=` reads one."""
    before = None if page.before is None else page.before.int
    if before is not None and before > _MAX_VERSION:
        raise ValidationFailed("cursor: is not a cursor of this list", field="cursor")
    rows = await service.list_versions(services, principal, _id(template_id), limit=page.fetch, before=before)
    return page.page(rows, lambda row: UUID(int=row.version), _version)


@router.post("/{template_id}/preview", responses=errors_of())
async def preview_template(
    template_id: str, body: PreviewRequest, principal: TemplatesRead, services: ServicesDep
) -> PreviewResponse:
    """What a template yields with these variables, as a message would be made from it. Nothing is sent."""
    parts = await service.preview(services, principal, _id(template_id), version=body.version, variables=body.variables)
    return PreviewResponse(**parts_of(parts))


def _id(text: str) -> UUID:
    return read_id("tpl", text, TemplateNotFound(service.NO_TEMPLATE))


def _summary(template: TemplateSummary | StoredTemplate) -> TemplateSummaryResponse:
    return TemplateSummaryResponse(
        id=ids.encode_id("tpl", template.id),
        name=template.name,
        kind=template.kind,
        version=template.version,
        variables=list(template.variables),
        created_at=rfc3339(template.created_at),
        updated_at=rfc3339(template.updated_at),
    )


def _serialize(template: StoredTemplate) -> TemplateResponse:
    return TemplateResponse(**_summary(template).model_dump(), **parts_of(template.sources))


def _version(version: TemplateVersion) -> TemplateVersionResponse:
    return TemplateVersionResponse(
        version=version.version, variables=list(version.variables), created_at=rfc3339(version.created_at)
    )
