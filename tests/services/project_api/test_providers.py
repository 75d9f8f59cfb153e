"""Providers of the project API, and the same rows through ``/v1``."""

import json
from uuid import UUID

import pytest

from gateway.providers.names import name_of
from sluice.model.channel_group import GROUP_OF
from sluice.model.ids import decode_id, encode_id
from sluice_simulator.accounts import every_account
from tests.examples import an_id
from tests.services.people import a_person
from tests.services.project_api.conftest import error_of
from tests.services.test_providers import Mailbox

SENDGRID = {
    "provider": "sendgrid",
    "name": "Primary SendGrid",
    "enabled": True,
    "priority": 1,
    "config": {"apiKey": "your-sendgrid-api-key"},
}
SMTP = {
    "host": "smtp.gmail.com",
    "port": 587,
    "secure": False,
    "auth": {"user": "your-email@gmail.com", "pass": "your-app-password"},
    "tls": {"rejectUnauthorized": False},
}
ACCOUNTS = every_account()
TWILIO = {"accountSid": "AC" + "0" * 32, "authToken": "a" * 32, "from": "+15005550006"}


async def add(api, group="email", **changes):
    body = SENDGRID | changes
    answer = await api.ask("POST", f"/{group}-config/providers", project_id=api.project_id, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def listed(api, group="email"):
    answer = await api.ask("GET", f"/{group}-config/providers", project_id=api.project_id)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def order(api, group="email"):
    return [(row["name"], row["priority"]) for row in await listed(api, group)]


# -- schemas -----------------------------------------------------------------------------------------------------------


async def test_schemas_are_those_of_the_packages_without_a_project(api):
    everything = (await api.ask("GET", "/email-config/provider-schemas")).json()
    one = (await api.ask("GET", "/email-config/provider-schemas/smtp")).json()
    package = (await api.gateway.ask("GET", "/v1/packages/provider-smtp")).json()

    assert everything["smtp"] == one
    assert one == package["credentials"] | {"title": package["title"]}
    assert one["$defs"]["SmtpAuth"]["properties"]["pass"]["writeOnly"] is True


@pytest.mark.parametrize("path", ["email-config/provider-schemas/twilio", "push-config/provider-schemas/provider-fcm"])
async def test_an_unknown_provider_has_no_schema(api, path):
    error_of(await api.ask("GET", f"/{path}"), 404, "Not Found")


async def test_schemas_need_a_person(api):
    error_of(await api.gateway.client.get("/email-config/provider-schemas"), 401, "Unauthorized")


# -- add, list, change, delete -----------------------------------------------------------------------------------------


async def test_an_added_provider_is_shown_without_its_credentials(api):
    created = await add(api)

    shown = {"id", "provider", "name", "enabled", "priority", "createdAt"}
    assert {name: value for name, value in created.items() if name in shown - {"id", "createdAt"}} == {
        name: SENDGRID[name] for name in shown - {"id", "createdAt"}
    }
    assert created["credentials"] == {"status": "set", "fields": {"apiKey": "••••-key"}}
    assert created["channel"] == "email"
    assert await listed(api) == [created]
    stored = str(await api.gateway.pool.fetch("SELECT * FROM providers, audit_log"))
    assert "your-sendgrid" not in stored + json.dumps(created)


@pytest.mark.parametrize("account", ACCOUNTS.values(), ids=ACCOUNTS)
async def test_every_package_is_added_by_its_name_and_found_through_both_apis(api, account):
    group, name = GROUP_OF[account.channel], name_of(account.package)
    created = await add(api, group, provider=name, config=account.credentials_at("127.0.0.1", 9))
    found = (await api.gateway.ask("GET", f"/v1/providers/{encode_id('prv', UUID(created['id']))}")).json()

    assert (created["provider"], created["channel"]) == (name, account.channel)
    assert await listed(api, group) == [created]
    assert (found["packageName"], found["credentials"]) == (account.package, created["credentials"])


async def test_the_blocks_of_smtp_are_stored_as_documented(api):
    created = await add(api, provider="smtp", config=SMTP)

    assert created["credentials"]["fields"].keys() == {
        *("host", "port", "secure", "auth.user", "auth.pass", "tls.rejectUnauthorized")
    }


async def test_messagepipe_needs_no_config(api):
    created = (
        await api.ask(
            "POST",
            "/message-config/providers",
            project_id=api.project_id,
            json={"provider": "messagepipe", "name": "Built-in"},
        )
    ).json()

    assert (created["channel"], created["credentials"]["fields"]) == ("sms", {})
    assert (created["priority"], created["enabled"]) == (1, True)


async def test_a_group_lists_the_providers_of_its_channels_in_priority_order(api):
    await add(api, name="second", priority=2)
    await add(api, name="first", priority=0)
    await add(api, "message", provider="twilio", name="text", config=TWILIO, priority=3)
    await add(api, "message", provider="telegram", name="chat", config={"botToken": "1:" + "a" * 35}, priority=2)

    assert await order(api) == [("first", 0), ("second", 2)]
    assert await order(api, "message") == [("chat", 2), ("text", 3)]
    assert await order(api, "push") == []


async def test_a_provider_is_changed_in_the_named_fields_only(api):
    created = await add(api)
    path = f"/email-config/providers/{created['id']}"

    renamed = (await api.ask("PUT", path, json={"name": "Renamed"})).json()
    body = {"enabled": False, "priority": 7, "config": {"apiKey": "k" * 20}}
    changed = (await api.ask("PUT", path, json=body)).json()

    assert renamed == created | {"name": "Renamed", "updatedAt": renamed["updatedAt"]}
    assert (changed["name"], changed["enabled"], changed["priority"]) == ("Renamed", False, 7)
    assert changed["credentials"]["fields"] == {"apiKey": "••••kkkk"}
    assert await listed(api) == [changed]


async def test_a_removed_provider_is_gone(api):
    created = await add(api)
    path = f"/email-config/providers/{created['id']}"

    answer = await api.ask("DELETE", path)

    assert answer.json() == {"message": "Provider deleted successfully"}
    assert await listed(api) == []
    for method in ("PUT", "DELETE"):
        error_of(await api.ask(method, path, json={"name": "x"}), 404, "Not Found")


@pytest.mark.parametrize("group", ["message", "push"])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_provider_is_found_in_its_group_only(api, group, method):
    created = await add(api)

    answer = await api.ask(method, f"/{group}-config/providers/{created['id']}", json={"name": "x"})

    error_of(answer, 404, "Not Found")
    assert await listed(api) == [created]


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "changes", "said"),
    [
        ("email", {"config": {}}, "config.apiKey: is required"),
        ("email", {"config": {"apiKey": 7}}, "config.apiKey: must be a string"),
        ("email", {"config": {"apiKey": " "}}, "config.apiKey:"),
        ("email", {"config": {"apiKey": "k" * 20, "apikey": "k"}}, "config.apikey: is not a field of this request"),
        ("email", {"config": "apiKey"}, "config: must be an object"),
        ("email", {"provider": "smtp", "config": SMTP | {"auth": {"user": "x"}}}, "config.auth.pass: is required"),
        ("email", {"provider": "smtp", "config": SMTP | {"tls": {"rejectUnauthorised": True}}}, "config.tls."),
        ("email", {"provider": "smtp", "config": SMTP | {"host": "169.254.169.254"}}, "config.host:"),
        (
            "email",
            {"provider": "mailgun", "config": {"apiKey": "k", "domain": "x.com", "region": "x"}},
            "config.region:",
        ),
        ("email", {"provider": "twilio"}, "provider: must be one of sendgrid, mailgun, ses, smtp, resend"),
        ("email", {"provider": "provider-sendgrid"}, "provider: must be one of"),
        ("email", {"channel": "sms"}, "channel: must be one of email"),
        ("email", {"priority": -1}, "priority:"),
        ("email", {"priority": 1.5}, "priority:"),
        ("email", {"priority": "1"}, "priority:"),
        ("email", {"enabled": "yes"}, "enabled:"),
        ("email", {"name": ""}, "name:"),
        ("email", {"name": None}, "name:"),
        ("email", {"credentials": {"apiKey": "k"}}, "credentials: is not a field of this request"),
        ("push", {"provider": "fcm", "config": {"projectId": "shop-1"}}, "config: projectId, clientEmail and"),
        ("message", {"provider": "messagepipe", "config": {"apiKey": "k"}}, "config.apiKey: is not a field"),
        ("message", {"provider": "provider-sandbox", "config": {}}, "channel: must be one of sms, whatsapp"),
    ],
)
async def test_an_error_names_the_field_in_the_spelling_of_this_api(api, group, changes, said):
    answer = await api.ask("POST", f"/{group}-config/providers", project_id=api.project_id, json=SENDGRID | changes)

    assert said in error_of(answer, 400, "Bad Request")
    assert await listed(api, group) == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"config": {}}, "config.apiKey: is required"),
        ({"config": None}, "config: must not be null"),
        ({"name": None}, "name: must not be null"),
        ({"enabled": None}, "enabled: must not be null"),
        ({"priority": None}, "priority: must not be null"),
        ({"provider": "smtp"}, "provider: is not a field of this request"),
    ],
)
async def test_a_wrong_change_names_the_field_and_changes_nothing(api, body, said):
    created = await add(api)

    answer = await api.ask("PUT", f"/email-config/providers/{created['id']}", json={"name": "New"} | body)

    assert said in error_of(answer, 400, "Bad Request")
    assert await listed(api) == [created]


