"""``/v1/auth``: login, sessions, the person's own account."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from gateway.accounts import service
from gateway.accounts.client import ClientDep
from gateway.accounts.service import Login
from gateway.accounts.v1_schemas import (
    AcceptInvitationRequest,
    ChangePasswordRequest,
    DoneResponse,
    LoginRequest,
    LoginResponse,
    MeResponse,
    NewPasswordRequest,
    PasswordResetRequest,
    ProjectRoleResponse,
    SessionResponse,
    TokenLoginRequest,
    UpdateMeRequest,
    UserResponse,
)
from gateway.dependencies import Person, ServicesDep
from gateway.errors import NotFound, TooManyRequests
from gateway.kit.json_route import JsonRoute
from gateway.kit.pagination import Page, PageDep
from gateway.kit.public_ids import read_id
from gateway.kit.responses import project_id_text, rfc3339
from gateway.kit.v1_errors import errors_of
from gateway.kit.v1_roles import v1_role
from gateway.services import Services
from sluice.model import ids
from sluice.store.sessions import Session, SessionRow

router = APIRouter(prefix="/v1/auth", tags=["auth"], route_class=JsonRoute)

_SET_COOKIE: dict[str, Any] = {
    "headers": {
        "Set-Cookie": {"schema": {"type": "string"}, "description": "The session, where a cookie was asked for"}
    }
}
_LOGIN_RESPONSES = errors_of(TooManyRequests) | {200: _SET_COOKIE}


def _answer(login: Login, request: Request, response: Response, services: Services, *, cookie: bool) -> LoginResponse:
    if cookie:
        services.accounts.access.set_cookie(response, login.token)
    user = UserResponse(id=ids.encode_id("usr", login.user.id), email=login.user.email, name=login.user.name)
    return LoginResponse(token=None if cookie else login.token, expires_at=rfc3339(login.expires_at), user=user)


def _check_origin(services: Services, request: Request, *, cookie: bool) -> None:
    """Another page must not log the browser in as another user."""
    if cookie:
        services.accounts.access.require_same_origin(request)


@router.post("/login", responses=_LOGIN_RESPONSES)
async def log_in(
    body: LoginRequest, request: Request, response: Response, client: ClientDep, services: ServicesDep
) -> LoginResponse:
    """Log in. The session lasts seven days, or twelve hours without a request."""
    _check_origin(services, request, cookie=body.cookie)
    login = await service.log_in(services, body.email, body.password, client)
    return _answer(login, request, response, services, cookie=body.cookie)


@router.post("/setup", responses=_LOGIN_RESPONSES)
async def use_setup_link(
    body: TokenLoginRequest, request: Request, response: Response, client: ClientDep, services: ServicesDep
) -> LoginResponse:
    """Log in once with the token of `sluice setup-link`, and set a password. Setting one ends all other sessions."""
    _check_origin(services, request, cookie=body.cookie)
    login = await service.use_setup_link(services, body.token, body.password, client)
    return _answer(login, request, response, services, cookie=body.cookie)


@router.post("/password/forgot", status_code=202, responses=errors_of(TooManyRequests))
async def request_password_reset(body: PasswordResetRequest, client: ClientDep, services: ServicesDep) -> DoneResponse:
    """Mail a link for a new password. The answer is the same for unknown addresses.

    Without a mail server, `sluice user reset-password` prints the link.
    """
    await service.request_password_reset(services, body.email, client)
    return DoneResponse()


@router.post("/password/reset", responses=_LOGIN_RESPONSES)
async def reset_password(
    body: NewPasswordRequest, request: Request, response: Response, client: ClientDep, services: ServicesDep
) -> LoginResponse:
    """Set a new password with the token of a mail, and log in. All other sessions end."""
    _check_origin(services, request, cookie=body.cookie)
    login = await service.reset_password(services, body.token, body.password, client)
    return _answer(login, request, response, services, cookie=body.cookie)


@router.post("/invitations/accept", responses=_LOGIN_RESPONSES)
async def accept_invitation(
    body: AcceptInvitationRequest, request: Request, response: Response, client: ClientDep, services: ServicesDep
) -> LoginResponse:
    """Become a member of a project, and log in."""
    _check_origin(services, request, cookie=body.cookie)
    login = await service.accept_invitation(services, body.token, body.name, body.password, client)
    return _answer(login, request, response, services, cookie=body.cookie)


@router.post("/logout", responses=errors_of() | {200: _SET_COOKIE})
async def log_out(request: Request, response: Response, person: Person, services: ServicesDep) -> DoneResponse:
    """End this session."""
    await service.end_session(services, person, person.id, services.accounts.access.actor(request, person))
    if services.accounts.access.cookie_name in request.cookies:
        services.accounts.access.delete_cookie(response)
    return DoneResponse()


@router.get("/me", responses=errors_of())
async def get_me(person: Person) -> MeResponse:
    """The person of the session, with its projects and roles."""
    return _me(person, person.name)


def _me(person: Session, name: str) -> MeResponse:
    projects = [
        ProjectRoleResponse(id=project_id_text(role.project_id), slug=role.slug, role=v1_role(role.role))
        for role in sorted(person.roles, key=lambda role: role.slug)
    ]
    return MeResponse(
        id=ids.encode_id("usr", person.user_id),
        email=person.email,
        name=name,
        session_id=ids.encode_id("sid", person.id),
        session_expires_at=rfc3339(person.expires_at),
        projects=projects,
    )


@router.patch("/me", responses=errors_of())
async def update_me(body: UpdateMeRequest, request: Request, person: Person, services: ServicesDep) -> MeResponse:
    """Change the person's name."""
    await service.change_name(services, person, body.name, services.accounts.access.actor(request, person))
    return _me(person, body.name)


@router.post("/password", responses=errors_of(TooManyRequests))
async def change_password(
    body: ChangePasswordRequest, request: Request, person: Person, services: ServicesDep
) -> DoneResponse:
    """Change the person's password. All other sessions end."""
    actor = services.accounts.access.actor(request, person)
    await service.change_password(services, person, body.current_password, body.new_password, actor)
    return DoneResponse()


@router.get("/sessions", responses=errors_of())
async def list_sessions(person: Person, page: PageDep, services: ServicesDep) -> Page[SessionResponse]:
    """The person's sessions, newest first."""
    rows = await service.list_sessions(services, person, limit=page.fetch, before=page.before)
    return page.page(rows, lambda row: row.id, lambda row: _session(row, person))


def _session(row: SessionRow, person: Session) -> SessionResponse:
    return SessionResponse(
        id=ids.encode_id("sid", row.id),
        current=row.id == person.id,
        address=row.address,
        user_agent=row.user_agent,
        created_at=rfc3339(row.created_at),
        last_used_at=rfc3339(row.last_used_at),
        expires_at=rfc3339(row.expires_at),
    )


@router.delete("/sessions", responses=errors_of())
async def end_other_sessions(request: Request, person: Person, services: ServicesDep) -> DoneResponse:
    """End all of the person's sessions except this one."""
    await service.end_other_sessions(services, person, services.accounts.access.actor(request, person))
    return DoneResponse()


@router.delete("/sessions/{session_id}", responses=errors_of())
async def end_session(session_id: str, request: Request, person: Person, services: ServicesDep) -> DoneResponse:
    """End one of the person's sessions."""
    actor = services.accounts.access.actor(request, person)
    await service.end_session(
        services, person, read_id("sid", session_id, NotFound("You have no such session.")), actor
    )
    return DoneResponse()
