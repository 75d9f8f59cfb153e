"""The bodies of ``/v1/auth``."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.kit.fields import BareAddress, Short, Timestamp, storable

Password = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(storable)]
"""A password; how long a new one has to be, the service checks."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _LoginBody(_Body):
    cookie: bool = Field(
        False, description="Set the session as a cookie that scripts cannot read, instead of returning it."
    )


class LoginRequest(_LoginBody):
    """Address and password of a person."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"email": "ada@example.com", "password": "correct horse battery staple"}}
    )

    email: BareAddress
    password: Password


class TokenLoginRequest(_LoginBody):
    """A set-up link, and the first password if it is to be set."""

    model_config = ConfigDict(json_schema_extra={"example": {"token": "lnk_…", "password": "a new long password"}})

    token: Short
    password: Password | None = None


class PasswordResetRequest(_Body):
    """Whose password was forgotten."""

    model_config = ConfigDict(json_schema_extra={"example": {"email": "ada@example.com"}})

    email: BareAddress


class NewPasswordRequest(_LoginBody):
    """The token of a mail, and the new password."""

    model_config = ConfigDict(json_schema_extra={"example": {"token": "lnk_…", "password": "a new long password"}})

    token: Short
    password: Password


class AcceptInvitationRequest(_LoginBody):
    """The token of an invitation. A new person chooses a password, one with an account gives its own."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"token": "inv_…", "name": "Ada", "password": "a new long password"}}
    )

    token: Short
    password: Password
    name: Short | None = None


class ChangePasswordRequest(_Body):
    """The password of now and the next one."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"current_password": "the old password", "new_password": "a new long password"}}
    )

    current_password: Password
    new_password: Password


class UpdateMeRequest(_Body):
    """What a person changes of its own account."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "Ada"}})

    name: Short


class UserResponse(BaseModel):
    """A person."""

    id: str
    email: str
    name: str


class LoginResponse(BaseModel):
    """A new session. ``token``: null where it was set as a cookie."""

    token: str | None
    expires_at: Timestamp
    user: UserResponse


class ProjectRoleResponse(BaseModel):
    """A role of the person."""

    id: str
    slug: str
    role: str


class MeResponse(UserResponse):
    """The person of the session, with its projects."""

    session_id: str
    session_expires_at: Timestamp
    projects: list[ProjectRoleResponse]


class SessionResponse(BaseModel):
    """A session. ``last_used_at`` is exact to a minute; ``current``: the one of this request."""

    id: str
    current: bool
    address: str | None
    user_agent: str | None
    created_at: Timestamp
    last_used_at: Timestamp
    expires_at: Timestamp


class DoneResponse(BaseModel):
    """The request was carried out."""

    ok: bool = True