# -- priorities --------------------------------------------------------------------------------------------------------


async def set_priorities(api, *pairs, group="email"):
    body = {"providers": [{"id": one, "priority": priority} for one, priority in pairs]}
    return await api.ask("PUT", f"/{group}-config/providers/priorities", project_id=api.project_id, json=body)


async def test_priorities_of_several_providers_are_set_in_one_request(api):
    rows = {name: (await add(api, name=name, priority=9))["id"] for name in "abc"}

    answer = await set_priorities(api, (rows["c"], 1), (encode_id("prv", UUID(rows["b"])), 2))

    assert answer.status_code == 200, answer.text
    assert [(row["name"], row["priority"]) for row in answer.json()] == [("c", 1), ("b", 2), ("a", 9)]
    assert await order(api) == [("c", 1), ("b", 2), ("a", 9)]


@pytest.mark.parametrize("wrong", ["other group", "repeated", "unknown", "foreign"])
async def test_priorities_are_set_for_all_or_for_none(api, wrong):
    first, second = await add(api, name="a"), await add(api, name="b")
    eve = await a_person(api.gateway, "eve@example.com", evil="owner")
    evil = await api.gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'evil'")
    foreign = await eve.ask_project_api("POST", "/email-config/providers", project_id=evil, json=SENDGRID)
    ids = {
        "other group": (await add(api, "message", provider="messagepipe", config={}))["id"],
        "repeated": first["id"],
        "unknown": str(an_id()),
        "foreign": foreign.json()["id"],
    }

    answer = await set_priorities(api, (first["id"], 5), (ids[wrong], 6), (second["id"], 7))

    assert error_of(answer, 400, "Bad Request").startswith("providers.1.id: is ")
    assert await listed(api) == [first, second]
    assert (await eve.ask_project_api("GET", "/email-config/providers", project_id=evil)).json() == [foreign.json()]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "providers"),
        ({"providers": []}, "providers"),
        ({"providers": [{"id": "no-id", "priority": 1}]}, "providers.0.id"),
        ({"providers": [{"id": str(an_id())}]}, "providers.0.priority"),
        ({"providers": [{"id": str(an_id()), "priority": -1}]}, "providers.0.priority"),
        ({"providers": [{"id": str(an_id()), "priority": 1, "name": "x"}]}, "providers.0.name"),
    ],
)
async def test_a_wrong_field_of_priorities_is_named(api, body, field):
    answer = await api.ask("PUT", "/email-config/providers/priorities", project_id=api.project_id, json=body)

    assert error_of(answer, 400, "Bad Request").startswith(f"{field}: ")


