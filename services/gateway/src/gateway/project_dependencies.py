"""Dependencies in the signatures of the project API's routes: a principal with a permission, a person.

The project is that of the API key; with an access token it is ``projectId`` in the path, the query or the body, or the
project of the object that the path names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Query, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer, SecurityScopes
from fastapi.security.http import HTTPAuthorizationCredentials
from pydantic import TypeAdapter, ValidationError

from gateway.auth.permissions import ROLE_PERMISSIONS, Permission
from gateway.auth.principal import Principal, require
from gateway.auth.project_access import API_KEY_HEADER, OwnerOf
from gateway.dependencies import ServicesDep
from gateway.errors import NotFound, TemplateNotFound, ValidationFailed
from gateway.kit.camel_case import Id
from gateway.kit.json_route import DOCUMENT
from gateway.kit.public_ids import read_id
from gateway.kit.transactions import transaction
from gateway.services import Services
from sluice.store.owners import Owned, owner_of
from sluice.store.sessions import Session

# These document the credentials in OpenAPI; ProjectAccess reads them.
_Key = Annotated[str | None, Security(APIKeyHeader(name=API_KEY_HEADER, scheme_name="apiKey", auto_error=False))]
_Bearer = Annotated[
    HTTPAuthorizationCredentials | None,
    Security(HTTPBearer(scheme_name="accessToken", bearerFormat="JWT", auto_error=False)),
]
_ProjectQuery = Annotated[
    Id | None,
    Query(alias="projectId", description="With an access token: the project. An API key has its own."),
]
_ID: TypeAdapter[UUID] = TypeAdapter(Id)
_NO_PROJECT = "There is no such project, or you are not a member of it."


async def _authorize(
    needed: SecurityScopes, request: Request, services: Services, project_id: UUID | None, owner: OwnerOf | None = None
) -> Principal:
    principal = await services.accounts.project_access.principal(request, project_id, owner)
    await services.rate_limits.spend_project(principal.project_id)
    for permission in needed.scopes:
        require(principal, Permission(permission))
    return principal


async def authorize(
    needed: SecurityScopes,
    request: Request,
    services: ServicesDep,
    key: _Key,
    bearer: _Bearer,
    project_id: _ProjectQuery = None,
) -> Principal:
    """The principal of the request, which has every permission that the route names.

    Raises:
        Unauthorized: the request has no valid credentials.
        Forbidden: a permission is missing.
        NotFound: a person has no role in the project, or a key belongs to another one.
        ValidationFailed: a person names no project, or two.
        TooManyRequests: the organization of the project has no request left.
    """
    return await _authorize(needed, request, services, _named(request, project_id))


async def authorize_in_path(
    needed: SecurityScopes,
    request: Request,
    services: ServicesDep,
    key: _Key,
    bearer: _Bearer,
    project_id: Annotated[str, Path(alias="projectId")],
) -> Principal:
    """As :func:`authorize`, in the project ``{projectId}`` of the path."""
    return await _authorize(needed, request, services, read_id("proj", project_id, NotFound(_NO_PROJECT)))


async def authorize_projects(
    needed: SecurityScopes,
    request: Request,
    services: ServicesDep,
    key: _Key,
    bearer: _Bearer,
    project_id: Annotated[Id | None, Query(alias="projectId", description="One of the projects; default: all.")] = None,
) -> Sequence[UUID]:
    """The projects of a list: that of the key, the one that a person names, or else all in which the person has the
    permissions of the route.

    Raises:
        Unauthorized: the request has no valid credentials.
        Forbidden: a permission is missing.
        NotFound: a person has no role in the project, or a key belongs to another one.
        TooManyRequests: the organization of the project has no request left.
    """
    if project_id is not None or request.headers.get(API_KEY_HEADER):
        return [(await _authorize(needed, request, services, project_id)).project_id]
    session = await services.accounts.project_access.session(request)
    permissions = {Permission(scope) for scope in needed.scopes}
    found = [role.project_id for role in session.roles if permissions <= ROLE_PERMISSIONS[role.role]]
    for one in found[:1]:  # a request counts once
        await services.rate_limits.spend_project(one)
    return found


def authorize_owner(owned: Owned, prefix: str, parameter: str) -> Callable[..., Awaitable[Principal]]:
    """As :func:`authorize`, for routes that name an object: without ``projectId``, in the project of the object.

    ``parameter``: that of the path with the id, else the field of the body, of the form ``prefix`` in ``/v1``.
    """

    async def authorize_object(
        needed: SecurityScopes,
        request: Request,
        services: ServicesDep,
        key: _Key,
        bearer: _Bearer,
        project_id: _ProjectQuery = None,
    ) -> Principal:
        text = request.path_params.get(parameter) or request.scope.get(DOCUMENT, {}).get(parameter)
        owner = None
        if isinstance(text, str):
            identifier = partial(read_id, prefix, text, _missing(owned))
            owner = partial(_owner, services, owned, identifier)
        return await _authorize(needed, request, services, _named(request, project_id), owner)

    AUTHORIZERS.add(authorize_object)
    return authorize_object


AUTHORIZERS: set[Any] = {authorize, authorize_in_path, authorize_projects}
"""The dependencies whose scopes are permissions."""


async def _owner(services: Services, owned: Owned, identifier: Callable[[], UUID], session: Session) -> UUID:
    """The project of an object, among those of the person.

    Raises:
        NotFound: none of them has it.
        Unavailable: PostgreSQL does not answer.
    """
    projects = [role.project_id for role in session.roles]
    found = identifier()
    async with transaction(services.pool, *projects) as db:
        project_id = await owner_of(db, owned, found, projects)
    if project_id is None:
        raise _missing(owned)
    return project_id


def _missing(owned: Owned) -> NotFound:
    return (TemplateNotFound if owned is Owned.TEMPLATE else NotFound)(owned.missing)


def _named(request: Request, in_query: UUID | None) -> UUID | None:
    """The project that the query or the body names.

    Raises:
        ValidationFailed: the body's is no id, or they are two.
    """
    text = request.scope.get(DOCUMENT, {}).get("projectId")
    if text is None:
        return in_query
    try:
        in_body = _ID.validate_python(text)
    except ValidationError:
        raise ValidationFailed("projectId: is not an id", field="projectId") from None
    if in_query not in (None, in_body):
        raise ValidationFailed("projectId: is another one in the query", field="projectId")
    return in_body


async def authenticate_person(request: Request, services: ServicesDep, bearer: _Bearer) -> Session:
    """The session of the person who sends the request; the route acts on the person's own account.

    Raises:
        Unauthorized: there is no valid access token.
        Forbidden: the request has an API key.
    """
    return await services.accounts.project_access.session(request)


Person = Annotated[Session, Depends(authenticate_person)]

MessagesRead = Annotated[Principal, Security(authorize, scopes=[Permission.MESSAGES_READ])]
MessagesSend = Annotated[Principal, Security(authorize, scopes=[Permission.MESSAGES_SEND])]
DevicesWrite = Annotated[Principal, Security(authorize, scopes=[Permission.DEVICES_WRITE])]
AnalyticsRead = Annotated[Principal, Security(authorize, scopes=[Permission.ANALYTICS_READ])]
ProvidersRead = Annotated[Principal, Security(authorize, scopes=[Permission.PROVIDERS_READ])]
ProvidersWrite = Annotated[Principal, Security(authorize, scopes=[Permission.PROVIDERS_WRITE])]
Members = Annotated[Principal, Security(authorize, scopes=[Permission.PROJECT_ADMIN])]
TemplatesRead = Annotated[Principal, Security(authorize, scopes=[Permission.TEMPLATES_READ])]
TemplatesWrite = Annotated[Principal, Security(authorize, scopes=[Permission.TEMPLATES_WRITE])]
TemplatesReadInProjects = Annotated[Sequence[UUID], Security(authorize_projects, scopes=[Permission.TEMPLATES_READ])]
TemplatesReadInPath = Annotated[Principal, Security(authorize_in_path, scopes=[Permission.TEMPLATES_READ])]
ProjectRead = Annotated[Principal, Security(authorize_in_path, scopes=[Permission.PROJECT_READ])]
ProjectAdmin = Annotated[Principal, Security(authorize_in_path, scopes=[Permission.PROJECT_ADMIN])]
ProjectDelete = Annotated[Principal, Security(authorize_in_path, scopes=[Permission.PROJECT_DELETE])]
KeysRead = Annotated[Principal, Security(authorize_in_path, scopes=[Permission.KEYS_READ])]
KeysWrite = Annotated[Principal, Security(authorize_in_path, scopes=[Permission.KEYS_WRITE])]

# Of an object that the path names.
_provider = authorize_owner(Owned.PROVIDER, "prv", "providerId")
_template = authorize_owner(Owned.TEMPLATE, "tpl", "templateId")
_invitation = authorize_owner(Owned.INVITATION, "inv", "inviteId")
_delivery = authorize_owner(Owned.DELIVERY, "dlv", "deliveryId")
ProviderWrite = Annotated[Principal, Security(_provider, scopes=[Permission.PROVIDERS_WRITE])]
TemplateRead = Annotated[Principal, Security(_template, scopes=[Permission.TEMPLATES_READ])]
TemplateWrite = Annotated[Principal, Security(_template, scopes=[Permission.TEMPLATES_WRITE])]
InvitationAdmin = Annotated[Principal, Security(_invitation, scopes=[Permission.PROJECT_ADMIN])]
DeliveryRead = Annotated[Principal, Security(_delivery, scopes=[Permission.MESSAGES_READ])]
