"""``/v1/projects``."""

from __future__ import annotations

from fastapi import APIRouter, Request

from gateway.auth.principal import KeyPrincipal, Principal
from gateway.dependencies import Person, ProjectAdmin, ProjectDelete, ProjectRead, ServicesDep
from gateway.errors import SlugTaken
from gateway.kit.json_route import JsonRoute
from gateway.kit.pagination import Page, PageDep
from gateway.kit.responses import project_id_text, rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.kit.v1_roles import v1_role
from gateway.projects import service
from gateway.projects.v1_schemas import (
    CreateProjectRequest,
    DeletedResponse,
    ProjectResponse,
    Routing,
    UpdateProjectRequest,
)
from sluice.model.roles import Role
from sluice.store.projects import Project

router = APIRouter(prefix="/v1/projects", tags=["projects"], route_class=JsonRoute)


@router.post("", status_code=201, responses=errors_of(SlugTaken))
async def create_project(
    body: CreateProjectRequest, request: Request, person: Person, services: ServicesDep
) -> ProjectResponse:
    """Create a project. The person becomes its first `ADMIN`."""
    actor = services.accounts.access.actor(request, person)
    project = await service.create(services, person, name=body.name, slug=body.slug, actor=actor)
    return _serialize(project, Role.OWNER)


@router.get("", responses=errors_of())
async def list_projects(person: Person, page: PageDep, services: ServicesDep) -> Page[ProjectResponse]:
    """The projects of which the person is a member, newest first."""
    roles = {role.project_id: role.role for role in person.roles}
    rows = await service.list_of_person(services, person, limit=page.fetch, before=page.before)
    return page.page(rows, lambda row: row.id, lambda row: _serialize(row, roles[row.id]))


@router.get("/{slug}", responses=errors_of())
async def get_project(slug: str, principal: ProjectRead, services: ServicesDep) -> ProjectResponse:
    """One project."""
    return _serialize(await service.find(services, principal), _role(principal))


@router.patch("/{slug}", responses=errors_of(SlugTaken))
async def update_project(
    slug: str, body: UpdateProjectRequest, request: Request, principal: ProjectAdmin, services: ServicesDep
) -> ProjectResponse:
    """Change a project's settings."""
    actor = services.accounts.access.actor(request, principal)
    changes = body.model_dump(exclude_unset=True, exclude={"routing"})
    if "routing" in body.model_fields_set:
        changes["routing_policy"] = (body.routing or Routing()).policy
    updated = await service.update(services, principal, changes, actor)
    return _serialize(updated, _role(principal))


@router.delete("/{slug}", responses=errors_of())
async def delete_project(
    slug: str, request: Request, principal: ProjectDelete, services: ServicesDep
) -> DeletedResponse:
    """Delete a project with its keys, providers, members and invitations; nothing more is sent for it.

    Its messages stay in the database until their retention ends, and no request reads them.
    """
    await service.delete(services, principal, services.accounts.access.actor(request, principal))
    return DeletedResponse(id=project_id_text(principal.project_id))


def _role(principal: Principal) -> Role | None:
    return None if isinstance(principal, KeyPrincipal) else principal.role


def _serialize(project: Project, role: Role | None) -> ProjectResponse:
    return ProjectResponse(
        id=project_id_text(project.id),
        slug=project.slug,
        name=project.name,
        default_sender=project.default_sender,
        verified_senders_only=project.verified_senders_only,
        routing=Routing(policy=project.routing_policy),
        role=None if role is None else v1_role(role),
        created_at=rfc3339(project.created_at),
    )