# -- the test e-mail ---------------------------------------------------------------------------------------------------


async def send_test(api, **body):
    return await api.ask("POST", "/email-config/test", project_id=api.project_id, json={"to": "ada@example.com"} | body)


async def configure(api, **fields):
    body = {"senderEmail": "noreply@yourcompany.com", "senderName": "Your Company Name"} | fields
    await api.ask("POST", "/email-config", project_id=api.project_id, json=body)


async def test_a_test_email_goes_through_one_provider_from_the_sender_of_the_configuration(api):
    await configure(api)
    with Mailbox() as first, Mailbox() as second:
        await add(api, provider="smtp", name="off", config=first.credentials, priority=1, enabled=False)
        other = await add(api, provider="smtp", name="on", config=second.credentials, priority=2)
        answer = await send_test(api)

    assert answer.json() == {
        "message": "Test email sent successfully",
        "success": True,
        "outcome": "accepted",
        "provider": "smtp",
        "providerId": other["id"],
        "messageId": answer.json()["messageId"],
    }, answer.text
    assert (len(first.mails), len(second.mails)) == (0, 1)
    assert b"Your Company Name <noreply@yourcompany.com>" in second.mails[0].content
    assert await api.gateway.count() == 0


async def test_a_test_email_goes_through_the_named_provider_although_it_is_disabled(api):
    await configure(api)
    with Mailbox() as first, Mailbox() as second:
        await add(api, provider="smtp", config=first.credentials, priority=1)
        named = await add(api, provider="smtp", config=second.credentials, priority=2, enabled=False)
        answer = await send_test(api, providerId=named["id"])

    assert answer.json()["success"] is True, answer.text
    assert (len(first.mails), len(second.mails)) == (0, 1)


