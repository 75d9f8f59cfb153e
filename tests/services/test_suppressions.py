"""Suppressions: the routes, the check at ingest, and the links with which recipients unsubscribe."""

import asyncio
import base64
import json
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from gateway.unsubscribe.links import Subscription, UnsubscribeLinks
from sluice.model.ids import encode_id
from sluice.store import audit, projects, suppressions
from sluice.store.config_cache import ConfigCache
from sluice.store.logins import GATEWAY
from tests.engine import as_login
from tests.examples import PROJECT, a_body, an_id, as_json
from tests.polling import wait_until
from tests.services.test_gateway import Gateway, error_of

SUPPRESSIONS = "/v1/suppressions"
ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"


async def suppress(gateway, *addresses, channel="email", **changes):
    body = {"channel": channel, "addresses": list(addresses)} | changes
    answer = await gateway.ask("POST", SUPPRESSIONS, json=body)
    assert answer.status_code == 201, answer.text

    async def is_known():
        return any(project.has_suppressions for project in gateway.config.projects.values() if project.slug == "shop")

    await wait_until(is_known)
    return answer.json()


async def send(gateway, **options):
    changes = {name: value for name, value in options.items() if name != "key"}
    answer = await gateway.post(as_json(a_body(**changes)), **({"key": options["key"]} if "key" in options else {}))
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


async def message(gateway, message_id, **options):
    return (await gateway.ask("GET", f"/v1/messages/{message_id}", **options)).json()


async def listed(gateway, **filters):
    answer = await gateway.ask("GET", SUPPRESSIONS, params=filters)
    assert answer.status_code == 200, answer.text
    return [row["address"] for row in answer.json()["data"]]


def tasks(gateway):
    return gateway.bus.on("deliveries.accepted")


def events(gateway):
    return [json.loads(value) for value in gateway.bus.on("delivery.events")]


# -- the routes --------------------------------------------------------------------------------------------------------


async def test_addresses_are_added_once_listed_and_removed(gateway):
    first = await suppress(gateway, "Ada Lovelace <Ada@EXAMPLE.com>", BOB, detail="by phone")
    again = await suppress(gateway, ADA, EVE, reason="complaint")
    one = f"{SUPPRESSIONS}/{first['data'][0]['id']}"
    read = (await gateway.ask("GET", one)).json()
    removed = await gateway.ask("DELETE", one)
    gone = [await gateway.ask(method, one) for method in ("GET", "DELETE")]

    assert (first["added"], [row["address"] for row in first["data"]]) == (2, [ADA, BOB])
    assert read == first["data"][0] | {"channel": "email", "reason": "manual", "detail": "by phone", "source": None}
    assert (again["added"], [row["reason"] for row in again["data"]]) == (1, ["manual", "complaint"])
    assert removed.json() == {"id": read["id"], "deleted": True}
    for answer in gone:
        error_of(answer, 404, "NOT_FOUND")
    assert await listed(gateway) == [EVE, BOB]


async def test_a_list_is_filtered_and_paged(gateway):
    await suppress(gateway, ADA)
    await suppress(gateway, BOB, reason="complaint")
    await suppress(gateway, "+14155550001", channel="sms")

    page = (await gateway.ask("GET", SUPPRESSIONS, params={"limit": 2})).json()
    rest = (await gateway.ask("GET", SUPPRESSIONS, params={"cursor": page["next_cursor"]})).json()

    assert [row["address"] for row in page["data"] + rest["data"]] == ["+14155550001", BOB, ADA]
    assert await listed(gateway, channel="sms") == ["+14155550001"]
    assert await listed(gateway, reason="complaint") == [BOB]
    assert await listed(gateway, channel="email", address="ADA@example.com") == [ADA]
    assert await listed(gateway, until=page["data"][0]["created_at"]) == [BOB, ADA]
    assert await listed(gateway, since=page["data"][0]["created_at"]) == ["+14155550001"]


