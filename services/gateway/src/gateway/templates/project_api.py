"""``/templates``, ``/message-templates`` and ``/push-templates``: the three kinds of one noun."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from gateway.dependencies import ServicesDep
from gateway.errors import TemplateChanged, TemplateNotFound
from gateway.kit.numbered_pages import NumberedPage, NumberedPageDep
from gateway.kit.project_api_errors import errors_of
from gateway.project_dependencies import (
    TemplateRead,
    TemplatesRead,
    TemplatesReadInPath,
    TemplatesReadInProjects,
    TemplatesWrite,
    TemplateWrite,
)
from gateway.templates import project_api_calls as calls
from gateway.templates.bodies import TemplateRoute
from gateway.templates.html_route import HtmlRoute, html_or_json, request_body
from gateway.templates.project_api_schemas import (
    CreateEmailTemplateRequest,
    CreateMessageTemplateRequest,
    CreatePushTemplateRequest,
    EmailPreviewResponse,
    EmailTemplateCreatedResponse,
    EmailTemplateResponse,
    MessagePreviewResponse,
    MessageTemplateCreatedResponse,
    MessageTemplateResponse,
    PreviewRequest,
    PushPreviewResponse,
    PushTemplateCreatedResponse,
    PushTemplateResponse,
    TemplateDeletedResponse,
    TemplateSummaryResponse,
    TemplateVariablesResponse,
    UpdateEmailTemplateRequest,
    UpdateMessageTemplateRequest,
    UpdatePushTemplateRequest,
)
from sluice.model.template import TemplateKind

emails = APIRouter(prefix="/templates", tags=["e-mail templates"], route_class=TemplateRoute)
email_sources = APIRouter(prefix="/templates", tags=["e-mail templates"], route_class=HtmlRoute)
texts = APIRouter(prefix="/message-templates", tags=["message templates"], route_class=TemplateRoute)
pushes = APIRouter(prefix="/push-templates", tags=["push templates"], route_class=TemplateRoute)

_EXAMPLE = "<h1>Welcome {{firstName}}!</h1>"
_CreateEmail = Annotated[CreateEmailTemplateRequest, Depends(html_or_json(CreateEmailTemplateRequest))]
_UpdateEmail = Annotated[UpdateEmailTemplateRequest, Depends(html_or_json(UpdateEmailTemplateRequest))]


@email_sources.post(
    "", status_code=201, responses=errors_of(), openapi_extra=request_body(CreateEmailTemplateRequest, _EXAMPLE)
)
async def create_email_template(
    principal: TemplatesWrite, body: _CreateEmail, request: Request, services: ServicesDep
) -> EmailTemplateCreatedResponse:
    """Create an e-mail template: a body of HTML with `name` and `subject` in the query, or JSON.

    Without a subject, every message from the template has to bring its own. The error of a source names the line and
    column, from 1.
    """
    return EmailTemplateCreatedResponse(**await calls.create(services, principal, request, body))


@emails.post("/preview", responses=errors_of(TemplateNotFound))
async def preview_email_template(
    body: PreviewRequest, principal: TemplatesRead, services: ServicesDep
) -> EmailPreviewResponse:
    """The HTML that a message would have with these variables. Nothing is sent."""
    parts = await calls.preview(services, principal, body, TemplateKind.EMAIL)
    return EmailPreviewResponse(preview=parts["text"] if parts["html"] is None else parts["html"])


@emails.get("/{templateId}", responses=errors_of(TemplateNotFound))
async def get_email_template(templateId: str, principal: TemplateRead, services: ServicesDep) -> EmailTemplateResponse:
    """One e-mail template with its sources."""
    return EmailTemplateResponse(**await calls.read(services, principal, templateId, TemplateKind.EMAIL))


@email_sources.put(
    "/{templateId}",
    responses=errors_of(TemplateNotFound, TemplateChanged),
    openapi_extra=request_body(UpdateEmailTemplateRequest, _EXAMPLE),
)
async def update_email_template(
    templateId: str, principal: TemplateWrite, body: _UpdateEmail, request: Request, services: ServicesDep
) -> EmailTemplateResponse:
    """Change an e-mail template: its HTML with `name` and `subject` in the query, or any fields as JSON.

    Messages that are accepted already do not change.
    """
    return EmailTemplateResponse(**await calls.update(services, principal, request, templateId, body))


@texts.post("", status_code=201, responses=errors_of())
async def create_message_template(
    body: CreateMessageTemplateRequest, request: Request, principal: TemplatesWrite, services: ServicesDep
) -> MessageTemplateCreatedResponse:
    """Create a template of an SMS or of a message of WhatsApp, Telegram or Signal."""
    return MessageTemplateCreatedResponse(**await calls.create(services, principal, request, body))


@texts.post("/preview", responses=errors_of(TemplateNotFound))
async def preview_message_template(
    body: PreviewRequest, principal: TemplatesRead, services: ServicesDep
) -> MessagePreviewResponse:
    """The text that a message would have with these variables. Nothing is sent."""
    parts = await calls.preview(services, principal, body, TemplateKind.TEXT)
    return MessagePreviewResponse(rendered_message=parts["body"])


@texts.get("/{templateId}", responses=errors_of(TemplateNotFound))
async def get_message_template(
    templateId: str, principal: TemplateRead, services: ServicesDep
) -> MessageTemplateResponse:
    """One message template."""
    return MessageTemplateResponse(**await calls.read(services, principal, templateId, TemplateKind.TEXT))


@texts.put("/{templateId}", responses=errors_of(TemplateNotFound, TemplateChanged))
async def update_message_template(
    templateId: str,
    body: UpdateMessageTemplateRequest,
    request: Request,
    principal: TemplateWrite,
    services: ServicesDep,
) -> MessageTemplateResponse:
    """Change a message template. Messages that are accepted already do not change."""
    return MessageTemplateResponse(**await calls.update(services, principal, request, templateId, body))


@pushes.post("", status_code=201, responses=errors_of())
async def create_push_template(
    body: CreatePushTemplateRequest, request: Request, principal: TemplatesWrite, services: ServicesDep
) -> PushTemplateCreatedResponse:
    """Create a template of a push notification."""
    return PushTemplateCreatedResponse(**await calls.create(services, principal, request, body))


@pushes.post("/preview", responses=errors_of(TemplateNotFound))
async def preview_push_template(
    body: PreviewRequest, principal: TemplatesRead, services: ServicesDep
) -> PushPreviewResponse:
    """The notification that a message would be with these variables. Nothing is sent."""
    return PushPreviewResponse(**await calls.preview(services, principal, body, TemplateKind.PUSH))


@pushes.get("/{templateId}", responses=errors_of(TemplateNotFound))
async def get_push_template(templateId: str, principal: TemplateRead, services: ServicesDep) -> PushTemplateResponse:
    """One push template."""
    return PushTemplateResponse(**await calls.read(services, principal, templateId, TemplateKind.PUSH))


@pushes.put("/{templateId}", responses=errors_of(TemplateNotFound, TemplateChanged))
async def update_push_template(
    templateId: str, body: UpdatePushTemplateRequest, request: Request, principal: TemplateWrite, services: ServicesDep
) -> PushTemplateResponse:
    """Change a push template. Messages that are accepted already do not change."""
    return PushTemplateResponse(**await calls.update(services, principal, request, templateId, body))


def _add_lists(router: APIRouter, kind: TemplateKind, noun: str) -> None:
    @router.get("", responses=errors_of(), name=f"list_{noun}_templates")
    async def list_templates(
        projects: TemplatesReadInProjects, page: NumberedPageDep, services: ServicesDep
    ) -> NumberedPage[TemplateSummaryResponse]:
        """The templates, newest first, without their sources: of one project, or of all of the person."""
        return await calls.list_page(services, projects, kind, page)

    @router.get("/project/{projectId}", responses=errors_of(), name=f"list_{noun}_templates_of_project")
    async def list_templates_of_project(
        principal: TemplatesReadInPath, page: NumberedPageDep, services: ServicesDep
    ) -> NumberedPage[TemplateSummaryResponse]:
        """The templates of a project, newest first, without their sources."""
        return await calls.list_page(services, [principal.project_id], kind, page)


def _add_variables_and_delete(router: APIRouter, kind: TemplateKind, noun: str, variables_path: str) -> None:
    @router.get(variables_path, responses=errors_of(TemplateNotFound), name=f"list_{noun}_template_variables")
    async def list_variables(
        templateId: str, principal: TemplateRead, services: ServicesDep
    ) -> TemplateVariablesResponse:
        """The variables that the template reads."""
        found = await calls.read(services, principal, templateId, kind)
        return TemplateVariablesResponse(variables=found["variables"])

    @router.delete("/{templateId}", responses=errors_of(TemplateNotFound), name=f"delete_{noun}_template")
    async def delete_template(
        templateId: str, request: Request, principal: TemplateWrite, services: ServicesDep
    ) -> TemplateDeletedResponse:
        """Delete the template. Messages that are accepted already are sent."""
        await calls.delete(services, principal, request, templateId, kind)
        return TemplateDeletedResponse()


for _router, _kind, _noun, _variables_path in (
    (emails, TemplateKind.EMAIL, "email", "/variables/{templateId}"),
    (texts, TemplateKind.TEXT, "message", "/{templateId}/variables"),
    (pushes, TemplateKind.PUSH, "push", "/{templateId}/variables"),
):
    _add_lists(_router, _kind, _noun)
    _add_variables_and_delete(_router, _kind, _noun, _variables_path)

routers = (email_sources, emails, texts, pushes)
