"""``/email-config``, ``/message-config`` and ``/push-config``."""

import pytest

from gateway.channel_configs.service import default_sender
from tests.polling import wait_until
from tests.services.people import a_person
from tests.services.project_api.conftest import error_of
from tests.services.test_gateway import error_of as v1_error_of

GROUPS = ("email-config", "message-config", "push-config")
EMAIL = {"senderEmail": "noreply@yourcompany.com", "senderName": "Your Company Name", "enabled": True}


def body_of(group, **changes):
    return (EMAIL if group == "email-config" else {"enabled": True}) | changes


async def configure(api, group="email-config", method="POST", **changes):
    return await api.ask(method, f"/{group}", project_id=api.project_id, json=body_of(group, **changes))


# -- create, get, change -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS)
async def test_a_configuration_is_created_read_and_changed(api, group):
    created = await configure(api, group)
    found = await api.ask("GET", f"/{group}", project_id=api.project_id)
    changed = await api.ask("PUT", f"/{group}", project_id=api.project_id, json={"enabled": False})
    again = await api.ask("GET", f"/{group}", project_id=api.project_id)

    assert created.status_code == 201, created.text
    assert created.json().items() >= (body_of(group) | {"projectId": str(api.project_id)}).items()
    assert found.json() == created.json()
    assert changed.json() == created.json() | {"enabled": False, "updatedAt": changed.json()["updatedAt"]}
    assert again.json() == changed.json()


async def test_a_configuration_is_enabled_unless_it_says_otherwise_and_needs_no_name(api):
    created = await api.ask(
        "POST", "/email-config", project_id=api.project_id, json={"senderEmail": "shop@example.com"}
    )

    assert (created.json()["enabled"], created.json()["senderName"]) == (True, None)
    assert (await api.ask("POST", "/push-config", project_id=api.project_id, json={})).json()["enabled"] is True


@pytest.mark.parametrize("group", GROUPS)
async def test_a_project_has_one_configuration_of_a_group(api, group):
    await configure(api, group)

    assert f"{group} already" in error_of(await configure(api, group, enabled=False), 409, "Conflict")
    assert (await api.ask("GET", f"/{group}", project_id=api.project_id)).json()["enabled"] is True


@pytest.mark.parametrize("group", GROUPS)
async def test_a_configuration_that_does_not_exist(api, group):
    await configure(api, next(one for one in GROUPS if one != group))

    assert f"no {group}" in error_of(await api.ask("GET", f"/{group}", project_id=api.project_id), 404, "Not Found")
    assert f"no {group}" in error_of(await configure(api, group, "PUT"), 404, "Not Found")


async def test_the_name_of_the_sender_is_removed_with_null_and_kept_otherwise(api):
    await configure(api)

    kept = await api.ask("PUT", "/email-config", project_id=api.project_id, json={"senderEmail": "hello@example.com"})
    removed = await api.ask("PUT", "/email-config", project_id=api.project_id, json={"senderName": None})

    assert kept.json()["senderName"] == "Your Company Name"
    assert (removed.json()["senderEmail"], removed.json()["senderName"]) == ("hello@example.com", None)


@pytest.mark.parametrize(
    ("group", "body", "field"),
    [
        ("email-config", {"senderName": "Shop"}, "senderEmail"),
        ("email-config", {"senderEmail": "no address"}, "senderEmail"),
        ("email-config", {"senderEmail": "Shop <shop@example.com>"}, "senderEmail"),
        ("email-config", {"senderEmail": "a@example.com", "senderName": "a\r\nBcc: b@example.com"}, "senderName"),
        ("email-config", {"senderEmail": "a@example.com", "senderName": ""}, "senderName"),
        ("email-config", {"senderEmail": "a@example.com", "senderName": "  "}, "senderName"),
        ("email-config", {"senderEmail": "a@example.com", "senderName": "Sh\u200bop"}, "senderName"),
        ("email-config", {"senderEmail": "a@example.com", "senderName": "a" * 201}, "senderName"),
        ("email-config", {"senderEmail": "a@example.com", "enabled": "true"}, "enabled"),
        ("push-config", {"senderEmail": "a@example.com"}, "senderEmail"),
        ("message-config", {"enabled": None}, "enabled"),
        ("message-config", {"enabled": 7}, "enabled"),
    ],
)
async def test_a_wrong_field_is_named_when_a_configuration_is_created_and_changed(api, group, body, field):
    created = await api.ask("POST", f"/{group}", project_id=api.project_id, json=body)
    await configure(api, group)
    changed = await api.ask("PUT", f"/{group}", project_id=api.project_id, json=body)

    assert error_of(created, 400, "Bad Request").startswith(f"{field}:")
    if body != {"senderName": "Shop"}:  # a change needs no address
        assert error_of(changed, 400, "Bad Request").startswith(f"{field}:")


