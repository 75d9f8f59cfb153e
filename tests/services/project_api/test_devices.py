"""Push notifications: devices, their users, and the devices that are gone."""

import pytest

from event_worker.devices import DeviceProjection
from event_worker.events import Event
from sluice.model.outcome import ProviderFault, RecipientRejected
from sluice.model.reasons import Reason
from sluice.store.devices import MAX_DEVICES
from tests.polling import wait_until
from tests.services.project_api.conftest import error_of
from tests.services.project_api.test_sending import a_template, send

GONE = RecipientRejected(Reason.UNKNOWN_RECIPIENT, "Requested entity was not found.")


async def register(api, user_id, token, **changes):
    body = {"userId": user_id, "deviceToken": token, "provider": "fcm", "platform": "android"} | changes
    return await api.ask_with_key("POST", "/push/register-device", json=body)


async def devices(api):
    rows = await api.gateway.pool.fetch("SELECT user_id, token, platform FROM devices ORDER BY registered_at")
    return [tuple(row) for row in rows]


@pytest.fixture
async def push(api, deliverer):
    """The id of a template, in a project with FCM."""
    await deliverer.add_provider("provider-fcm", "push")
    return await a_template(api, kind="push", html=None, subject="Hello {{name}}", text="It is on its way.")


async def notify(api, template, **target):
    return await send(api, template, "/push/send", variables={"name": "Ada"}, **target)


async def test_a_device_is_registered_and_the_same_token_again_updates_it(api):
    first = await register(api, "ada", "token-1")
    await register(api, "bob", "token-1", platform="ios")

    assert (first.status_code, first.json()) == (200, {"message": "Device registered successfully"})
    assert await devices(api) == [("bob", "token-1", "ios")]


async def test_the_oldest_device_of_a_user_makes_room(api):
    for number in range(MAX_DEVICES + 1):
        await register(api, "ada", f"token-{number}")
    await register(api, "bob", "token-of-bob")

    kept = [token for _, token, _ in await devices(api)]
    assert len(kept) == MAX_DEVICES + 1
    assert "token-0" not in kept


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"deviceToken": "topic:news"}, "deviceToken"),
        ({"deviceToken": ""}, "deviceToken"),
        ({"deviceToken": "a\nb"}, "deviceToken"),
        ({"provider": "apns"}, "provider"),
        ({"userId": ""}, "userId"),
    ],
)
async def test_a_device_with_a_wrong_field(api, changes, field):
    answer = await register(api, "ada", "token", **changes)

    assert error_of(answer, 400).startswith(f"{field}: ")
    assert await devices(api) == []


async def test_a_device_is_removed_by_its_token(api):
    await register(api, "ada", "dQw4:APA91b/x+y")

    removed = await api.ask_with_key("DELETE", "/push/devices/dQw4%3AAPA91b%2Fx%2By")
    again = await api.ask_with_key("DELETE", "/push/devices/dQw4%3AAPA91b%2Fx%2By")

    assert (removed.status_code, removed.json()) == (200, {"message": "Device removed successfully"})
    assert error_of(again, 404) == "Device not found"


async def test_devices_of_another_project_are_not_touched(api):
    await register(api, "ada", "token-1")
    other = await api.gateway.new_project("other")

    error_of(await api.ask_with_key("DELETE", "/push/devices/token-1", key=other), 404)
    await api.ask_with_key("POST", "/push/register-device", key=other, json={"userId": "eve", "deviceToken": "token-1"})

    assert [user for user, _, _ in await devices(api)] == ["ada", "eve"]


async def test_every_device_of_a_user_is_notified(api, deliverer, push):
    for token in ("phone", "tablet"):
        await register(api, "ada", token)
    await register(api, "bob", "other")

    answer = await notify(api, push, userId="ada")

    fields = answer.json()
    assert answer.status_code == 200, answer.text
    assert (fields["message"], fields["provider"]) == ("Push notification sent successfully", "fcm")
    assert {one["recipient"] for one in fields["results"]} == {"phone", "tablet"}
    assert {recipient for _, recipient in deliverer.calls} == {"phone", "tablet"}


