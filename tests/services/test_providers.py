"""Providers and packages of ``/v1``."""

import asyncio
import json

import pytest
from aiosmtpd.controller import Controller
from prometheus_client import REGISTRY

from sluice.bus.messages import ProviderHealth
from sluice.model.ids import decode_id, encode_id
from sluice.model.message import Channel
from sluice.providers.registry import PACKAGES
from sluice_launcher.process_info import free_port
from tests.examples import NOON, an_id
from tests.polling import wait_until
from tests.services.people import a_person
from tests.services.test_gateway import error_of

PROVIDERS = "/v1/providers"
TERMII = {"apiKey": "k" * 20, "senderId": "ACME", "webhookToken": "t" * 16}
AUTH = {"user": "shop", "pass": "correct-horse-battery"}
SMTP = {"host": "smtp.example.com", "port": 587, "auth": AUTH}


@pytest.fixture
async def ada(gateway):
    return await a_person(gateway, "ada@example.com", shop="owner")


async def add(gateway, name="mail", **changes):
    body = {"packageName": "provider-smtp", "name": name, "credentials": SMTP} | changes
    answer = await gateway.ask("POST", PROVIDERS, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def names(gateway, **query):
    answer = await gateway.ask("GET", PROVIDERS, params=query)
    return [(row["name"], row["position"]) for row in answer.json()["data"]]


class Mailbox:
    """A mail server that keeps what it takes, and refuses logins with another password."""

    def __init__(self, code="250 OK"):
        self.mails = []
        self._code = code

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(envelope)
        return self._code

    def __enter__(self):
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())
        self._controller.start()
        self.credentials = {"host": "127.0.0.1", "port": self._controller.port, "secure": False, "requireTLS": False}
        return self

    def __exit__(self, *_):
        self._controller.stop()


# -- create, list, get -------------------------------------------------------------------------------------------------


async def test_a_provider_is_shown_without_its_credentials(gateway):
    created = await add(gateway)
    found = await gateway.ask("GET", f"{PROVIDERS}/{created['id']}")

    assert found.json() == created
    assert created["credentials"] == {
        "status": "set",
        "fields": {"host": "••••.com", "port": "••••", "auth.user": "••••", "auth.pass": "••••tery"},
    }
    assert (created["packageName"], created["channel"], created["enabled"]) == ("provider-smtp", "email", True)
    assert created["health"]["status"] == "healthy"
    stored = str(await gateway.pool.fetch("SELECT * FROM providers, audit_log"))
    assert "correct-horse" not in stored + found.text


@pytest.mark.parametrize(
    ("package", "credentials", "field"),
    [
        ("provider-smtp", {**SMTP, "host": "169.254.169.254"}, "credentials.host"),
        ("provider-smtp", {**SMTP, "host": "[::ffff:10.0.0.1]"}, "credentials.host"),
        ("provider-smtp", {**SMTP, "host": "0x0a000001"}, "credentials.host"),
        ("provider-resend", {"apiKey": "re_" + "k" * 20, "baseUrl": "http://10.0.0.1:9200"}, "credentials.baseUrl"),
        ("provider-signal", {"baseUrl": "http://192.168.1.4:8080", "number": "+4915112345678"}, "credentials.baseUrl"),
    ],
)
async def test_an_address_that_may_not_be_dialled_is_refused_when_it_is_saved(gateway, package, credentials, field):
    body = {"packageName": package, "name": "inside", "credentials": credentials}

    created = await gateway.ask("POST", PROVIDERS, json=body)
    existing = await add(gateway)
    changed = await gateway.ask("PATCH", f"{PROVIDERS}/{existing['id']}", json={"credentials": credentials})

    assert created.status_code == 400, created.text
    assert (created.json()["error"]["field"], "not public" in created.text) == (field, True)
    if package == "provider-smtp":
        assert changed.status_code == 400
    assert await names(gateway) == [("mail", 1)]


