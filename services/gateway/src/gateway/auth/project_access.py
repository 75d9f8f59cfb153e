"""Who sends a request to the project API: a program with an API key, or a person with an access token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from starlette.requests import Request

from gateway.auth.access_tokens import AccessTokens
from gateway.auth.api_keys import ApiKeyAuthenticator
from gateway.auth.principal import Principal, UserPrincipal
from gateway.auth.sessions import SessionAuthenticator
from gateway.errors import Forbidden, NotFound, Unauthorized, ValidationFailed
from sluice.store.sessions import Session

API_KEY_HEADER = "x-api-key"

_NO_CREDENTIALS = "The request has no credentials: x-api-key, or an access token in Authorization."
_NO_PROJECT = "There is no such project, or you are not a member of it."

OwnerOf = Callable[[Session], Awaitable[UUID]]
"""The project of what a request names, among those of the person; raises :class:`NotFound`."""


class ProjectAccess:
    """Authenticates the requests of the project API of one gateway."""

    def __init__(self, keys: ApiKeyAuthenticator, sessions: SessionAuthenticator, tokens: AccessTokens) -> None:
        self._keys = keys
        self._sessions = sessions
        self._tokens = tokens

    async def principal(self, request: Request, project_id: UUID | None, owner_of: OwnerOf | None = None) -> Principal:
        """The principal of a request in its project: that of the key, the named one, or the owner of what is named.

        Raises:
            Unauthorized: there are no valid credentials.
            NotFound: a person has no role in the project, or a key belongs to another one.
            ValidationFailed: a person names no project.
            Unavailable: the credentials could not be checked.
        """
        if key := request.headers.get(API_KEY_HEADER):
            principal = await self._keys.authenticate(key)
            if project_id not in (None, principal.project_id):
                raise NotFound(_NO_PROJECT)
            return principal
        session = await self.session(request, project_id=project_id)
        if project_id is None and owner_of is not None:
            project_id = await owner_of(session)
        if project_id is None:
            raise ValidationFailed("projectId: is required with an access token", field="projectId")
        role = next((role for role in session.roles if role.project_id == project_id), None)
        if role is None:
            raise NotFound(_NO_PROJECT)
        return UserPrincipal(session.user_id, role.project_id, role.role)

    async def session(self, request: Request, *, project_id: UUID | None = None) -> Session:
        """The session of a person's request.

        Raises:
            Unauthorized: there is no access token of a valid session.
            Forbidden: the request has an API key instead.
            Unavailable: the session could not be checked.
        """
        if request.headers.get(API_KEY_HEADER):
            raise Forbidden("An API key acts in its project only: this needs the access token of a person.")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized(_NO_CREDENTIALS)
        claims = self._tokens.read(token.strip())
        session = await self._sessions.authenticate_id(claims.session_id, project_id=project_id)
        if session.user_id != claims.user_id:
            raise Unauthorized(_NO_CREDENTIALS)
        return session