async def test_an_address_is_not_removed(api):
    await configure(api)

    answer = await api.ask("PUT", "/email-config", project_id=api.project_id, json={"senderEmail": None})

    assert error_of(answer, 400) == "senderEmail: must not be null"


# -- what follows from it ----------------------------------------------------------------------------------------------


async def test_the_sender_is_that_of_the_configuration_else_of_the_project(api):
    def sender():
        return default_sender(api.gateway.config, api.project_id)

    assert sender() is None
    await api.gateway.pool.execute("UPDATE projects SET default_sender = 'Own <own@example.com>'")
    await wait_until(lambda: sender() == "Own <own@example.com>")
    await configure(api)
    await wait_until(lambda: sender() == "Your Company Name <noreply@yourcompany.com>")
    await configure(api, method="PUT", senderName='Shop, "the best"')
    await wait_until(lambda: sender() == '"Shop, \\"the best\\"" <noreply@yourcompany.com>')


async def test_a_disabled_group_refuses_messages_and_sends_again(api):
    await configure(api, enabled=False)

    async def refused():
        return (await api.gateway.post()).status_code == 409

    await wait_until(refused)
    assert "email-config" in v1_error_of(await api.gateway.post(), 409, "CHANNEL_DISABLED")["message"]
    await configure(api, method="PUT", enabled=True)

    async def accepted():
        return (await api.gateway.post()).status_code == 201

    await wait_until(accepted)


async def test_every_change_leaves_an_entry_in_the_audit_log(api):
    await configure(api)
    await configure(api, method="PUT", senderName="Updated Company Name")
    await configure(api, method="PUT", senderName="Updated Company Name")

    entries = (await api.owner.ask("GET", "/v1/audit", project="shop")).json()["data"][::-1]

    assert [(entry["noun"], entry["object_id"], entry["action"]) for entry in entries] == [
        ("channel_config", "email", "created"),
        ("channel_config", "email", "updated"),
    ]
    assert entries[0]["changes"] == {
        "enabled": True,
        "sender_email": "noreply@yourcompany.com",
        "sender_name": "Your Company Name",
    }
    assert entries[1]["changes"] == {"sender_name": "Updated Company Name"}


# -- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS)
async def test_another_project_has_a_configuration_of_its_own(api, group):
    await configure(api, group)
    eve = await a_person(api.gateway, "eve@example.com", evil="owner")
    evil = await api.gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'evil'")

    foreign = [
        await eve.ask_project_api(method, f"/{group}", project_id=api.project_id, **request)
        for method, request in (("GET", {}), ("POST", {"json": body_of(group)}), ("PUT", {"json": body_of(group)}))
    ]
    own = await eve.ask_project_api("GET", f"/{group}", project_id=evil)

    assert [error_of(answer, 404) for answer in foreign] == [error_of(foreign[0], 404)] * 3
    assert f"no {group}" in error_of(own, 404)


async def test_a_viewer_reads_and_changes_nothing(api):
    viewer = await api.a_member("viewer@example.com", "viewer")
    await configure(api)

    for method in ("POST", "PUT"):
        answer = await viewer.ask_project_api(method, "/email-config", project_id=api.project_id, json=EMAIL)
        error_of(answer, 403, "Forbidden")