async def test_a_refused_test_email_says_why(api):
    await configure(api)
    with Mailbox("554 5.7.1 not today") as mailbox:
        await add(api, provider="smtp", config=mailbox.credentials)
        answer = (await send_test(api)).json()

    assert (answer["success"], answer["messageId"]) == (False, None)
    assert answer["outcome"] != "accepted"
    assert "not today" in answer["message"]


async def test_a_test_email_needs_a_sender_and_a_provider_of_email(api):
    error_of(await send_test(api), 404, "Not Found")
    text = await add(api, "message", provider="messagepipe", config={})
    error_of(await send_test(api, providerId=text["id"]), 404, "Not Found")
    error_of(await send_test(api, providerId=str(an_id())), 404, "Not Found")
    await add(api)

    assert error_of(await send_test(api), 400, "Bad Request").startswith("senderEmail: ")
    assert error_of(await send_test(api, to="x"), 400, "Bad Request").startswith("to: ")


# -- both APIs ---------------------------------------------------------------------------------------------------------


async def test_a_provider_of_this_api_is_seen_and_changed_through_v1(api):
    created = await add(api)
    path = f"/v1/providers/{encode_id('prv', UUID(created['id']))}"

    seen = (await api.gateway.ask("GET", path)).json()
    await api.gateway.ask("PATCH", path, json={"name": "Changed", "priority": 4, "enabled": False})
    [changed] = await listed(api)
    await api.gateway.ask("DELETE", path)

    assert (seen["packageName"], seen["name"], seen["channel"], seen["priority"]) == (
        *("provider-sendgrid", "Primary SendGrid", "email"),
        1,
    )
    assert seen["credentials"] == created["credentials"]
    assert (changed["name"], changed["priority"], changed["enabled"]) == ("Changed", 4, False)
    assert await listed(api) == []


