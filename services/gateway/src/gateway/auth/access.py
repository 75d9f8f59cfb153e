"""Who sends a request: a program with an API key, or a person with a session, in the project that the request names."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from gateway.auth.api_keys import KEY_HEADER, ApiKeyAuthenticator
from gateway.auth.principal import KeyPrincipal, Principal, UserPrincipal
from gateway.auth.sessions import SessionAuthenticator
from gateway.errors import Forbidden, NotFound, Unauthorized, ValidationFailed
from gateway.kit.database import database_errors
from sluice.store.audit import Actor, ActorKind
from sluice.store.db import Pool
from sluice.store.projects import list_projects
from sluice.store.sessions import LIFETIME, Session

PROJECT_HEADER = "X-SendPipe-Project"
MODE_HEADER = "X-SendPipe-Mode"
CSRF_HEADER = "X-Sluice-CSRF"
COOKIE = "sluice_session"
SECURE_COOKIE = f"__Host-{COOKIE}"

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_CREDENTIALS = "The request has no credentials: X-SendPipe-Key, or a session in Authorization or the cookie."
_NO_PROJECT = "There is no such project, or you are not a member of it."


class Access:
    """Authenticates the requests of one gateway.

    ``public_url``: as browsers see the gateway. ``proxies``: how many reverse proxies append to X-Forwarded-For.
    """

    def __init__(
        self,
        keys: ApiKeyAuthenticator,
        sessions: SessionAuthenticator,
        pool: Pool,
        *,
        public_url: str | None,
        proxies: int = 0,
    ) -> None:
        self._keys = keys
        self._sessions = sessions
        self._pool = pool
        self._origin = None if public_url is None else _origin(public_url)
        self._proxies = proxies

    async def principal(self, request: Request) -> Principal:
        """The principal of a request in one project: that of the key, of the path, or the one that it names.

        Raises:
            Unauthorized: there are no valid credentials.
            Forbidden: a cookie comes without the proof that our own page sends it.
            NotFound: the path names another project.
            ValidationFailed: a person names no project, or an unknown mode.
            Unavailable: the credentials could not be checked.
        """
        in_path = request.path_params.get("slug")
        if key := request.headers.get(KEY_HEADER):
            return await self._of_key(await self._keys.authenticate(key), in_path)
        slug = in_path or request.headers.get(PROJECT_HEADER) or request.query_params.get("project")
        session = await self.session(request, project=slug)
        if not slug:
            raise ValidationFailed(
                f"Name the project: header {PROJECT_HEADER} or query parameter project.", field="project"
            )
        role = next((role for role in session.roles if role.slug == slug), None)
        if role is None:
            raise NotFound(_NO_PROJECT)
        return UserPrincipal(session.user_id, role.project_id, role.role, _is_test(request))

    async def _of_key(self, principal: KeyPrincipal, slug: str | None) -> KeyPrincipal:
        if slug is not None:  # no route of the hot path
            with database_errors():
                own = await list_projects(self._pool, principal.project_id)
            if not own or own[0].slug != slug:
                raise NotFound(_NO_PROJECT)
        return principal

    async def session(self, request: Request, *, project: str | None = None) -> Session:
        """The session of a person's request.

        Raises:
            Unauthorized: there is none that is valid.
            Forbidden: the request has an API key instead, or a cookie without the proof that our own page sends it.
            Unavailable: the session could not be checked.
        """
        if request.headers.get(KEY_HEADER):
            raise Forbidden("An API key acts in its project only: this needs the session of a person.")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return await self._sessions.authenticate(token.strip(), project=project)
        cookie = request.cookies.get(self.cookie_name)
        if not cookie:
            raise Unauthorized(_NO_CREDENTIALS)
        if request.method not in _READING:
            self.require_same_origin(request)
        return await self._sessions.authenticate(cookie, project=project)

    def require_same_origin(self, request: Request) -> None:
        """Return if the request comes from our own page: browsers send a cookie for any page.

        Raises:
            Forbidden: the header that only a script of our own origin can set is missing, or the origin is another.
        """
        headers = request.headers
        if CSRF_HEADER.lower() not in headers:
            raise Forbidden(f"A request with the session cookie needs the header {CSRF_HEADER}.")
        site = headers.get("sec-fetch-site")
        own = self._origin or f"{request.url.scheme}://{headers.get('host', '')}"
        if site != "same-origin" if site is not None else headers.get("origin") != own:
            raise Forbidden("A request with the session cookie has to come from this origin.")

    def actor(self, request: Request, principal: Principal | Session) -> Actor:
        """The principal as the audit log names it."""
        address = self.client_address(request)
        if isinstance(principal, KeyPrincipal):
            return Actor(ActorKind.KEY, principal.key_id, address)
        return Actor(ActorKind.USER, principal.user_id, address)

    def client_address(self, request: Request) -> str | None:
        """The client's address: that of the connection, or the one that the outermost of our proxies has seen."""
        if self._proxies:
            seen = [part.strip() for part in ",".join(request.headers.getlist("x-forwarded-for")).split(",")]
            if len(seen) >= self._proxies and seen[-self._proxies]:
                return seen[-self._proxies][:100]
        return None if request.client is None else request.client.host

    @property
    def cookie_name(self) -> str:
        """The name of the session cookie; over HTTPS browsers bind it to this host."""
        return SECURE_COOKIE if self._is_secure else COOKIE

    @property
    def _is_secure(self) -> bool:
        return self._origin is not None and self._origin.startswith("https:")

    def set_cookie(self, response: Response, token: str) -> None:
        """Give the session to the browser, out of reach of scripts."""
        response.set_cookie(
            self.cookie_name,
            token,
            max_age=int(LIFETIME.total_seconds()),
            httponly=True,
            secure=self._is_secure,
            samesite="strict",
        )

    def delete_cookie(self, response: Response) -> None:
        """Take the session from the browser."""
        response.delete_cookie(self.cookie_name, httponly=True, secure=self._is_secure, samesite="strict")


def _is_test(request: Request) -> bool:
    # A document in a frame and a stream of events have no headers of their own.
    in_header = request.headers.get(MODE_HEADER)
    match (in_header or request.query_params.get("mode") or "live").lower():
        case "live":
            return False
        case "test":
            return True
        case _:
            field = MODE_HEADER if in_header else "mode"
            raise ValidationFailed(f"{field}: must be live or test", field=field)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
