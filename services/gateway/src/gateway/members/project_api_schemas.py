"""The bodies of the team and the invitations of the project API."""

from __future__ import annotations

from pydantic import ConfigDict

from gateway.kit.camel_case import CamelRequest, CamelResponse, Id
from gateway.kit.fields import BareAddress, Timestamp
from gateway.kit.project_api_roles import GivenRole, HeldRole


class InviteRequest(CamelRequest):
    """Who becomes a member of which project."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "email": "grace@example.com",
                "projectId": "0198f1e2-7c00-7000-8000-000000000001",
                "role": "team_member",
            }
        }
    )

    email: BareAddress
    project_id: Id
    role: GivenRole = GivenRole.TEAM_MEMBER


class MemberResponse(CamelResponse):
    """A member of a project."""

    user_id: str
    email: str
    name: str
    role: HeldRole
    created_at: Timestamp


class InvitationResponse(CamelResponse):
    """An invitation that was not accepted yet."""

    id: str
    email: str
    role: HeldRole
    created_at: Timestamp
    expires_at: Timestamp


class InvitedResponse(CamelResponse):
    """What became of an invitation: a person with an account is a member at once (``member``).

    ``url``: the link of the invitation, only where no mail was sent, for the inviting person to pass on.
    """

    message: str
    invite: InvitationResponse | None = None
    member: MemberResponse | None = None
    url: str | None = None