@pytest.mark.parametrize("host", ["a[b", "a]b", "a[b]", "[::::]", "[", "a:70000", ":"])
@pytest.mark.parametrize("package", ["provider-resend", "provider-signal"])
async def test_an_address_without_a_host_is_refused(gateway, package, host):
    own = {"provider-resend": {"apiKey": "re_" + "k" * 20}, "provider-signal": {"number": "+4915112345678"}}
    credentials = {**own[package], "baseUrl": f"https://{host}/"}

    answer = await gateway.ask(
        "POST", PROVIDERS, json={"packageName": package, "name": "x", "credentials": credentials}
    )

    error_of(answer, 400, "VALIDATION_ERROR")
    assert answer.json()["error"]["field"] == "credentials.baseUrl"


async def test_providers_are_listed_in_routing_order_and_of_one_channel(gateway):
    await add(gateway, "second")
    await add(gateway, "first", priority=0)
    sms = {"packageName": "provider-twilio", "credentials": {"accountSid": "AC" + "0" * 32, "authToken": "a" * 32}}
    await add(gateway, "text", **sms)

    assert await names(gateway) == [("first", 1), ("second", 2), ("text", 1)]
    assert await names(gateway, channel="sms") == [("text", 1)]


async def test_a_new_provider_is_a_candidate_within_a_second(gateway):
    created = await add(gateway)

    async def known():
        (project,) = gateway.config.projects
        return [one.id for one in gateway.config.candidates(project, Channel.EMAIL)] == [
            decode_id("prv", created["id"])
        ]

    await wait_until(known)


