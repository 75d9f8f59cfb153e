"""Every operation of ``/v1`` with every role, from the OpenAPI document and the permissions that routes name."""

import json
import re
from functools import partial

import pytest

from gateway.auth.permissions import KEY_PERMISSIONS, ROLE_PERMISSIONS, TEST_KEY_PERMISSIONS, Permission
from gateway.openapi import document
from sluice.model.ids import attempt_reference, encode_id
from sluice.model.roles import Role
from sluice.store.tables import TABLES
from tests.examples import a_body, an_id
from tests.polling import wait_until
from tests.repository.test_routes import PERSON, needed_permissions
from tests.services.openapi_check import resolve
from tests.services.people import PASSWORD, a_person

DOCUMENT = document("v1")
PREFIXES = {
    **{"message_id": "msg", "session_id": "sid", "user_id": "usr", "key_id": "key", "invitation_id": "inv"},
    **{"provider_id": "prv", "domain_id": "dom", "template_id": "tpl", "suppression_id": "sup"},
    **{"webhook_id": "whk", "bulk_id": "blk", "delivery_id": "whd", "incident_id": "inc", "capture_id": "att"},
}
# Of path parameters that name nothing of a project.
CHOICES = {"name": "provider-smtp", "part": "text", "number": "1"}
PASSED = {200, 201, 202, 404, 409}  # the operation was carried out, or found nothing to work on
FILTERS = {"remove_suppressions": {"reason": "manual"}, "retry_messages": {"since": "2026-01-01T00:00:00Z"}}
UNKNOWN = {"reorder_providers": 400}  # operations that answer otherwise to an unknown id, which is in their body


@pytest.fixture(autouse=True)
def streams_end(gateway):
    """A stream of events ends at once: the client reads answers whole."""
    gateway.events._closed = True


NEEDED = needed_permissions(v1=True)
ALL_OPERATIONS = [
    pytest.param(method.upper(), path, operation, id=operation["operationId"])
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]
OPERATIONS = [one for one in ALL_OPERATIONS if NEEDED[str(one.id)]]


def body_of(operation):
    """The example of the operation's body."""
    if "requestBody" not in operation:
        return None
    if operation["operationId"] == "send_message":
        return a_body()
    if operation["operationId"] == "change_password":
        return {"current_password": PASSWORD, "new_password": f"{PASSWORD}, changed"}
    if operation["operationId"] == "reorder_providers":
        return {"channel": "email", "providerIds": [encode_id("prv", an_id())]}
    content = operation["requestBody"]["content"].get("application/json")
    return None if content is None else resolve("v1", content["schema"])["example"]


def request_of(operation):
    """The body of a request as options of the client; an upload is no JSON."""
    if operation["operationId"] == "create_bulk_job":
        kind = "application/jsonl"
        return {
            "content": operation["requestBody"]["content"][kind]["example"],
            "headers": {"content-type": kind},
        }
    return {"json": body_of(operation)}


def url(path, slug):
    chosen = CHOICES | {"slug": slug}
    return re.sub(r"\{(\w+)\}", lambda found: chosen.get(found[1]) or encode_id(PREFIXES[found[1]], an_id()), path)


def passed(operation):
    """The statuses of an operation that was allowed."""
    return PASSED | {UNKNOWN.get(operation["operationId"], 200)}


async def outcome(ask, method, path, operation, slug):
    filters = FILTERS.get(operation["operationId"], {})
    answer = await ask(method, url(path, slug), **request_of(operation), params=filters)
    return answer.status_code


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
async def test_an_operation_is_open_to_the_roles_that_have_its_permission(gateway, method, path, operation):
    needed = NEEDED[operation["operationId"]]
    password = PASSWORD if operation["operationId"] == "change_password" else None
    for role in Role:
        slug = f"of-{role.value}"
        person = await a_person(gateway, f"{role.value}@example.com", password=password, **{slug: role})
        status = await outcome(partial(person.ask, project=slug), method, path, operation, slug)
        allowed = needed == {PERSON} or needed <= ROLE_PERMISSIONS[role]
        assert status in passed(operation) if allowed else status == 403, role


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
async def test_an_operation_is_open_to_keys_with_its_permission(gateway, method, path, operation):
    status = await outcome(gateway.ask, method, path, operation, "shop")

    allowed = NEEDED[operation["operationId"]] <= KEY_PERMISSIONS
    assert status in passed(operation) if allowed else status == 403


