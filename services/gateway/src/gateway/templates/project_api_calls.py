"""What the routes of the three nouns do: the service, by the names of fields that the project API has."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

from fastapi import Request

from gateway.auth.principal import Principal
from gateway.errors import TemplateNotFound
from gateway.kit.field_names import renamed_fields
from gateway.kit.numbered_pages import NumberedPage, NumberedPageRequest
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.services import Services
from gateway.templates import service
from gateway.templates.project_api_schemas import (
    FIELDS,
    CreateTemplateRequest,
    PreviewRequest,
    TemplateSummaryResponse,
    UpdateTemplateRequest,
    fields_of,
)
from sluice.model.template import TemplateKind
from sluice.store.templates import StoredTemplate, TemplateSummary


async def create(
    services: Services, principal: Principal, request: Request, body: CreateTemplateRequest
) -> dict[str, Any]:
    """The fields of a new template.

    Raises:
        ValidationFailed: a source is not a template, or there is none.
        Unavailable: PostgreSQL does not answer.
    """
    with _own_names(body.kind):
        template = await service.create(
            services,
            principal,
            kind=body.kind,
            name=body.name,
            sources=body.sources,
            actor=services.accounts.access.actor(request, principal),
        )
    return _fields(template)


async def read(services: Services, principal: Principal, template_id: str, kind: TemplateKind) -> dict[str, Any]:
    """The fields of a template.

    Raises:
        TemplateNotFound: the project has no such template of this kind.
        Unavailable: PostgreSQL does not answer.
    """
    return _fields(await service.find(services, principal, _id(template_id), kind=kind))


async def update(
    services: Services, principal: Principal, request: Request, template_id: str, body: UpdateTemplateRequest
) -> dict[str, Any]:
    """The fields of a template that the request changes.

    Raises:
        TemplateNotFound: the project has no such template of this kind.
        TemplateChanged: another request changed it at the same moment.
        ValidationFailed: a source is not a template, or there is none left.
        Unavailable: PostgreSQL does not answer.
    """
    with _own_names(body.kind):
        template = await service.update(
            services,
            principal,
            _id(template_id),
            name=body.name,
            changes=body.changes,
            replaces_data="data" in body.model_fields_set,
            kind=body.kind,
            actor=services.accounts.access.actor(request, principal),
        )
    return _fields(template)


async def delete(
    services: Services, principal: Principal, request: Request, template_id: str, kind: TemplateKind
) -> None:
    """Delete a template.

    Raises:
        TemplateNotFound: the project has no such template of this kind.
        Unavailable: PostgreSQL does not answer.
    """
    actor = services.accounts.access.actor(request, principal)
    await service.delete(services, principal, _id(template_id), actor, kind=kind)


async def preview(services: Services, principal: Principal, body: PreviewRequest, kind: TemplateKind) -> dict[str, Any]:
    """What each field of a template yields; None: the template has none.

    Raises:
        TemplateNotFound: the project has no such template of this kind.
        ValidationFailed: the limits are exceeded.
        Unavailable: PostgreSQL does not answer, or too many expensive templates wait.
    """
    return fields_of(
        kind, await service.preview(services, principal, body.template_id, kind=kind, variables=body.variables)
    )


async def list_page(
    services: Services, projects: Sequence[UUID], kind: TemplateKind, page: NumberedPageRequest
) -> NumberedPage[TemplateSummaryResponse]:
    """A page of the templates of some projects.

    Raises:
        Unavailable: PostgreSQL does not answer.
    """
    rows, total = await service.page_of_templates(services, projects, kind=kind, limit=page.limit, offset=page.offset)
    return page.page(rows, total, lambda row: TemplateSummaryResponse(**_summary(row)))


def _id(text: str) -> UUID:
    return read_id("tpl", text, TemplateNotFound(service.NO_TEMPLATE))


def _own_names(kind: TemplateKind) -> AbstractContextManager[None]:
    """Errors of a part of a template name the field that it is here."""
    return renamed_fields({part: field for field, part in FIELDS[kind].items()})


def _summary(template: StoredTemplate | TemplateSummary) -> dict[str, Any]:
    return {
        "id": template.id,
        "name": template.name,
        "project_id": template.project_id,
        "variables": list(template.variables),
        "created_at": rfc3339(template.created_at),
        "updated_at": rfc3339(template.updated_at),
    }


def _fields(template: StoredTemplate) -> dict[str, Any]:
    return _summary(template) | fields_of(template.kind, template.sources)
