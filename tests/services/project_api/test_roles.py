"""Every operation of the project API with every role, every key and every foreign id, from the OpenAPI document."""

import json
import re
from functools import partial
from uuid import UUID, uuid4

import pytest

from gateway.auth.permissions import KEY_PERMISSIONS, ROLE_PERMISSIONS, Permission
from gateway.openapi import document
from sluice.model.ids import decode_id, encode_id
from sluice.model.roles import Role
from tests.repository.test_routes import PERSON, needed_permissions
from tests.services.openapi_check import resolve
from tests.services.people import a_person
from tests.services.test_roles import (
    HOSTILE,
    PROVIDER,
    check_test_key,
    check_unchanged,
    is_sendable,
    live_rows,
    parameters,
)

DOCUMENT = document("project")
PREFIXES = {
    **{"projectId": "proj", "keyId": "key", "inviteId": "inv", "userId": "usr"},
    **{"providerId": "prv", "templateId": "tpl", "deliveryId": "dlv"},
}
FREE = {"deviceToken": "no-device", "provider": "smtp"}  # path parameters that are no id
PUBLIC = {"sign_up", "sign_in", "refresh_tokens"}
NEEDED = needed_permissions(v1=False)
ALL_OPERATIONS = [
    pytest.param(method.upper(), path, operation, id=operation["operationId"])
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]
OPERATIONS = [one for one in ALL_OPERATIONS if NEEDED[str(one.id)]]
OF_OBJECTS = [one for one in OPERATIONS if set(re.findall(r"\{(\w+)\}", str(one.values[1]))) & PREFIXES.keys()]


def request_of(operation, project_id):
    """The example of the operation's body, for this project, as options of the client."""
    [(kind, content), *_] = operation.get("requestBody", {"content": {}})["content"].items() or [(None, None)]
    if content is None:
        return {}
    example = content.get("example") or resolve("project", content["schema"])["example"]
    if kind != "application/json":
        return {"content": example, "headers": {"content-type": kind}}
    return {"json": example | ({"projectId": str(project_id)} if "projectId" in example else {})}


def url(path, project_id, chosen=None):
    values = FREE | {"projectId": str(project_id)} | (chosen or {})
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1]) or str(uuid4()), path)


def query_of(operation, project_id):
    """What the operation needs in its query."""
    required = [one for one in operation.get("parameters", []) if one["in"] == "query" and one.get("required")]
    found = {one["name"]: one.get("example", "x") for one in required}
    return found | ({"projectId": str(project_id)} if "projectId" in parameters(operation, "query") else {})


async def outcome(ask, method, path, operation, project_id):
    answer = await ask(
        method, url(path, project_id), params=query_of(operation, project_id), **request_of(operation, project_id)
    )
    return answer.status_code


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
async def test_an_operation_is_open_to_the_roles_that_have_its_permission(gateway, method, path, operation):
    needed = NEEDED[operation["operationId"]]
    for role in Role:
        slug = f"of-{role.value}"
        person = await a_person(gateway, f"{role.value}@example.com", **{slug: role})
        project_id = await gateway.pool.fetchval("SELECT id FROM projects WHERE slug = $1", slug)
        status = await outcome(person.ask_project_api, method, path, operation, project_id)
        allowed = needed == {PERSON} or needed <= ROLE_PERMISSIONS[role]
        assert status not in (401, 403, 405) and status < 500 if allowed else status == 403, (role, status)


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
async def test_an_operation_is_open_to_keys_with_its_permission(api, method, path, operation):
    status = await outcome(api.ask_with_key, method, path, operation, api.project_id)

    allowed = NEEDED[operation["operationId"]] <= KEY_PERMISSIONS
    assert status not in (401, 403, 405) and status < 500 if allowed else status == 403, status


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
async def test_a_test_key_changes_nothing_that_is_live(api, method, path, operation):
    """Each operation on the objects that a live key and a person have made."""
    test_key = await api.gateway.another_key(is_test=True)
    objects = await objects_of(api)
    before = await live_rows(api.gateway.pool)

    answer = await api.ask_with_key(
        method,
        url(path, api.project_id, objects),
        key=test_key,
        params=query_of(operation, api.project_id),
        **request_of(operation, api.project_id),
    )

    check_test_key(answer, NEEDED[operation["operationId"]], lambda body: body["message"])
    check_unchanged(before, await live_rows(api.gateway.pool))


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
async def test_an_operation_is_closed_without_credentials_and_to_strangers(api, method, path, operation):
    stranger = await a_person(api.gateway, "stranger@example.com", own="owner")
    other_key = await api.gateway.new_project("others")
    without = await outcome(api.gateway.client.request, method, path, operation, api.project_id)
    foreign = [
        await ask(
            method, url(path, project_id), params=query_of(operation, project_id), **request_of(operation, project_id)
        )
        for ask in (stranger.ask_project_api, partial(api.ask_with_key, key=other_key))
        for project_id in (api.project_id, uuid4())
    ]

    assert without == 401
    if NEEDED[operation["operationId"]] <= set(Permission):
        statuses = {404} if NEEDED[operation["operationId"]] <= KEY_PERMISSIONS else {404, 403}
        assert {answer.status_code for answer in foreign} <= statuses
        assert foreign[0].json() == foreign[1].json()
        assert foreign[2].json() == foreign[3].json()