LOGS = {"audit_log", "dead_letters", "project_usage"}
# Their rows belong to a message, an endpoint or a bulk job, whose own row says whether it is test data.
PARTS = {
    *("message_terms", "attempts", "events", "receipts", "provider_receipts", "bulk_chunks"),
    *("webhook_secrets", "webhook_deliveries", "webhook_attempts"),
}


async def live_rows(pool):
    """By table: the rows that live messages are, and those by which they are sent. Of ``PARTS`` all rows."""
    modes = await pool.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE column_name IN ('sandbox', 'is_test')"
    )
    mode = {row["table_name"]: row["column_name"] for row in modes}
    names = [table.name for table in TABLES if table.project is not None and table.name not in LOGS]
    return {
        name: {row[0] for row in await pool.fetch(f"SELECT r::text FROM {name} r WHERE NOT {mode.get(name, 'false')}")}
        for name in names
    }


def check_unchanged(before, after):
    """Nothing live has changed; parts of new test data may have been added."""
    assert {name: after[name] for name in after if name not in PARTS} == {
        name: before[name] for name in before if name not in PARTS
    }
    assert [name for name in PARTS if not before[name] <= after[name]] == []


def check_test_key(answer, needed, message):
    """The answer to a test key of an operation that needs ``needed``; ``message``: of its error."""
    if needed <= TEST_KEY_PERMISSIONS:
        assert answer.status_code not in (401, 403, 405), answer.text
        assert answer.status_code < 500, answer.text
        return
    assert answer.status_code == 403, answer.text
    if needed <= KEY_PERMISSIONS:
        [permission] = needed
        assert message(answer.json()) == f"A test key does not have the permission {permission}: use a live key."


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
async def test_a_test_key_changes_nothing_that_is_live(gateway, method, path, operation):
    """Each operation on the objects that a live key and a person have made."""
    test_key = await gateway.another_key(is_test=True)
    objects = await objects_of(gateway, await a_person(gateway, "owner@example.com", shop="owner"))
    named = re.sub(r"\{(\w+)\}", lambda found: (CHOICES | {"slug": "shop"} | objects)[found[1]], path)

    async def expanded():  # the gateway itself changes the live job until then
        return await gateway.pool.fetchval("SELECT finished_at IS NOT NULL FROM bulk_jobs")

    await wait_until(expanded)
    before = await live_rows(gateway.pool)

    filters = FILTERS.get(operation["operationId"], {})
    answer = await gateway.ask(method, named, key=test_key, **request_of(operation), params=filters)

    check_test_key(answer, NEEDED[operation["operationId"]], lambda body: body["error"]["message"])
    check_unchanged(before, await live_rows(gateway.pool))


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
async def test_an_operation_is_closed_without_credentials_and_to_strangers(gateway, method, path, operation):
    stranger = await a_person(gateway, "stranger@example.com", own="owner")

    without = await outcome(gateway.client.request, method, path, operation, "shop")
    foreign = [
        await stranger.ask(method, url(path, slug), project=slug, **request_of(operation))
        for slug in ("shop", "there-is-none")
    ]

    assert without == 401
    if NEEDED[operation["operationId"]] <= set(Permission):
        assert [answer.status_code for answer in foreign] == [404, 404]
        assert foreign[0].json() == foreign[1].json()


def test_the_document_has_every_route_that_needs_a_permission():
    documented = {operation.values[2]["operationId"] for operation in OPERATIONS}

    assert documented == {name for name, needed in NEEDED.items() if needed}


# -- ids of other projects ---------------------------------------------------------------------------------------------


PROVIDER = {"packageName": "provider-messagepipe", "name": "text"}
A_BULK_JOB = {
    "content": b'{"message":{"channel":"sms","from":"Shop","text":"x"}}\n{"to":"+14155551234"}',
    "headers": {"content-type": "application/jsonl"},
}