async def test_all_that_match_are_removed_at_once(gateway):
    await suppress(gateway, ADA, BOB, reason="hard_bounce")
    await suppress(gateway, EVE, reason="complaint")
    since = (await gateway.ask("GET", SUPPRESSIONS)).json()["data"][-1]["created_at"]

    without = await gateway.ask("DELETE", SUPPRESSIONS)
    removed = await gateway.ask("DELETE", SUPPRESSIONS, params={"reason": "hard_bounce", "since": since})

    error_of(without, 400, "VALIDATION_ERROR")
    assert removed.json() == {"removed": 2}
    assert await listed(gateway) == [EVE]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"channel": "email", "addresses": [ADA, "no address"]}, "addresses.1"),
        ({"channel": "email", "addresses": []}, "addresses"),
        ({"channel": "email", "addresses": [ADA] * 1001}, "addresses"),
        ({"channel": "sms", "addresses": [" "]}, "addresses.0"),
        ({"channel": "sms", "addresses": ["1\n2"]}, "addresses.0"),
        ({"channel": "push", "addresses": ["x" * 601]}, "addresses.0"),
        ({"channel": "fax", "addresses": [ADA]}, "channel"),
        ({"channel": "email", "addresses": [ADA], "reason": "x"}, "reason"),
        ({"channel": "email", "addresses": [ADA], "detail": "a\0"}, "detail"),
        ({"addresses": [ADA]}, "channel"),
    ],
)
async def test_a_bad_suppression_names_the_field(gateway, body, field):
    assert error_of(await gateway.ask("POST", SUPPRESSIONS, json=body), 400, "VALIDATION_ERROR")["field"] == field


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"address": ADA}, "channel"),
        ({"channel": "email", "address": "x"}, "address"),
        ({"reason": "x"}, "reason"),
        ({"provider": "x"}, "provider"),
        ({"since": "yesterday"}, "since"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_bad_filter_names_the_field(gateway, method, params, field):
    answer = await gateway.ask(method, SUPPRESSIONS, params=params)

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == field


async def test_changes_are_in_the_audit_log(gateway):
    added = await suppress(gateway, ADA, BOB)
    await gateway.ask("DELETE", f"{SUPPRESSIONS}/{added['data'][0]['id']}")
    await gateway.ask("DELETE", SUPPRESSIONS, params={"reason": "manual"})
    project = await projects.find_project_by_slug(gateway.pool, "shop")

    entries = await audit.list_entries(gateway.pool, project.id, limit=10, noun="suppression")

    assert [(entry.action, dict(entry.changes)) for entry in entries] == [
        ("deleted", {"reason": "manual", "removed": 1}),
        ("deleted", {"channel": "email", "reason": "manual", "address": ADA}),
        ("created", {"channel": "email", "reason": "manual", "addresses": [ADA, BOB]}),
    ]


# -- sending -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", [ADA, "Ada <ADA@Example.COM>"])
async def test_a_suppressed_recipient_fails_without_a_call(gateway, to):
    await suppress(gateway, ADA, reason="complaint")

    found = await message(gateway, await send(gateway, to=[to]))

    assert (found["status"], found["attempts"]) == ("FAILED", 0)
    assert [(event["type"], event["reason"]) for event in found["events"]] == [
        ("accepted", None),
        ("failed", "suppressed"),
    ]
    assert found["events"][1]["detail"] == "the address is suppressed: complaint"
    assert tasks(gateway) == []
    await wait_until(lambda: len(events(gateway)) == 1)
    (event,) = events(gateway)
    assert (event["type"], event["state"], event["reason"], event["sequence"]) == ("failed", "FAILED", "suppressed", 2)
    assert await gateway.pool.fetchval("SELECT count(*) FROM deliveries WHERE due_at IS NOT NULL") == 0


async def test_the_suppressions_of_a_project_that_the_cache_does_not_contain_yet_are_read(gateway):
    await suppress(gateway, ADA)
    gateway.config.projects.clear()

    found = await message(gateway, await send(gateway))

    assert (found["status"], found["attempts"]) == ("FAILED", 0)


async def test_the_event_is_published_later_if_kafka_is_away(gateway):
    await suppress(gateway, ADA)
    gateway.bus.unavailable = True

    await send(gateway)

    row = await gateway.pool.fetchrow("SELECT delivery_ids, sequences FROM event_outbox")
    assert (len(row["delivery_ids"]), row["sequences"]) == (1, [2])


async def test_the_other_recipients_of_a_mail_get_it(gateway):
    await suppress(gateway, ADA, EVE)

    found = await message(gateway, await send(gateway, to=[f"Ada <{ADA}>", "Bob <Bob@example.com>"], bcc=[EVE]))

    rows = await gateway.pool.fetch("SELECT recipient, state, envelope FROM deliveries ORDER BY state")
    assert [tuple(row) for row in rows] == [
        (ADA, "FAILED", [ADA, EVE]),
        ("Bob@example.com", "QUEUED", ["Bob@example.com"]),
    ]
    assert found["status"] == "QUEUED"
    assert len(tasks(gateway)) == 1


async def test_each_suppressed_number_of_several_fails_alone(gateway):
    await suppress(gateway, "+14155550001", channel="sms")
    sms = {"channel": "sms", "from": "Shop", "to": ["+14155550001", "+14155550002"], "text": "x"}

    await gateway.post(as_json(sms))
    await gateway.post(as_json({"channel": "whatsapp", "to": ["+14155550001"], "text": "x"}))

    rows = await gateway.pool.fetch("SELECT channel, recipient, state FROM deliveries ORDER BY channel, recipient")
    assert [tuple(row) for row in rows] == [
        ("sms", "+14155550001", "FAILED"),
        ("sms", "+14155550002", "QUEUED"),
        ("whatsapp", "+14155550001", "QUEUED"),
    ]
    assert len(tasks(gateway)) == 2


async def test_another_project_is_not_affected(gateway):
    await suppress(gateway, ADA)
    other = await gateway.new_project("other")

    found = await message(gateway, await send(gateway, key=other), key=other)

    assert found["status"] == "QUEUED"


async def test_after_the_removal_messages_are_sent_again(gateway):
    added = await suppress(gateway, ADA)
    await gateway.ask("DELETE", f"{SUPPRESSIONS}/{added['data'][0]['id']}")

    assert (await message(gateway, await send(gateway)))["status"] == "QUEUED"


async def test_one_statement_checks_many_messages(gateway, monkeypatch):
    await suppress(gateway, ADA)
    batches = []
    find = suppressions.find

    async def counted(db, recipients):
        batches.append(recipients)
        return await find(db, recipients)

    monkeypatch.setattr(suppressions, "find", counted)

    await asyncio.gather(*(send(gateway, to=[to]) for to in [ADA, BOB] * 30))

    assert sum(map(len, batches)) == 60
    assert len(batches) < 20
    states = await gateway.pool.fetch("SELECT state, count(*) AS n FROM deliveries GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in states] == [("FAILED", 30), ("QUEUED", 30)]


async def test_a_project_without_suppressions_costs_no_statement(gateway, monkeypatch):
    async def never(*_):
        raise AssertionError

    monkeypatch.setattr(suppressions, "find", never)

    assert (await message(gateway, await send(gateway)))["status"] == "QUEUED"


async def test_a_repeat_of_a_suppressed_message_gets_the_first_answer(gateway):
    await suppress(gateway, ADA)

    first, second = await send(gateway, idempotency_key="k"), await send(gateway, idempotency_key="k")

    assert first == second
    assert await gateway.pool.fetchval("SELECT count(*) FROM events") == 2


async def test_a_deleted_project_keeps_no_addresses(gateway):
    await suppress(gateway, ADA)
    project = await projects.find_project_by_slug(gateway.pool, "shop")

    await projects.delete_project(gateway.pool, project.id, now=project.created_at)

    assert await gateway.pool.fetchval("SELECT count(*) FROM suppressions") == 0


async def test_a_link_of_a_deleted_project_adds_no_address(gateway):
    path = await a_link(gateway)
    project = await projects.find_project_by_slug(gateway.pool, "shop")
    await projects.delete_project(gateway.pool, project.id, now=project.created_at)

    clicked = await gateway.client.post(path, data={"List-Unsubscribe": "One-Click"})

    assert clicked.status_code == 200
    assert await gateway.pool.fetchval("SELECT count(*) FROM suppressions") == 0


# -- links to unsubscribe ----------------------------------------------------------------------------------------------


async def a_link(gateway, **options):
    await send(gateway, unsubscribe=True, **options)
    content = json.loads(await gateway.pool.fetchval("SELECT content FROM messages ORDER BY id DESC LIMIT 1"))
    return urlsplit(content["unsubscribe_url"]).path


async def test_a_link_unsubscribes_in_one_click_and_nothing_before(gateway):
    path = await a_link(gateway)
    page = await gateway.client.get(path)
    before = await listed(gateway)
    clicked = await gateway.client.post(path, data={"List-Unsubscribe": "One-Click"})
    again = await gateway.client.post(path, files={"List-Unsubscribe": (None, "One-Click")})
    (row,) = (await gateway.ask("GET", SUPPRESSIONS)).json()["data"]

    assert (page.status_code, clicked.status_code, again.status_code) == (200, 200, 200)
    assert '<form method="post">' in page.text
    assert ADA in page.text
    assert before == []
    assert (row["address"], row["reason"]) == (ADA, "unsubscribe")
    message_id = await gateway.pool.fetchval("SELECT id FROM messages")
    assert row["source"] == {"message_id": encode_id("msg", message_id), "event_id": None, "provider_id": None}
    for answer in (page, clicked):
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_the_address_on_the_page_is_text(gateway):
    path = await a_link(gateway, to=['"<b>x</b>"@example.com'])

    page = await gateway.client.get(path)

    assert "<b>x</b>" not in page.text
    assert "&lt;b&gt;x&lt;/b&gt;" in page.text


def with_another_letter(text):
    return f"{text[:60]}{'A' if text[60] != 'A' else 'B'}{text[61:]}"


@pytest.mark.parametrize("change", [lambda path: path[:-4], lambda path: path + "AAAA", with_another_letter])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_changed_link_does_nothing(gateway, change, method):
    path = await a_link(gateway)

    answer = await gateway.client.request(method, change(path))

    assert answer.status_code == 404
    assert await listed(gateway) == []


@pytest.mark.parametrize("token", ["x", "%00", "é", "a" * 2000, "../v1", "AAAA" * 20])
async def test_what_is_no_link_is_answered_as_such(gateway, token):
    assert (await gateway.client.get(f"/unsubscribe/{token}")).status_code in (404, 401)


async def test_the_link_of_a_test_message_suppresses_nothing(gateway):
    test_key = await gateway.another_key(is_test=True)
    path = await a_link(gateway, key=test_key)

    assert (await gateway.client.post(path)).status_code == 200
    assert await listed(gateway) == []


async def test_a_large_body_is_refused(gateway):
    path = await a_link(gateway)

    error_of(await gateway.client.post(path, content=b"x" * 5000), 413, "PAYLOAD_TOO_LARGE")


def test_a_link_works_after_a_rotation_of_the_keys():
    old, new = bytes(32), bytes([1]) * 32
    keys = [old]
    links = UnsubscribeLinks(lambda: keys, public_url="https://sluice.test/")
    subscription = Subscription(PROJECT, an_id(), "ädä@example.com", False)
    token = links.url(subscription).rpartition("/")[2]

    assert links.url(subscription).startswith("https://sluice.test/unsubscribe/")
    assert links.read(token) == subscription
    keys[:] = [new, old]
    assert UnsubscribeLinks(lambda: keys, public_url=None).read(token) == subscription
    assert UnsubscribeLinks(lambda: [new], public_url=None).read(token) is None


def test_the_token_of_a_project_is_none_of_another():
    links = UnsubscribeLinks(lambda: [bytes(32)], public_url="https://sluice.test")
    token = links.url(Subscription(PROJECT, an_id(), ADA, False)).rpartition("/")[2]

    content = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    content[:16] = UUID(int=7).bytes
    assert links.read(base64.urlsafe_b64encode(content).decode().rstrip("=")) is None


async def test_a_suppression_counts_in_every_gateway(gateway, role_pools, store_database):
    async with ConfigCache().subscribed(as_login(store_database, GATEWAY)) as config:
        other = Gateway(gateway.pool, role_pools.gateway, config, gateway.bus)
        await suppress(gateway, ADA)
        project_id = await gateway.pool.fetchval("SELECT id FROM projects")

        await wait_until(lambda: config.projects[project_id].has_suppressions)
        await other.client.aclose()


# -- cancellation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["email", "sms"])
async def test_a_message_with_a_suppressed_recipient_is_cancelled_for_the_others(gateway, channel):
    if channel == "email":
        stopped, other = ADA, BOB
        body = a_body(to=[stopped, other])
    else:
        stopped, other = "+14155550001", "+14155550002"
        body = {"channel": "sms", "from": "Shop", "to": [stopped, other], "text": "Hello"}
    await suppress(gateway, stopped, channel=channel)
    message_id = (await gateway.post(as_json(body))).json()["id"]

    answers = [await gateway.ask("DELETE", f"/v1/messages/{message_id}/cancel") for _ in range(2)]

    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(200, "CANCELLED")] * 2
    found = {one["recipient"]: one["status"] for one in answers[0].json()["deliveries"]}
    assert found == {stopped: "FAILED", other: "CANCELLED"}
    assert sorted(event["type"] for event in events(gateway)) == ["cancelled", "failed"]
    listed = (await gateway.ask("GET", "/v1/messages", params={"status": "CANCELLED"})).json()["data"]
    assert [one["id"] for one in listed] == [message_id]


async def test_a_message_whose_recipients_are_all_suppressed_has_failed_and_is_not_cancelled(gateway):
    await suppress(gateway, ADA)
    message_id = await send(gateway, to=[ADA])

    error_of(await gateway.ask("DELETE", f"/v1/messages/{message_id}/cancel"), 409, "MESSAGE_NOT_CANCELLABLE")
