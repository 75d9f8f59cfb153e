"""People with sessions, made without the cost of a password."""

from gateway.auth.access_tokens import AccessClaims
from sluice.model.roles import Role
from sluice.runtime.clock import utc_now
from sluice.store import memberships, projects, sessions, users

PASSWORD = "correct horse battery staple"


class Person:
    """A user with a session, and requests in its name: to ``/v1`` with the session, else with an access token of it."""

    def __init__(self, gateway, user, token, session_id):
        self.gateway, self.user, self.token, self.session_id = gateway, user, token, session_id

    @property
    def access_token(self):
        """Of the project API."""
        claims = AccessClaims(self.user.id, self.session_id)
        return self.gateway.accounts.access_tokens.issue(claims, now=utc_now())

    async def ask_project_api(self, method, path, *, project_id=None, headers=None, **request):
        named = {"authorization": f"Bearer {self.access_token}"} | (headers or {})
        if project_id is not None:
            request["params"] = {"projectId": str(project_id)} | request.get("params", {})
        return await self.gateway.client.request(method, path, headers=named, **request)

    async def ask(self, method, path, *, project=None, headers=None, **request):
        named = {"authorization": f"Bearer {self.token}"} | (headers or {})
        if project is not None:
            named["x-sendpipe-project"] = project
        return await self.gateway.client.request(method, path, headers=named, **request)


async def a_person(gateway, email, *, password=None, **roles):
    """A person with a session and with ``roles`` by slug; the projects exist or are created."""
    now = utc_now()
    hashed = None if password is None else await gateway.accounts.passwords.hash(password)
    user = await users.create_user(gateway.pool, email, name="", password_hash=hashed, now=now)
    for slug, role in roles.items():
        project = await projects.find_project_by_slug(gateway.pool, slug)
        if project is None:
            project = await projects.create_project(gateway.pool, organization=slug, slug=slug, name=slug, now=now)
        await memberships.add_member(gateway.pool, project.id, user.id, Role(role), now=now)
    token, session_id, _ = await sessions.create_session(gateway.pool, user.id, address=None, user_agent=None, now=now)
    return Person(gateway, user, token, session_id)


async def log_in(gateway, email, password=PASSWORD, **request):
    body = {"email": email, "password": password} | request.pop("body", {})
    return await gateway.client.post("/v1/auth/login", json=body, **request)
