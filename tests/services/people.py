"""People with sessions, made without the cost of a password."""

from sluice.model.roles import Role
from sluice.runtime.clock import utc_now
from sluice.store import memberships, projects, sessions, users

PASSWORD = "correct horse battery staple"


class Person:
    """A user with a session, and requests in its name."""

    def __init__(self, gateway, user, token):
        self.gateway, self.user, self.token = gateway, user, token

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
    token, _, _ = await sessions.create_session(gateway.pool, user.id, address=None, user_agent=None, now=now)
    return Person(gateway, user, token)


async def log_in(gateway, email, password=PASSWORD, **request):
    body = {"email": email, "password": password} | request.pop("body", {})
    return await gateway.client.post("/v1/auth/login", json=body, **request)
