"""``/v1/projects/{slug}/members`` and ``…/invitations``."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request

from gateway.dependencies import ProjectAdmin, ServicesDep
from gateway.errors import AlreadyMember, LastOwner, NotFound
from gateway.kit.json_route import JsonRoute
from gateway.kit.pagination import Page, PageDep
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.kit.v1_roles import v1_role
from gateway.members import service
from gateway.members.v1_schemas import (
    AddMemberRequest,
    InvitationResponse,
    InvitedResponse,
    MemberResponse,
    RemovedMemberResponse,
    UpdateMemberRequest,
)
from gateway.projects.v1_schemas import DeletedResponse
from sluice.model import ids
from sluice.store.memberships import Invitation, Member

router = APIRouter(prefix="/v1/projects/{slug}", tags=["members"], route_class=JsonRoute)


@router.get("/members", responses=errors_of())
async def list_members(
    slug: str, principal: ProjectAdmin, page: PageDep, services: ServicesDep
) -> Page[MemberResponse]:
    """The members of the project; those whose account is newest first."""
    rows = await service.list_members(services, principal, limit=page.fetch, before=page.before)
    return page.page(rows, lambda row: row.user_id, _member)


@router.post("/members", status_code=201, responses=errors_of(AlreadyMember))
async def add_member(
    slug: str, body: AddMemberRequest, request: Request, principal: ProjectAdmin, services: ServicesDep
) -> MemberResponse | InvitedResponse:
    """Make a person a member. One without an account gets an invitation by mail; a repeated one replaces it."""
    actor = services.accounts.access.actor(request, principal)
    added = await service.add(services, principal, body.email, body.role.role, actor)
    if isinstance(added, Member):
        return _member(added)
    return InvitedResponse(**_invitation(added.invitation).model_dump(), url=added.url)


@router.patch("/members/{user_id}", responses=errors_of(LastOwner))
async def update_member(
    slug: str, user_id: str, body: UpdateMemberRequest, request: Request, principal: ProjectAdmin, services: ServicesDep
) -> MemberResponse:
    """Change a member's role. It counts from the member's next request."""
    actor = services.accounts.access.actor(request, principal)
    return _member(await service.set_role(services, principal, _user(user_id), body.role.role, actor))


@router.delete("/members/{user_id}", responses=errors_of(LastOwner))
async def remove_member(
    slug: str, user_id: str, request: Request, principal: ProjectAdmin, services: ServicesDep
) -> RemovedMemberResponse:
    """Remove a member."""
    found = _user(user_id)
    await service.remove(services, principal, found, services.accounts.access.actor(request, principal))
    return RemovedMemberResponse(user_id=ids.encode_id("usr", found))


@router.get("/invitations", responses=errors_of())
async def list_invitations(
    slug: str, principal: ProjectAdmin, page: PageDep, services: ServicesDep
) -> Page[InvitationResponse]:
    """The invitations that wait for an answer, newest first."""
    rows = await service.list_invitations(services, principal, limit=page.fetch, before=page.before)
    return page.page(rows, lambda row: row.id, _invitation)


@router.delete("/invitations/{invitation_id}", responses=errors_of())
async def revoke_invitation(
    slug: str, invitation_id: str, request: Request, principal: ProjectAdmin, services: ServicesDep
) -> DeletedResponse:
    """Revoke an invitation."""
    found = read_id("inv", invitation_id, NotFound(service.NO_INVITATION))
    await service.revoke_invitation(services, principal, found, services.accounts.access.actor(request, principal))
    return DeletedResponse(id=ids.encode_id("inv", found))


def _user(text: str) -> UUID:
    return read_id("usr", text, NotFound(service.NO_MEMBER))


def _member(row: Member) -> MemberResponse:
    return MemberResponse(
        user_id=ids.encode_id("usr", row.user_id),
        email=row.email,
        name=row.name,
        role=v1_role(row.role),
        created_at=rfc3339(row.created_at),
    )


def _invitation(row: Invitation) -> InvitationResponse:
    return InvitationResponse(
        id=ids.encode_id("inv", row.id),
        email=row.email,
        role=v1_role(row.role),
        created_at=rfc3339(row.created_at),
        expires_at=rfc3339(row.expires_at),
    )
