"""``/auth`` of the project API."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request

from gateway.accounts import service
from gateway.accounts.client import ClientDep
from gateway.accounts.project_api_schemas import (
    DoneResponse,
    RefreshRequest,
    SignInRequest,
    SignUpRequest,
    TokensResponse,
    UserResponse,
)
from gateway.auth.access_tokens import AccessClaims
from gateway.dependencies import ServicesDep
from gateway.errors import AccountExists
from gateway.kit.json_route import JsonRoute
from gateway.kit.project_api_errors import errors_of
from gateway.kit.responses import rfc3339
from gateway.project_dependencies import Person
from gateway.services import Services
from sluice.runtime.clock import utc_now
from sluice.store.secret_tokens import REFRESH

router = APIRouter(prefix="/auth", tags=["auth"], route_class=JsonRoute)


@router.post("/signup", status_code=201, responses=errors_of(AccountExists))
async def sign_up(body: SignUpRequest, client: ClientDep, services: ServicesDep) -> UserResponse:
    """Create an account. An installation may be closed to it, and then answers 403."""
    name = f"{body.first_name} {body.last_name}"
    user = await service.sign_up(services, body.email, body.password, name, client)
    return UserResponse(id=str(user.id), email=user.email, name=user.name, created_at=rfc3339(user.created_at))


@router.post("/signin", responses=errors_of())
async def sign_in(body: SignInRequest, client: ClientDep, services: ServicesDep) -> TokensResponse:
    """Sign in. The session lasts seven days, or twelve hours without a request."""
    login = await service.log_in(services, body.email, body.password, client, token_prefix=REFRESH)
    return _tokens(services, login.token, login.user.id, login.session_id)


@router.post("/refresh", responses=errors_of())
async def refresh_tokens(body: RefreshRequest, client: ClientDep, services: ServicesDep) -> TokensResponse:
    """Exchange a refresh token for the next tokens. One that was exchanged before ends the session."""
    token, session_id, user_id = await service.refresh(services, body.refresh_token, client)
    return _tokens(services, token, user_id, session_id)


@router.post("/signout", responses=errors_of())
async def sign_out(request: Request, person: Person, services: ServicesDep) -> DoneResponse:
    """End the session of the access token; none of its tokens is accepted any more."""
    await service.end_session(services, person, person.id, services.accounts.access.actor(request, person))
    return DoneResponse(message="Signed out successfully")


def _tokens(services: Services, refresh_token: str, user_id: UUID, session_id: UUID) -> TokensResponse:
    access_token = services.accounts.access_tokens.issue(AccessClaims(user_id, session_id), now=utc_now())
    return TokensResponse(access_token=access_token, refresh_token=refresh_token)
