"""Team and invitations of the project API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request

from gateway.accounts.project_api_schemas import DoneResponse
from gateway.dependencies import ServicesDep
from gateway.errors import AlreadyMember, LastOwner, NotFound
from gateway.kit.json_route import JsonRoute
from gateway.kit.numbered_pages import NumberedPage, NumberedPageDep
from gateway.kit.project_api_errors import errors_of
from gateway.kit.project_api_roles import held_role
from gateway.kit.public_ids import read_id
from gateway.kit.responses import rfc3339
from gateway.members import service
from gateway.members.project_api_schemas import (
    InvitationResponse,
    InvitedResponse,
    InviteRequest,
    MemberResponse,
)
from gateway.members.service import Invited
from gateway.project_dependencies import InvitationAdmin, Members, ProjectAdmin
from sluice.store.memberships import Invitation, Member

router = APIRouter(prefix="/projects", tags=["team"], route_class=JsonRoute)


@router.get("/{projectId}/team", responses=errors_of())
async def list_team(
    principal: ProjectAdmin, page: NumberedPageDep, services: ServicesDep
) -> NumberedPage[MemberResponse]:
    """The members of the project; those whose account is newest first."""
    rows, total = await service.page_of_members(services, principal, limit=page.limit, offset=page.offset)
    return page.page(rows, total, _member)


@router.post("/invite", status_code=201, responses=errors_of(AlreadyMember))
async def invite(body: InviteRequest, request: Request, principal: Members, services: ServicesDep) -> InvitedResponse:
    """Invite a person by mail. One with an account becomes a member at once.

    A repeated invitation replaces the one before.
    """
    actor = services.accounts.access.actor(request, principal)
    added = await service.add(services, principal, body.email, body.role.role, actor)
    if isinstance(added, Member):
        return InvitedResponse(message="Team member added successfully", member=_member(added))
    return _invited(added, "Invitation sent successfully")


@router.get("/{projectId}/invites", responses=errors_of())
async def list_invites(
    principal: ProjectAdmin, page: NumberedPageDep, services: ServicesDep
) -> NumberedPage[InvitationResponse]:
    """The invitations that wait for an answer, newest first."""
    rows, total = await service.page_of_invitations(services, principal, limit=page.limit, offset=page.offset)
    return page.page(rows, total, _invitation)


@router.post("/resend-invite/{inviteId}", responses=errors_of())
async def resend_invite(
    invite_id: Annotated[str, Path(alias="inviteId")],
    request: Request,
    principal: InvitationAdmin,
    services: ServicesDep,
) -> InvitedResponse:
    """Mail an invitation again, with another link and its whole lifetime; the link before ends."""
    found = read_id("inv", invite_id, NotFound(service.NO_INVITATION))
    actor = services.accounts.access.actor(request, principal)
    return _invited(
        await service.resend_invitation(services, principal, found, actor), "Invitation resent successfully"
    )


@router.delete("/{projectId}/members/{userId}", responses=errors_of(LastOwner))
async def remove_member(
    user_id: Annotated[str, Path(alias="userId")], request: Request, principal: ProjectAdmin, services: ServicesDep
) -> DoneResponse:
    """Remove a member. It counts from the member's next request."""
    found = read_id("usr", user_id, NotFound(service.NO_MEMBER))
    await service.remove(services, principal, found, services.accounts.access.actor(request, principal))
    return DoneResponse(message="Team member removed successfully")


def _invited(invited: Invited, message: str) -> InvitedResponse:
    return InvitedResponse(message=message, invite=_invitation(invited.invitation), url=invited.url)


def _member(row: Member) -> MemberResponse:
    return MemberResponse(
        user_id=str(row.user_id),
        email=row.email,
        name=row.name,
        role=held_role(row.role),
        created_at=rfc3339(row.created_at),
    )


def _invitation(row: Invitation) -> InvitationResponse:
    return InvitationResponse(
        id=str(row.id),
        email=row.email,
        role=held_role(row.role),
        created_at=rfc3339(row.created_at),
        expires_at=rfc3339(row.expires_at),
    )