async def objects_of(gateway, owner):
    """One object of each kind in the project ``shop``, by the name of its path parameter."""
    keys, members = "/v1/projects/shop/keys", "/v1/projects/shop/members"
    template = {"name": "x", "kind": "text", "text": "x"}
    suppression = {"channel": "email", "addresses": ["ada@example.com"]}
    hook = {"url": "https://shop.example/hook", "events": ["sent"]}
    webhook_id = (await gateway.ask("POST", "/v1/webhooks", json=hook)).json()["id"]
    return {
        "webhook_id": webhook_id,
        "delivery_id": (await gateway.ask("POST", f"/v1/webhooks/{webhook_id}/test")).json()["id"],
        "template_id": (await gateway.ask("POST", "/v1/templates", json=template)).json()["id"],
        "suppression_id": (await gateway.ask("POST", "/v1/suppressions", json=suppression)).json()["data"][0]["id"],
        "message_id": (await gateway.post()).json()["id"],
        "bulk_id": (await gateway.ask("POST", "/v1/messages/bulk", **A_BULK_JOB)).json()["id"],
        "key_id": (await owner.ask("POST", keys, json={"name": "x"})).json()["id"],
        "invitation_id": (await owner.ask("POST", members, json={"email": "new@example.com"})).json()["id"],
        "session_id": (await owner.ask("GET", "/v1/auth/sessions")).json()["data"][0]["id"],
        "provider_id": (await gateway.ask("POST", "/v1/providers", json=PROVIDER)).json()["id"],
        "domain_id": (await gateway.ask("POST", "/v1/domains", json={"domain": "shop.example"})).json()["id"],
        "user_id": encode_id("usr", owner.user.id),
        "incident_id": encode_id("inc", await an_incident(gateway)),
        "capture_id": await a_captured(gateway),
    }


async def an_incident(gateway):
    return await gateway.pool.fetchval(
        "INSERT INTO incidents (id, project_id, channel, opened_at, cause)"
        " SELECT gen_random_uuid(), id, 'sms', now(), 'x' FROM projects WHERE slug = 'shop' RETURNING id"
    )


async def a_captured(gateway):
    return await gateway.pool.fetchval(
        "INSERT INTO sandbox_messages SELECT $1, project_id, id, 'sms', 'x', $2, now() FROM messages LIMIT 1"
        " RETURNING reference",
        *(attempt_reference(an_id(), 1), '{"channel":"sms","sender":"Shop","text":"x"}'),
    )


@pytest.mark.parametrize(
    ("method", "path", "operation"), [one for one in OPERATIONS if re.search(r"\{(?!slug|name)", str(one.values[1]))]
)
async def test_an_id_of_another_project_is_answered_as_an_unknown_one(gateway, method, path, operation):
    owner = await a_person(gateway, "owner@example.com", shop="owner")
    eve = await a_person(gateway, "eve@example.com", evil="owner")
    objects = await objects_of(gateway, owner)
    own = path.replace("{slug}", "evil")

    answers = [
        await eve.ask(method, re.sub(r"\{(\w+)\}", value, own), project="evil", json=body_of(operation))
        for value in (
            lambda found: CHOICES.get(found[1]) or objects[found[1]],
            lambda found: CHOICES.get(found[1]) or encode_id(PREFIXES[found[1]], an_id()),
            lambda found: CHOICES.get(found[1]) or "no-id",
        )
    ]

    assert [answer.status_code for answer in answers] == [404] * 3
    assert len({answer.content for answer in answers}) == 1


# -- hostile input -----------------------------------------------------------------------------------------------------

HOSTILE = [
    "",
    "\0",
    "\ud800",
    "\u202e",
    "a" * 100_000,
    "' OR 1=1 --",
    "../..",
    "%00",
    2**70,
    -1,
    1e400,
    True,
    None,
    [],
    {},
]


@pytest.mark.parametrize(("method", "path", "operation"), ALL_OPERATIONS)
async def test_hostile_values_are_the_callers_error(gateway, method, path, operation):
    person = await a_person(gateway, "ada@example.com", shop="owner")
    body = body_of(operation) or {}
    bodies = [json.dumps(body | {field: value}) for field in body for value in HOSTILE]
    queries = [{name: value} for name in parameters(operation, "query") for value in HOSTILE if is_sendable(value)]
    named = url(path, "shop")
    answers = [await person.ask(method, named, project="shop", content=content) for content in bodies]
    answers += [await person.ask(method, named, project="shop", params=query, json=body) for query in queries]
    for value in ("%00", "%ed%a0%80", "a" * 5_000, "%2e%2e", "'"):
        answers.append(await person.ask(method, re.sub(r"\{\w+\}", value, path), project="shop", json=body))

    assert [answer.text for answer in answers if answer.status_code >= 500] == []


def is_sendable(value):
    return isinstance(value, str) and "\ud800" not in value and len(value) < 10_000


def parameters(operation, place):
    return [one["name"] for one in operation.get("parameters", []) if one["in"] == place]
