"""The envelope of every error of the project API, and who may act in which project, on routes of this test."""

from typing import Annotated
from uuid import uuid4

import pytest
from fastapi import APIRouter, Path

from gateway.apis import project_api
from gateway.kit.camel_case import CamelResponse, ProjectBody
from gateway.kit.json_route import JsonRoute
from gateway.kit.numbered_pages import NumberedPage, NumberedPageDep
from gateway.kit.project_api_errors import errors_of
from gateway.project_dependencies import MessagesSend, ProviderWrite, TemplateRead
from sluice.model.ids import encode_id
from tests.services.people import a_person
from tests.services.project_api.conftest import error_of

router = APIRouter(route_class=JsonRoute)


class _Body(ProjectBody):
    first_name: str


class _Answer(CamelResponse):
    project_id: str


@router.post("/test/send", responses=errors_of())
async def send(body: _Body, principal: MessagesSend) -> _Answer:
    return _Answer(project_id=str(principal.project_id))


@router.get("/test/list", responses=errors_of())
async def some(principal: MessagesSend, page: NumberedPageDep) -> NumberedPage[_Answer]:
    return page.page([page.offset], 101, lambda row: _Answer(project_id=str(row)))


@router.put("/test/providers/{providerId}", responses=errors_of())
async def change(provider_id: Annotated[str, Path(alias="providerId")], principal: ProviderWrite) -> _Answer:
    return _Answer(project_id=str(principal.project_id))


@router.get("/test/templates/{templateId}", responses=errors_of())
async def read(template_id: Annotated[str, Path(alias="templateId")], principal: TemplateRead) -> _Answer:
    return _Answer(project_id=str(principal.project_id))


@pytest.fixture(autouse=True)
def routes_of_this_test(monkeypatch):
    """Before the gateway is made: pytest sets up autouse fixtures first."""
    monkeypatch.setattr(project_api, "_ROUTERS", (*project_api._ROUTERS, router))


async def test_unknown_paths_and_methods(api):
    assert error_of(await api.gateway.client.get("/nothing"), 404, "Not Found") == "Not found"
    wrong = await api.gateway.client.delete("/test/list")
    assert error_of(wrong, 405, "Method Not Allowed") == "Method not allowed"
    assert wrong.headers["allow"] == "GET, HEAD"


async def test_a_key_acts_in_its_project(api):
    answer = await api.ask_with_key("POST", "/test/send", json={"firstName": "Ada"})
    assert answer.json() == {"projectId": str(api.project_id)}

    named = {"firstName": "Ada", "projectId": str(api.project_id)}
    assert (await api.ask_with_key("POST", "/test/send", json=named)).status_code == 200
    error_of(await api.ask_with_key("POST", "/test/send", json=named | {"projectId": str(uuid4())}), 404)
    error_of(await api.ask_with_key("POST", "/test/send", key="sp_live_no", json=named), 401, "Unauthorized")


async def test_a_person_names_the_project_in_query_or_body_in_both_forms_of_id(api):
    body, project = {"firstName": "Ada"}, str(api.project_id)
    for text in (project, encode_id("proj", api.project_id)):
        in_body = await api.ask("POST", "/test/send", json=body | {"projectId": text})
        in_query = await api.ask("POST", "/test/send", json=body, project_id=text)
        assert [one.json() for one in (in_body, in_query)] == [{"projectId": project}] * 2

    assert "projectId" in error_of(await api.ask("POST", "/test/send", json=body), 400, "Bad Request")
    other = body | {"projectId": str(uuid4())}
    assert "projectId" in error_of(await api.ask("POST", "/test/send", json=other, project_id=project), 400)
    assert "project" in error_of(await api.ask("POST", "/test/send", json=other), 404)
    assert "projectId" in error_of(await api.ask("POST", "/test/send", json=body | {"projectId": 7}), 400)


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer nonsense"}, {"authorization": "Basic YTpi"}])
async def test_without_credentials(api, header):
    error_of(await api.gateway.client.post("/test/send", json={}, headers=header), 401, "Unauthorized")