@pytest.mark.parametrize(
    ("group", "body", "provider"),
    [
        ("email", {"packageName": "provider-resend", "credentials": {"apiKey": "re_" + "k" * 20}}, "resend"),
        ("message", {"packageName": "provider-360dialog", "credentials": {"apiKey": "k" * 20}}, "360dialog"),
        ("push", {"packageName": "provider-sandbox", "channel": "push"}, "provider-sandbox"),
    ],
)
async def test_a_provider_of_v1_is_seen_and_changed_through_this_api(api, group, body, provider):
    made = (await api.gateway.ask("POST", "/v1/providers", json={"name": "From v1"} | body)).json()
    v1_path = f"/v1/providers/{made['id']}"

    [seen] = await listed(api, group)
    for written in (seen["id"], made["id"]):  # both forms of the id
        path = f"/{group}-config/providers/{written}"
        renamed = await api.ask("PUT", path, json={"name": f"as {written}"})
        assert renamed.json()["name"] == (await api.gateway.ask("GET", v1_path)).json()["name"] == f"as {written}"
    await set_priorities(api, (seen["id"], 8), group=group)
    after = (await api.gateway.ask("GET", v1_path)).json()
    removed = await api.ask("DELETE", f"/{group}-config/providers/{seen['id']}")

    assert (seen["provider"], seen["channel"], seen["name"]) == (provider, made["channel"], "From v1")
    assert decode_id("prv", made["id"]) == UUID(seen["id"])
    assert seen["credentials"] == made["credentials"]
    assert (after["priority"], after["version"]) == (8, 4)
    assert removed.status_code == 200
    assert (await api.gateway.ask("GET", v1_path)).status_code == 404


# -- who, and audit ----------------------------------------------------------------------------------------------------


async def test_a_person_needs_no_project_where_the_path_names_a_provider_and_must_name_it_elsewhere(api):
    created = await add(api)

    assert (await api.ask("PUT", f"/email-config/providers/{created['id']}", json={"name": "x"})).status_code == 200
    sender = {"to": "ada@example.com", "providerId": created["id"]}
    tested = await api.ask("POST", "/email-config/test", json=sender)
    assert error_of(tested, 400).startswith("senderEmail: ")
    assert "projectId" in error_of(await api.ask("POST", "/email-config/test", json={"to": "ada@example.com"}), 400)
    assert "projectId" in error_of(await api.ask("GET", "/email-config/providers"), 400)
    assert "projectId" in error_of(await api.ask("POST", "/email-config/providers", json=SENDGRID), 400)


async def test_a_key_has_its_project(api):
    created = (await api.ask_with_key("POST", "/email-config/providers", json=SENDGRID)).json()

    assert (await api.ask_with_key("GET", "/email-config/providers")).json() == [created]
    path = f"/email-config/providers/{created['id']}"
    other = await api.gateway.new_project("other")
    error_of(await api.ask_with_key("PUT", path, key=other, json={"name": "x"}), 404, "Not Found")
    assert (await api.ask_with_key("DELETE", path)).status_code == 200


async def test_a_provider_of_another_project_is_as_one_that_does_not_exist(api):
    created = await add(api)
    eve = await a_person(api.gateway, "eve@example.com", evil="owner")
    evil = await api.gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'evil'")

    answers = [
        await eve.ask_project_api(method, f"/email-config/providers/{one}", project_id=project, json={"name": "x"})
        for method in ("PUT", "DELETE")
        for one in (created["id"], str(an_id()), "no-id")
        for project in (None, evil)
    ]
    named = await eve.ask_project_api("GET", "/email-config/providers", project_id=api.project_id)

    assert {answer.status_code for answer in [*answers, named]} == {404}
    assert await listed(api) == [created]


async def test_every_change_leaves_the_entries_of_v1(api):
    first, second = await add(api, name="a"), await add(api, name="b", priority=2)
    path = f"/email-config/providers/{first['id']}"
    await api.ask("PUT", path, json={"priority": 3, "config": {"apiKey": "another-secret-key"}})
    await set_priorities(api, (first["id"], 1), (second["id"], 2))
    await set_priorities(api, (first["id"], 1), (second["id"], 2))
    await api.ask("DELETE", path)

    entries = (await api.owner.ask("GET", "/v1/audit", project="shop")).json()["data"][::-1]

    assert [(entry["noun"], entry["action"]) for entry in entries] == [
        ("provider", action) for action in ("created", "created", "updated", "reordered", "deleted")
    ]
    assert entries[2]["changes"] == {"priority": 3, "credentials": ["apiKey"]}
    assert entries[3]["changes"] == {"priorities": {entries[2]["object_id"]: 1}}
    assert "another-secret" not in json.dumps(entries)
