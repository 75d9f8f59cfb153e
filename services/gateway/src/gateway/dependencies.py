"""Dependencies in the signatures of routes: the services, a principal with a permission, a person."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Query, Request, Security
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPBearer, SecurityScopes
from fastapi.security.http import HTTPAuthorizationCredentials

from gateway.auth.access import COOKIE, MODE_HEADER, PROJECT_HEADER
from gateway.auth.permissions import Permission
from gateway.auth.principal import Principal, require
from gateway.services import Services
from sluice.store.sessions import Session


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]

# These document the credentials in OpenAPI; Access reads them.
_Key = Annotated[str | None, Security(APIKeyHeader(name="X-SendPipe-Key", scheme_name="projectKey", auto_error=False))]
_Bearer = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(HTTPBearer(scheme_name="session", bearerFormat="ses_…", auto_error=False)),
]
_Cookie = Annotated[str | None, Security(APIKeyCookie(name=COOKIE, scheme_name="sessionCookie", auto_error=False))]
_Project = Annotated[
    str | None, Header(alias=PROJECT_HEADER, description="With a session: the slug of the project. A key has its own.")
]
_ProjectQuery = Annotated[str | None, Query(description=f"The same as `{PROJECT_HEADER}`.")]
_Mode = Annotated[
    str | None,
    Header(alias=MODE_HEADER, description="With a session: `live` (default) or `test`. A key has its own."),
]
_ModeQuery = Annotated[str | None, Query(description=f"The same as `{MODE_HEADER}`.")]


async def authorize(
    needed: SecurityScopes,
    request: Request,
    services: ServicesDep,
    key: _Key,
    bearer: _Bearer,
    cookie: _Cookie,
    project_header: _Project = None,
    project: _ProjectQuery = None,
    mode_header: _Mode = None,
    mode: _ModeQuery = None,
) -> Principal:
    """The principal of the request in its project, which has every permission that the route names.

    Raises:
        Unauthorized: the request has no valid credentials.
        Forbidden: a permission is missing.
        NotFound: a person has no role in the project, or a key belongs to another one.
        TooManyRequests: the organization of the project has no request left.
    """
    return await _authorize(needed, request, services)


async def authorize_in_path(
    needed: SecurityScopes, request: Request, services: ServicesDep, key: _Key, bearer: _Bearer, cookie: _Cookie
) -> Principal:
    """As :func:`authorize`, in the project whose slug is in the path.

    Raises:
        Unauthorized: the request has no valid credentials.
        Forbidden: a permission is missing.
        NotFound: a person has no role in the project, or a key belongs to another one.
        TooManyRequests: the organization of the project has no request left.
    """
    return await _authorize(needed, request, services)


async def _authorize(needed: SecurityScopes, request: Request, services: Services) -> Principal:
    principal = await services.accounts.access.principal(request)
    await services.rate_limits.spend_project(principal.project_id)
    for permission in needed.scopes:
        require(principal, Permission(permission))
    return principal


async def authenticate_person(request: Request, services: ServicesDep, bearer: _Bearer, cookie: _Cookie) -> Session:
    """The session of the person who sends the request; the route acts on the person's own account.

    Raises:
        Unauthorized: there is no valid session.
        Forbidden: the request has an API key.
    """
    return await services.accounts.access.session(request)


Person = Annotated[Session, Depends(authenticate_person)]


MessagesRead = Annotated[Principal, Security(authorize, scopes=[Permission.MESSAGES_READ])]
MessagesSend = Annotated[Principal, Security(authorize, scopes=[Permission.MESSAGES_SEND])]
MessagesCancel = Annotated[Principal, Security(authorize, scopes=[Permission.MESSAGES_CANCEL])]
ProvidersRead = Annotated[Principal, Security(authorize, scopes=[Permission.PROVIDERS_READ])]
ProvidersWrite = Annotated[Principal, Security(authorize, scopes=[Permission.PROVIDERS_WRITE])]
DomainsRead = Annotated[Principal, Security(authorize, scopes=[Permission.DOMAINS_READ])]
DomainsWrite = Annotated[Principal, Security(authorize, scopes=[Permission.DOMAINS_WRITE])]
TemplatesRead = Annotated[Principal, Security(authorize, scopes=[Permission.TEMPLATES_READ])]
TemplatesWrite = Annotated[Principal, Security(authorize, scopes=[Permission.TEMPLATES_WRITE])]
SuppressionsRead = Annotated[Principal, Security(authorize, scopes=[Permission.SUPPRESSIONS_READ])]
SuppressionsWrite = Annotated[Principal, Security(authorize, scopes=[Permission.SUPPRESSIONS_WRITE])]
WebhooksRead = Annotated[Principal, Security(authorize, scopes=[Permission.WEBHOOKS_READ])]
WebhooksWrite = Annotated[Principal, Security(authorize, scopes=[Permission.WEBHOOKS_WRITE])]
EventsRead = Annotated[Principal, Security(authorize, scopes=[Permission.EVENTS_READ])]
RoutingRead = Annotated[Principal, Security(authorize, scopes=[Permission.ROUTING_READ])]
AuditRead = Annotated[Principal, Security(authorize, scopes=[Permission.AUDIT_READ])]
ProjectRead = Annotated[Principal, Security(authorize_in_path, scopes=[Permission.PROJECT_READ])]
ProjectAdmin = Annotated[Principal, Security(authorize_in_path, scopes=[Permission.PROJECT_ADMIN])]
ProjectDelete = Annotated[Principal, Security(authorize_in_path, scopes=[Permission.PROJECT_DELETE])]
KeysRead = Annotated[Principal, Security(authorize_in_path, scopes=[Permission.KEYS_READ])]
KeysWrite = Annotated[Principal, Security(authorize_in_path, scopes=[Permission.KEYS_WRITE])]