async def test_a_role_without_the_permission(api):
    viewer = await api.a_member("viewer@example.com", "viewer")
    refused = await viewer.ask_project_api("GET", "/test/list", project_id=api.project_id)
    assert "messages:send" in error_of(refused, 403, "Forbidden")


@pytest.mark.parametrize(
    ("content", "status", "field"),
    [
        ("{", 400, "JSON"),
        ("[]", 400, "object"),
        ('{"firstName": 1}', 400, "firstName"),
        ('{"first_name": "Ada"}', 400, "firstName"),
        ('{"firstName": "Ada", "other": 1}', 400, "other"),
        ('{"firstName": "' + "a" * 70_000 + '"}', 413, "bytes"),
    ],
)
async def test_bad_bodies(api, content, status, field):
    headers = {"content-type": "application/json"}
    answer = await api.ask_with_key("POST", "/test/send", content=content, headers=headers)
    assert field in error_of(answer, status)


async def test_a_limit_of_the_address_is_shown_in_this_form(api):
    api.gateway.rate_limits._per_address = 2
    answers = [await api.ask("GET", "/test/list", project_id=api.project_id) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    error_of(answers[-1], 429, "Too Many Requests")
    assert answers[-1].headers["x-ratelimit-limit"] == "2"
    assert int(answers[-1].headers["retry-after"]) > 0


async def test_a_limit_of_the_organization_counts_the_requests_of_both_apis(api):
    api.gateway.rate_limits._per_organization = 2
    assert (await api.gateway.ask("GET", "/v1/messages")).status_code == 200
    answers = [await api.ask_with_key("GET", "/test/list") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    error_of(answers[-1], 429, "Too Many Requests")


async def test_without_the_database_the_answer_is_503_in_this_form(api, monkeypatch):
    async def away(*_, **__):
        raise ConnectionRefusedError

    monkeypatch.setattr("sluice.store.sessions.find_sessions", away)
    refused = await api.ask("GET", "/test/list", project_id=api.project_id)
    assert "Retry" in error_of(refused, 503, "Service Unavailable")
    assert refused.headers["retry-after"]


async def test_a_fault_of_the_gateway_says_nothing_of_it(api, monkeypatch):
    monkeypatch.setattr("gateway.auth.project_access.ProjectAccess.principal", None)
    assert (
        error_of(await api.ask_with_key("GET", "/test/list"), 500, "Internal Server Error") == "Internal server error"
    )


async def test_pages(api):
    answer = await api.ask("GET", "/test/list", project_id=api.project_id, params={"page": 2})
    assert answer.json()["data"] == [{"projectId": "50"}]
    assert answer.json()["meta"] == {
        **{"total": 101, "page": 2, "limit": 50, "totalPages": 3},
        **{"hasNextPage": True, "hasPreviousPage": True},
    }
    for wrong in ({"page": 0}, {"limit": 101}, {"limit": "x"}):
        refused = await api.ask("GET", "/test/list", project_id=api.project_id, params=wrong)
        assert next(iter(wrong)) in error_of(refused, 400)


async def test_an_object_names_its_project(api):
    created = await api.gateway.ask(
        "POST", "/v1/providers", json={"packageName": "provider-messagepipe", "name": "text"}
    )
    provider_id = created.json()["id"]
    stranger = await a_person(api.gateway, "stranger@example.com", own="owner")

    assert (await api.ask("PUT", f"/test/providers/{provider_id}")).json() == {"projectId": str(api.project_id)}
    foreign = await stranger.ask_project_api("PUT", f"/test/providers/{provider_id}")
    assert error_of(foreign, 404) == "Provider not found"
    assert error_of(await api.ask("PUT", f"/test/providers/{uuid4()}"), 404) == "Provider not found"
    assert error_of(await api.ask("GET", f"/test/templates/{uuid4()}"), 404) == "Template not found"
    assert error_of(await api.ask("GET", "/test/templates/no-id"), 404) == "Template not found"
