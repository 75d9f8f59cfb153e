"""``/projects`` of the project API."""

from __future__ import annotations

from fastapi import APIRouter, Request

from gateway.accounts.project_api_schemas import DoneResponse
from gateway.dependencies import ServicesDep
from gateway.kit.json_route import JsonRoute
from gateway.kit.numbered_pages import NumberedPage, NumberedPageDep
from gateway.kit.project_api_errors import errors_of
from gateway.kit.project_api_roles import held_role
from gateway.kit.responses import rfc3339
from gateway.project_dependencies import Person, ProjectDelete
from gateway.projects import service
from gateway.projects.project_api_schemas import CreateProjectRequest, OwnProjectResponse, ProjectResponse

router = APIRouter(prefix="/projects", tags=["projects"], route_class=JsonRoute)


@router.post("", status_code=201, responses=errors_of())
async def create_project(
    body: CreateProjectRequest, request: Request, person: Person, services: ServicesDep
) -> ProjectResponse:
    """Create a project. The person becomes its owner."""
    actor = services.accounts.access.actor(request, person)
    project = await service.create_named(services, person, body.name, actor)
    return ProjectResponse(id=str(project.id), name=project.name, created_at=rfc3339(project.created_at))


@router.get("", responses=errors_of())
async def list_projects(
    person: Person, page: NumberedPageDep, services: ServicesDep
) -> NumberedPage[OwnProjectResponse]:
    """The projects of which the person is a member, newest first."""
    roles = {role.project_id: held_role(role.role) for role in person.roles}
    rows = await service.list_of_person(services, person, limit=page.limit, offset=page.offset)
    return page.page(
        rows,
        len(roles),
        lambda row: OwnProjectResponse(
            id=str(row.id), name=row.name, created_at=rfc3339(row.created_at), role=roles[row.id]
        ),
    )


@router.delete("/{projectId}", responses=errors_of())
async def delete_project(request: Request, principal: ProjectDelete, services: ServicesDep) -> DoneResponse:
    """Delete a project with its keys, providers, members and invitations; its owner only. Nothing more is sent for it.

    Its messages stay in the database until their retention ends, and no request reads them.
    """
    await service.delete(services, principal, services.accounts.access.actor(request, principal))
    return DoneResponse(message="Project deleted successfully")