async def test_the_health_is_live(gateway):
    created = await add(gateway)
    gateway.health[decode_id("prv", created["id"])] = ProviderHealth(
        provider_id=decode_id("prv", created["id"]),
        project_id=an_id(),
        channel=Channel.EMAIL,
        status="unhealthy",
        reason="5 failures in a row",
        probe_at=NOON,
        error_rate=0.5,
        effective_samples=10,
        updated_at=NOON,
    )

    health = (await gateway.ask("GET", f"{PROVIDERS}/{created['id']}")).json()["health"]

    assert (health["status"], health["error_rate"], health["probe_at"]) == (
        "unhealthy",
        0.5,
        "2026-08-20T12:00:00.000Z",
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"packageName": "provider-none"}, "packageName"),
        ({"credentials": {}}, "credentials.host"),
        ({"credentials": SMTP | {"port": "x"}}, "credentials.port"),
        ({"credentials": SMTP | {"auth": AUTH | {"pass": 1}}}, "credentials.auth.pass"),
        ({"credentials": SMTP | {"other": 1}}, "credentials.other"),
        ({"credentials": "x"}, "credentials"),
        ({"channel": "sms"}, "channel"),
        ({"name": "a\nb"}, "name"),
        ({"priority": -1}, "priority"),
        ({"priority": True}, "priority"),
        ({"settings": {"concurrency": 0}}, "settings.concurrency"),
        ({"settings": {"calls_per_second": 0}}, "settings.calls_per_second"),
        ({"settings": {"weight": 0}}, "settings.weight"),
        ({"settings": {"weight": "1"}}, "settings.weight"),
        ({"settings": {"price": -0.01}}, "settings.price"),
        ({"settings": {"price": True}}, "settings.price"),
        ({"settings": {"segments_per_second": 0}}, "settings.segments_per_second"),
        ({"settings": {"segments_per_second": 5}}, "settings.segments_per_second"),  # not of e-mail
        ({"settings": {"other": 0}}, "settings.other"),
        ({"verify": {"to": "no address"}}, "to.0"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_stored(gateway, changes, field):
    body = {"packageName": "provider-smtp", "name": "mail", "credentials": SMTP} | changes

    error = error_of(await gateway.ask("POST", PROVIDERS, json=body), 400, "VALIDATION_ERROR")

    assert error["field"] == field
    assert "correct-horse" not in error["message"]
    assert await gateway.pool.fetchval("SELECT count(*) FROM providers") == 0


async def test_the_receipt_url_has_the_token_where_the_package_uses_one(gateway):
    sms = {"packageName": "provider-termii", "credentials": TERMII}
    termii = await add(gateway, "termii", **sms)
    smtp = await add(gateway)

    assert termii["receipt_url"] == f"https://gateway.example/v1/receipts/{termii['id']}?token={'t' * 16}"
    assert smtp["receipt_url"] is None


async def test_segments_are_limited_instead_of_calls(gateway):
    sms = {"packageName": "provider-termii", "credentials": TERMII}
    created = await add(gateway, "termii", **sms, settings={"segments_per_second": 5})
    both = {"settings": {"segments_per_second": 5, "calls_per_second": 5}}

    assert created["settings"]["segments_per_second"] == 5
    refused = await gateway.ask("PATCH", f"{PROVIDERS}/{created['id']}", json=both)
    assert error_of(refused, 400, "VALIDATION_ERROR")["field"] == "settings.segments_per_second"
    mail = await add(gateway)
    refused = await gateway.ask("PATCH", f"{PROVIDERS}/{mail['id']}", json={"settings": {"segments_per_second": 5}})
    assert error_of(refused, 400, "VALIDATION_ERROR")["field"] == "settings.segments_per_second"


# -- update ------------------------------------------------------------------------------------------------------------


async def test_a_change_is_visible_and_counts_the_version(gateway):
    created = await add(gateway)
    changes = {"name": "new", "enabled": False, "settings": {"concurrency": 3}}

    changed = await gateway.ask("PATCH", f"{PROVIDERS}/{created['id']}", json=changes)
    again = await gateway.ask("PATCH", f"{PROVIDERS}/{created['id']}", json=changes)

    unset = dict.fromkeys(("calls_per_second", "segments_per_second", "weight", "price"))
    assert changed.json() | changes | {"settings": {"concurrency": 3, **unset}} == changed.json()
    assert (changed.json()["version"], again.json()["version"]) == (2, 2)

    async def disabled():
        row = gateway.config.providers.get(decode_id("prv", created["id"]))
        return row is not None and not row.enabled and row.settings == {"concurrency": 3}

    await wait_until(disabled)


async def test_new_credentials_replace_all_and_are_opened_by_the_workers(gateway):
    created = await add(gateway)
    new = {"host": "smtp.example.org", "port": 25}

    changed = await gateway.ask("PATCH", f"{PROVIDERS}/{created['id']}", json={"credentials": new})

    assert changed.json()["credentials"]["fields"] == {"host": "••••.org", "port": "••••"}
    row = await gateway.pool.fetchrow("SELECT * FROM providers")
    bound = {"project_id": row["project_id"], "provider_id": row["id"], "version": row["credentials_version"]}
    assert json.loads(gateway.cipher.decrypt(row["encrypted_credentials"], **bound)) == new
    assert row["credentials_version"] == 2


@pytest.mark.parametrize("body", [{"name": None}, {"credentials": None}, {"verify": {"to": "a@example.com"}}, {"x": 1}])
async def test_a_bad_change_is_refused(gateway, body):
    created = await add(gateway)

    error_of(await gateway.ask("PATCH", f"{PROVIDERS}/{created['id']}", json=body), 400, "VALIDATION_ERROR")


async def test_a_change_of_another_version_is_refused(gateway):
    created = await add(gateway)
    path = f"{PROVIDERS}/{created['id']}"

    first = await gateway.ask("PATCH", path, json={"name": "a", "version": 1})
    second = await gateway.ask("PATCH", path, json={"name": "b", "version": 1})

    assert first.status_code == 200
    assert error_of(second, 409, "VERSION_CONFLICT")["field"] == "version"


async def test_concurrent_changes_of_credentials_leave_readable_ones(gateway):
    created = await add(gateway)
    path = f"{PROVIDERS}/{created['id']}"

    answers = await asyncio.gather(
        *(gateway.ask("PATCH", path, json={"credentials": SMTP | {"port": port}}) for port in range(1, 9))
    )

    assert {answer.json()["credentials"]["status"] for answer in answers} == {"set"}
    assert (await gateway.ask("GET", path)).json()["version"] == 9


# -- unreadable credentials --------------------------------------------------------------------------------------------


async def test_unreadable_credentials_are_shown_counted_and_replaced(gateway):
    broken, whole = await add(gateway, "broken"), await add(gateway, "whole")
    await gateway.pool.execute(
        "UPDATE providers SET encrypted_credentials = '\\x01deadbeef' WHERE id = $1", decode_id("prv", broken["id"])
    )
    series = ("sluice_unreadable_credentials_total", {"package": "provider-smtp"})
    before = REGISTRY.get_sample_value(*series) or 0

    await gateway.ask("GET", f"{PROVIDERS}/{broken['id']}")
    listed = (await gateway.ask("GET", PROVIDERS)).json()["data"]
    tested = await gateway.ask("POST", f"{PROVIDERS}/{broken['id']}/test", json={"to": "a@example.com"})
    repaired = await gateway.ask("PATCH", f"{PROVIDERS}/{broken['id']}", json={"credentials": SMTP})

    assert [row["credentials"]["status"] for row in listed] == ["unreadable", "set"]
    assert listed[1] == whole
    assert (REGISTRY.get_sample_value(*series) or 0) == before + 1  # the test call; reading is no use
    assert error_of(tested, 400, "VALIDATION_ERROR")["field"] == "credentials"
    assert repaired.json()["credentials"]["status"] == "set"


# -- order and removal -------------------------------------------------------------------------------------------------


async def test_the_order_is_set_and_the_others_follow(gateway):
    rows = {name: (await add(gateway, name))["id"] for name in "abcd"}

    answer = await gateway.ask(
        "POST", f"{PROVIDERS}/reorder", json={"channel": "email", "providerIds": [rows["d"], rows["b"]]}
    )

    assert [row["name"] for row in answer.json()["data"]] == ["d", "b", "a", "c"]
    assert await names(gateway) == [("d", 1), ("b", 2), ("a", 3), ("c", 4)]


@pytest.mark.parametrize("wrong", ["other channel", "repeated", "unknown", "malformed", "foreign"])
async def test_a_wrong_id_in_an_order_is_named(gateway, wrong):
    first = (await add(gateway))["id"]
    sms = {"packageName": "provider-messagepipe", "credentials": {}}
    eve = await a_person(gateway, "eve@example.com", evil="owner")
    body = {"packageName": "provider-smtp", "name": "x", "credentials": SMTP}
    ids = {
        "other channel": (await add(gateway, "text", **sms))["id"],
        "repeated": first,
        "unknown": encode_id("prv", an_id()),
        "malformed": "prv_x",
        "foreign": (await eve.ask("POST", PROVIDERS, project="evil", json=body)).json()["id"],
    }

    answer = await gateway.ask(
        "POST", f"{PROVIDERS}/reorder", json={"channel": "email", "providerIds": [first, ids[wrong]]}
    )

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == "providerIds.1"


async def test_a_removed_provider_is_gone_and_kept_for_its_receipts(gateway):
    created = await add(gateway)
    path = f"{PROVIDERS}/{created['id']}"

    assert (await gateway.ask("DELETE", path)).json() == {"id": created["id"], "deleted": True}
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        error_of(await gateway.ask(method, path, json=body), 404, "NOT_FOUND")
    assert await names(gateway) == []
    assert await gateway.pool.fetchval("SELECT deleted_at IS NOT NULL FROM providers")


# -- test calls --------------------------------------------------------------------------------------------------------


async def test_a_test_message_goes_through_just_this_provider(gateway):
    with Mailbox() as mailbox, Mailbox() as other:
        await add(gateway, "other", credentials=other.credentials)
        created = await add(gateway, credentials=mailbox.credentials, enabled=False)
        body = {"to": "ada@example.com", "from": "shop@example.com"}
        answer = await gateway.ask("POST", f"{PROVIDERS}/{created['id']}/test", json=body)

    assert answer.json()["outcome"] == "accepted", answer.text
    assert [mail.rcpt_tos for mail in mailbox.mails] == [["ada@example.com"]]
    assert b"This is a test message" in mailbox.mails[0].content
    assert other.mails == []
    assert await gateway.count() == 0


async def test_a_refused_test_message_says_why(gateway):
    with Mailbox("554 5.7.1 not today") as mailbox:
        created = await add(gateway, credentials=mailbox.credentials)
        body = {"to": "ada@example.com", "from": "shop@example.com"}
        answer = (await gateway.ask("POST", f"{PROVIDERS}/{created['id']}/test", json=body)).json()

    assert answer["outcome"] != "accepted"
    assert "not today" in answer["detail"]


async def test_a_test_key_sends_no_real_message(gateway):
    created = await add(gateway)
    key = await gateway.another_key(is_test=True)
    body = {"to": "ada@example.com", "from": "shop@example.com"}

    error_of(await gateway.ask("POST", f"{PROVIDERS}/{created['id']}/test", key=key, json=body), 403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("body", "field"), [({"to": "x"}, "to.0"), ({"to": "a@example.com"}, "from"), ({}, "to"), ({"to": ""}, "to")]
)
async def test_a_bad_test_message_names_the_field(gateway, body, field):
    created = await add(gateway)
    answer = await gateway.ask("POST", f"{PROVIDERS}/{created['id']}/test", json=body)

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == field


async def test_new_credentials_are_stored_only_if_their_test_message_is_accepted(gateway):
    message = {"to": "ada@example.com", "from": "shop@example.com"}
    with Mailbox() as mailbox:
        created = await add(gateway, credentials=mailbox.credentials, verify=message)
        path = f"{PROVIDERS}/{created['id']}"
        dead = mailbox.credentials | {"port": free_port()}
        refused = await gateway.ask("PATCH", path, json={"credentials": dead, "verify": message})
        kept = await gateway.ask("GET", path)
        other = {"credentials": mailbox.credentials | {"maxRecipients": 5}, "verify": message}
        accepted = await gateway.ask("PATCH", path, json=other)

    assert error_of(refused, 400, "VALIDATION_ERROR")["field"] == "credentials"
    assert kept.json() == created
    assert accepted.json()["version"] == 2
    assert len(mailbox.mails) == 2


# -- audit -------------------------------------------------------------------------------------------------------------


async def test_every_change_leaves_an_entry_without_secrets(gateway, ada):
    first, second = await add(gateway, "a"), await add(gateway, "b")
    path = f"{PROVIDERS}/{first['id']}"
    await gateway.ask("PATCH", path, json={"enabled": False})
    await gateway.ask("PATCH", path, json={"enabled": False})
    await gateway.ask(
        "PATCH",
        path,
        json={"credentials": {"host": "other.example.com", "auth": {"user": "x", "pass": "another-secret"}}},
    )
    order = {"channel": "email", "providerIds": [second["id"], first["id"]]}
    await gateway.ask("POST", f"{PROVIDERS}/reorder", json=order)
    await gateway.ask("POST", f"{PROVIDERS}/reorder", json=order)
    await gateway.ask("DELETE", path)

    entries = (await ada.ask("GET", "/v1/audit", project="shop")).json()["data"][::-1]

    assert [(entry["noun"], entry["action"]) for entry in entries] == [
        ("provider", action) for action in ("created", "created", "updated", "updated", "reordered", "deleted")
    ]
    assert entries[2]["changes"] == {"enabled": False}
    assert entries[3]["changes"] == {"credentials": ["auth", "host"]}
    assert "another-secret" not in json.dumps(entries)


# -- packages ----------------------------------------------------------------------------------------------------------


async def test_packages_are_listed_with_the_schema_of_their_credentials(gateway):
    listed = (await gateway.ask("GET", "/v1/packages")).json()["data"]
    one = (await gateway.ask("GET", "/v1/packages/provider-smtp")).json()

    assert {row["name"] for row in listed} >= set(PACKAGES)
    assert one in listed
    assert one["credentials"]["$defs"]["SmtpAuth"]["properties"]["pass"]["writeOnly"] is True
    error_of(await gateway.ask("GET", "/v1/packages/provider-none"), 404, "NOT_FOUND")
