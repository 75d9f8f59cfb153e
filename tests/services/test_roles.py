"""Every operation of ``/v1`` with every role, from the OpenAPI document and the permissions that routes name."""

import re
from functools import partial

import pytest
from fastapi.routing import APIRoute

from gateway.auth.permissions import KEY_PERMISSIONS, ROLE_PERMISSIONS, Permission
from gateway.openapi import document
from sluice.model.ids import encode_id
from sluice.model.roles import Role
from tests.examples import a_body, an_id
from tests.repository.test_routes import PERSON, permissions, routes
from tests.services.people import PASSWORD, a_person
from tests.services.test_gateway import gateway  # noqa: F401  (a fixture)

DOCUMENT = document("v1")
PREFIXES = {"message_id": "msg", "session_id": "sid", "user_id": "usr", "key_id": "key", "invitation_id": "inv"}
PASSED = {200, 201, 202, 404, 409}  # the operation was carried out, or found nothing to work on


def needed_permissions():
    """What each operation needs, by its id."""
    found = {}
    for route in routes():
        if isinstance(route.original_route, APIRoute):
            found[route.original_route.name] = permissions(route.dependant)
    return found


NEEDED = needed_permissions()
OPERATIONS = [
    pytest.param(method.upper(), path, operation, id=operation["operationId"])
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if NEEDED[operation["operationId"]]
]


def resolve(schema):
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def body_of(operation):
    """The example of the operation's body."""
    if "requestBody" not in operation:
        return None
    if operation["operationId"] == "send_message":
        return a_body()
    if operation["operationId"] == "change_password":
        return {"current_password": PASSWORD, "new_password": f"{PASSWORD}, changed"}
    return resolve(operation["requestBody"]["content"]["application/json"]["schema"])["example"]


def url(path, slug):
    return re.sub(
        r"\{(\w+)\}", lambda found: slug if found[1] == "slug" else encode_id(PREFIXES[found[1]], an_id()), path
    )


async def outcome(ask, method, path, operation, slug):
    answer = await ask(method, url(path, slug), json=body_of(operation))
    return answer.status_code


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
async def test_an_operation_is_open_to_the_roles_that_have_its_permission(gateway, method, path, operation):  # noqa: F811
    needed = NEEDED[operation["operationId"]]
    password = PASSWORD if operation["operationId"] == "change_password" else None
    for role in Role:
        slug = f"of-{role.value}"
        person = await a_person(gateway, f"{role.value}@example.com", password=password, **{slug: role})
        status = await outcome(partial(person.ask, project=slug), method, path, operation, slug)
        allowed = needed == {PERSON} or needed <= ROLE_PERMISSIONS[role]
        assert status in PASSED if allowed else status == 403, role


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
async def test_an_operation_is_open_to_keys_with_its_permission(gateway, method, path, operation):  # noqa: F811
    status = await outcome(gateway.ask, method, path, operation, "shop")

    allowed = NEEDED[operation["operationId"]] <= KEY_PERMISSIONS
    assert status in PASSED if allowed else status == 403


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
async def test_an_operation_is_closed_without_credentials_and_to_strangers(gateway, method, path, operation):  # noqa: F811
    stranger = await a_person(gateway, "stranger@example.com", own="owner")

    without = await outcome(gateway.client.request, method, path, operation, "shop")
    foreign = [
        await stranger.ask(method, url(path, slug), project=slug, json=body_of(operation))
        for slug in ("shop", "there-is-none")
    ]

    assert without == 401
    if NEEDED[operation["operationId"]] <= set(Permission):
        assert [answer.status_code for answer in foreign] == [404, 404]
        assert foreign[0].json() == foreign[1].json()


def test_the_document_has_every_route_that_needs_a_permission():
    documented = {operation.values[2]["operationId"] for operation in OPERATIONS}

    assert documented == {name for name, needed in NEEDED.items() if needed}