async def test_a_repeat_gets_the_first_answer_although_the_users_device_is_gone(api, deliverer, push):
    await register(api, "ada", "phone")
    key = {"idempotency-key": "order-7"}

    first = await notify(api, push, userId="ada", headers=key)
    await api.ask_with_key("DELETE", "/push/devices/phone")
    again = await notify(api, push, userId="ada", headers=key)
    new = await notify(api, push, userId="ada")

    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert error_of(new, 404) == "The user has no registered device"
    assert len(deliverer.calls) == 1


async def test_one_device_and_a_topic(api, deliverer, push):
    device = await notify(api, push, deviceToken="phone")
    topic = await notify(api, push, topic="news")

    assert [set(answer.json()) for answer in (device, topic)] == [
        {"message", "messageId", "provider", "deliveryLogId"}
    ] * 2
    assert [recipient for _, recipient in deliverer.calls] == ["phone", "topic:news"]


@pytest.mark.parametrize("target", [{}, {"userId": "ada", "topic": "news"}])
async def test_a_notification_has_exactly_one_target(api, push, target):
    assert "exactly one of userId, deviceToken and topic" in error_of(await notify(api, push, **target), 400)


async def test_a_user_without_a_device(api, push):
    assert error_of(await notify(api, push, userId="ada"), 404) == "The user has no registered device"


async def test_it_fails_only_where_no_device_got_it(api, deliverer, push):
    for token in ("old", "new"):
        await register(api, "ada", token)
    deliverer.answers[("provider-fcm", "old")] = GONE

    one = await notify(api, push, userId="ada")
    deliverer.answers["provider-fcm"] = ProviderFault("UNAVAILABLE")
    none = await notify(api, push, userId="ada")

    results = {result["recipient"]: result for result in one.json()["results"]}
    assert (one.status_code, results["new"]["success"], results["old"]["success"]) == (200, True, False)
    assert results["old"]["error"] == f"All providers failed: {GONE.detail}"
    assert error_of(none, 500).startswith("All providers failed: ")


# -- devices that are gone -----------------------------------------------------------------------------------------


def events(bus):
    return [Event.model_validate_json(value) for value in bus.on("delivery.events")]


async def failed_events(bus):
    return await wait_until(lambda: [event for event in events(bus) if event.type == "failed"])


async def test_a_device_that_is_reported_as_unregistered_is_removed(api, deliverer, push, bus, role_pools):
    for token in ("old", "new"):
        await register(api, "ada", token)
    deliverer.answers[("provider-fcm", "old")] = GONE
    await notify(api, push, userId="ada")
    await failed_events(bus)

    for _ in range(2):  # a repeat changes nothing
        await DeviceProjection(role_pools.event_worker).apply(events(bus))

    assert [token for _, token, _ in await devices(api)] == ["new"]


async def test_a_device_that_was_registered_again_since_stays(api, deliverer, push, bus, role_pools):
    await register(api, "ada", "phone")
    deliverer.answers["provider-fcm"] = GONE
    await notify(api, push, userId="ada")
    await failed_events(bus)
    await register(api, "ada", "phone")

    await DeviceProjection(role_pools.event_worker).apply(events(bus))

    assert len(await devices(api)) == 1


@pytest.mark.parametrize("outcome", [ProviderFault("500"), RecipientRejected(Reason.BLOCKED, "blocked")])
async def test_another_failure_removes_no_device(api, deliverer, push, bus, role_pools, outcome):
    await register(api, "ada", "phone")
    deliverer.answers["provider-fcm"] = outcome
    await notify(api, push, userId="ada")
    await failed_events(bus)

    await DeviceProjection(role_pools.event_worker).apply(events(bus))

    assert len(await devices(api)) == 1
