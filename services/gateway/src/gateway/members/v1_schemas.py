"""The bodies of ``/v1/projects/{slug}/members`` and ``…/invitations``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.kit.fields import BareAddress, Timestamp
from gateway.kit.v1_roles import V1Role


class AddMemberRequest(BaseModel):
    """Who becomes a member."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"example": {"email": "ada@example.com", "role": "DEVELOPER"}},
    )

    email: BareAddress
    role: V1Role = V1Role.DEVELOPER


class UpdateMemberRequest(BaseModel):
    """The member's new role."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"example": {"role": "VIEWER"}})

    role: V1Role


class MemberResponse(BaseModel):
    """A member."""

    status: Literal["active"] = "active"
    user_id: str
    email: str
    name: str
    role: V1Role
    created_at: Timestamp


class InvitationResponse(BaseModel):
    """An invitation that waits for an answer."""

    status: Literal["invited"] = "invited"
    id: str
    email: str
    role: V1Role
    created_at: Timestamp
    expires_at: Timestamp


class InvitedResponse(InvitationResponse):
    """A new invitation. ``url``: its link, shown once, where no mail was sent."""

    url: str | None = Field(description="Null: the link was mailed.")


class RemovedMemberResponse(BaseModel):
    """A member was removed."""

    user_id: str
    deleted: bool = True
