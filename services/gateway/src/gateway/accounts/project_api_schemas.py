"""The bodies of ``/auth`` of the project API."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from gateway.accounts.v1_schemas import Password
from gateway.auth.access_tokens import LIFETIME
from gateway.kit.camel_case import CamelRequest, CamelResponse
from gateway.kit.fields import BareAddress, Short, Timestamp


class SignUpRequest(CamelRequest):
    """A new account. The password has at least 12 characters."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "email": "ada@example.com",
                "password": "correct horse battery staple",
                "firstName": "Ada",
                "lastName": "Lovelace",
            }
        }
    )

    email: BareAddress
    password: Password
    first_name: Short
    last_name: Short


class SignInRequest(CamelRequest):
    """Address and password of a person."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"email": "ada@example.com", "password": "correct horse battery staple"}}
    )

    email: BareAddress
    password: Password


class RefreshRequest(CamelRequest):
    """The newest refresh token of a session."""

    model_config = ConfigDict(json_schema_extra={"example": {"refreshToken": "ref_…"}})

    refresh_token: Short


class UserResponse(CamelResponse):
    """A new account."""

    id: str
    email: str
    name: str
    created_at: Timestamp


class TokensResponse(CamelResponse):
    """The tokens of a session. ``expiresIn``: seconds for which the access token is valid."""

    access_token: str
    refresh_token: str = Field(description="Serves once: the answer to it has the next one.")
    expires_in: int = int(LIFETIME.total_seconds())


class DoneResponse(CamelResponse):
    """What was done."""

    message: str