def test_the_matrix_has_every_documented_operation():
    assert {one.id for one in ALL_OPERATIONS} - {one.id for one in OPERATIONS} == PUBLIC
    named = {name for one in ALL_OPERATIONS for name in re.findall(r"\{(\w+)\}", str(one.values[1]))}
    assert named <= PREFIXES.keys() | FREE.keys(), "add the parameter to PREFIXES and objects_of, or to FREE"


# -- ids of other projects -------------------------------------------------------------------------------------------


async def objects_of(api):
    """One object of each kind in the project, by the name of its path parameter."""
    keys, email = f"/projects/{api.project_id}/api-keys", {"email": "new@example.com"}
    template = await api.gateway.ask("POST", "/v1/templates", json={"name": "x", "kind": "text", "text": "x"})
    provider = await api.gateway.ask("POST", "/v1/providers", json=PROVIDER)
    await api.gateway.post()
    invited = await api.ask("POST", "/projects/invite", json=email | {"projectId": str(api.project_id)})
    return {
        "projectId": str(api.project_id),
        "keyId": (await api.ask("POST", keys, json={"name": "x"})).json()["id"],
        "inviteId": invited.json()["invite"]["id"],
        "userId": str(api.owner.user.id),
        "providerId": str(decode_id("prv", provider.json()["id"])),
        "templateId": str(decode_id("tpl", template.json()["id"])),
        "deliveryId": str(await api.gateway.pool.fetchval("SELECT id FROM deliveries")),
    }


@pytest.mark.parametrize(("method", "path", "operation"), OF_OBJECTS)
async def test_an_id_of_another_project_is_answered_as_an_unknown_one(api, method, path, operation):
    """With and without the project in the query, and in the form of ``/v1``."""
    eve = await a_person(api.gateway, "eve@example.com", evil="owner")
    evil = await api.gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'evil'")
    objects = await objects_of(api)
    [name] = set(re.findall(r"\{(\w+)\}", path)) - ({"projectId"} if path.count("{") > 1 else set())
    required = {field: value for field, value in query_of(operation, evil).items() if field != "projectId"}

    answers = [
        await eve.ask_project_api(
            method, url(path, evil, {name: value}), params=required | query, **request_of(operation, evil)
        )
        for query in ({}, {"projectId": str(evil)})
        for value in (objects[name], encode_id(PREFIXES[name], UUID(objects[name])), str(uuid4()), "no-id")
    ]

    assert [answer.status_code for answer in answers] == [404] * 8
    assert [len({answer.content for answer in same}) for same in (answers[:4], answers[4:])] == [1, 1]


# -- hostile input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path", "operation"), ALL_OPERATIONS)
async def test_hostile_values_are_the_callers_error(api, method, path, operation):
    request = request_of(operation, api.project_id)
    body, query = request.get("json", {}), query_of(operation, api.project_id)
    named = url(path, api.project_id)
    answers = [
        await api.ask(method, named, params=query, content=json.dumps(body | {field: value}))
        for field in body
        for value in HOSTILE
    ]
    for field in parameters(operation, "query"):
        for value in filter(is_sendable, HOSTILE):
            answers.append(await api.ask(method, named, params=query | {field: value}, **request))
    for value in ("%00", "%ed%a0%80", "a" * 5_000, "%2e%2e", "'"):
        answers.append(await api.ask(method, re.sub(r"\{\w+\}", value, path), params=query, **request))

    assert [answer.text for answer in answers if answer.status_code >= 500] == []
