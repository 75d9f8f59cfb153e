"""Dependencies in the signatures of routes: the services, and a principal with a permission."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, SecurityScopes

from gateway.auth.permissions import Permission
from gateway.auth.principal import Principal, require
from gateway.services import Services


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(_services)]

_KEY = APIKeyHeader(name="X-SendPipe-Key", scheme_name="projectKey", auto_error=False)


async def authorize(
    needed: SecurityScopes, services: ServicesDep, key: Annotated[str | None, Security(_KEY)]
) -> Principal:
    """The principal of the request, which has every permission that the route names.

    Raises:
        Unauthorized: the request has no valid credentials.
        Forbidden: a permission is missing.
    """
    principal = await services.authenticator.authenticate(key)
    for permission in needed.scopes:
        require(principal, Permission(permission))
    return principal


MessagesRead = Annotated[Principal, Security(authorize, scopes=[Permission.MESSAGES_READ])]
MessagesSend = Annotated[Principal, Security(authorize, scopes=[Permission.MESSAGES_SEND])]
MessagesCancel = Annotated[Principal, Security(authorize, scopes=[Permission.MESSAGES_CANCEL])]
