"""``GET /analytics`` of the project API."""

from datetime import timedelta

import pytest

from sluice.runtime.clock import utc_now
from sluice.store import analytics
from tests.services.people import a_person
from tests.services.project_api.conftest import error_of
from tests.store.test_analytics import ADA, SENT, a_delivery


@pytest.fixture
async def counted(api, store):
    """One delivery of each channel, an hour ago; that by SMS failed."""
    at = utc_now() - timedelta(hours=1)
    made = [
        await a_delivery(store, *SENT, *after, channel=channel, project=api.project_id, at=at)
        for channel, after in {
            "email": [("delivered", ADA, 4)],
            "sms": [("failed", ADA, 3)],
            "whatsapp": [],
            "telegram": [],
            "push": [],
        }.items()
    ]
    await analytics.count(store.event_worker, made)


@pytest.mark.usefixtures("counted")
async def test_the_numbers_by_interval_channel_and_provider(api):
    answer = await api.ask("GET", "/analytics", project_id=api.project_id, params={"interval": "hour"})

    found = answer.json()
    assert (answer.status_code, found["interval"]) == (200, "hour")
    by_channel = {one["channel"]: one for one in found["data"]}
    assert by_channel.keys() == {"email", "sms", "whatsapp", "telegram", "push"}
    email, sms = by_channel["email"], by_channel["sms"]
    assert (email["messageType"], email["providerId"], email["provider"]) == ("email", str(ADA), "removed")
    assert (email["sent"], email["delivered"], email["failureRate"]) == (1, 1, 0.0)
    assert (sms["sent"], sms["failed"], sms["failureRate"]) == (1, 1, 1.0)
    assert email["acceptToSentMs"]["p95"] == pytest.approx(2000, rel=0.032)
    assert sms["sentToDeliveredMs"] is None
    assert {one["startsAt"] for one in found["data"]} == {email["startsAt"]}
    assert [one["channel"] for one in found["totals"]] == ["email", "push", "sms", "telegram", "whatsapp"]


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize(
    ("message_type", "channels"),
    [("email", {"email"}), ("sms", {"sms"}), ("app", {"whatsapp", "telegram"}), ("push", {"push"})],
)
async def test_of_one_type_of_messages(api, message_type, channels):
    answer = await api.ask_with_key("GET", "/analytics", params={"messageType": message_type})

    assert {one["channel"] for one in answer.json()["totals"]} == channels
    assert {one["messageType"] for one in answer.json()["totals"]} == {message_type}


@pytest.mark.usefixtures("counted")
async def test_another_project_sees_none_of_them(api):
    eve = await a_person(api.gateway, "eve@example.com", evil="owner")
    own = await api.gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'evil'")

    assert (await eve.ask_project_api("GET", "/analytics", project_id=own)).json()["totals"] == []
    error_of(await eve.ask_project_api("GET", "/analytics", project_id=api.project_id), 404, "Not Found")
    viewer = await api.a_member("viewer@example.com", "viewer")
    assert (await viewer.ask_project_api("GET", "/analytics", project_id=api.project_id)).status_code == 200


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"messageType": "fax"}, "messageType"),
        ({"interval": "minute"}, "interval"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-11-02T00:00:00Z", "to": "2026-11-01T00:00:00Z"}, "to"),
        ({"from": "2999-01-01T00:00:00Z"}, "from"),
    ],
)
async def test_a_bad_request_names_the_field(api, params, field):
    answer = await api.ask_with_key("GET", "/analytics", params=params)

    assert error_of(answer, 400, "Bad Request").startswith(f"{field}:")
