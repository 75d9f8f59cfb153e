"""The project API of a gateway in process: an owner with an access token, and an API key of the same project."""

import pytest

from tests.services.people import a_person


class ProjectApi:
    """Requests of a project's owner and of its key. ``error``: what an answer says."""

    def __init__(self, gateway, owner, project_id):
        self.gateway, self.owner, self.project_id = gateway, owner, project_id

    async def ask(self, method, path, **request):
        """By the owner; ``project_id=api.project_id`` sends ``?projectId=``."""
        return await self.owner.ask_project_api(method, path, **request)

    async def ask_with_key(self, method, path, *, key=None, headers=None, **request):
        named = {"x-api-key": self.gateway.key if key is None else key} | (headers or {})
        return await self.gateway.client.request(method, path, headers=named, **request)

    async def a_member(self, email, role):
        """Another person with a role in the project."""
        return await a_person(self.gateway, email, shop=role)


def error_of(answer, status, phrase=None):
    """The message of an error in the envelope of the project API."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    error = answer.json()
    assert set(error) == {"message", "error", "statusCode"}
    assert error["statusCode"] == status
    assert phrase in (None, error["error"])
    return error["message"]


@pytest.fixture
async def api(gateway):
    """The project is ``shop``, that of ``gateway.key``."""
    owner = await a_person(gateway, "owner@example.com", shop="owner")
    project_id = await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'shop'")
    return ProjectApi(gateway, owner, project_id)
