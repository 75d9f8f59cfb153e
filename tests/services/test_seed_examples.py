"""Every request example of SendPipe's documents about messages, sent as written, gets the documented answer.

Only the host and the key are replaced, and the part of the file that the documents leave out.
"""

import re

import pytest

from sluice.runtime.clock import utc_now
from tests.examples import as_json
from tests.services.test_gateway import error_of

EMAIL = {
    "channel": "email",
    "from": "noreply@yourapp.com",
    "to": ["user@example.com"],
    "cc": ["manager@example.com"],
    "bcc": ["audit@yourapp.com"],
    "reply_to": "support@yourapp.com",
    "subject": "Order Confirmation",
    "html": "<h1>Order #1234 confirmed</h1>",
    "tags": ["transactional", "orders"],
    "idempotency_key": "order-1234-confirm",
}
WHATSAPP = {
    "channel": "whatsapp",
    "to": ["+2348012345678"],
    "channel_options": {
        "template_name": "order_confirmation",
        "template_language": "en",
        "template_params": ["ORD-4821", "$129.00"],
    },
}
SMS = {"channel": "sms", "from": "YourApp", "to": ["+14155551234"], "text": "Your verification code is 483921"}
ATTACHMENT = {
    "channel": "email",
    "from": "billing@yourapp.com",
    "to": ["client@example.com"],
    "subject": "Your Invoice",
    "html": "<p>Please find your invoice attached.</p>",
    "attachments": [
        {
            "filename": "invoice-2026-03.pdf",
            "content": "JVBERi0xLjQK",
            "content_type": "application/pdf",
        }
    ],
}
SENDS = {"email": EMAIL, "whatsapp": WHATSAPP, "sms": SMS, "attachment": ATTACHMENT}
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.mark.parametrize("body", SENDS.values(), ids=SENDS)
async def test_an_example_of_a_send_request_gets_the_documented_answer(gateway, body):
    answer = await gateway.post(as_json(body))

    assert answer.status_code == 201
    fields = answer.json()
    assert list(fields) == ["id", "project_id", "status", "channel", "created_at"]
    assert (fields["id"][:4], fields["project_id"][:5]) == ("msg_", "proj_")
    assert (fields["status"], fields["channel"]) == ("queued", body["channel"])
    assert ISO.fullmatch(fields["created_at"])


async def test_the_example_with_an_idempotency_key_is_sent_once(gateway):
    first, again = [await gateway.post(as_json(EMAIL)) for _ in range(2)]

    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, first.json(), "true")


@pytest.mark.parametrize("field", ["status", "channel", "from", "to", "limit", "cursor"])
async def test_every_documented_parameter_of_the_list_is_one(gateway, field):
    await gateway.post(as_json(EMAIL))
    cursor = (await gateway.ask("GET", "/v1/messages", params={"limit": 1})).json()["next_cursor"]
    values = {
        "status": "QUEUED",
        "channel": "email",
        "from": "noreply@yourapp.com",
        "to": "user@example.com",
        "limit": "10",
        "cursor": cursor,
    }

    answer = await gateway.ask("GET", "/v1/messages", params={field: values[field]} if values[field] else {})

    assert answer.status_code == 200
    assert [row["tags"] for row in answer.json()["data"]] == [["transactional", "orders"]]


async def test_the_example_of_the_list_finds_what_was_delivered(gateway):
    await gateway.post(as_json(SMS))
    delivered = (await gateway.post(as_json(EMAIL))).json()["id"]
    await gateway.pool.execute("UPDATE deliveries SET state = 'DELIVERED', due_at = NULL WHERE channel = 'email'")

    answer = await gateway.ask("GET", "/v1/messages?status=DELIVERED&limit=10")

    (row,) = answer.json()["data"]
    assert (row["id"], row["status"]) == (delivered, "DELIVERED")


@pytest.mark.parametrize("status", ["QUEUED", "SENDING", "SENT", "DELIVERED", "BOUNCED", "SOFT_BOUNCE", "FAILED"])
async def test_every_documented_status_is_a_filter_in_either_case(gateway, status):
    await gateway.post(as_json(SMS))
    due_at = utc_now() if status in ("QUEUED", "SENDING") else None
    await gateway.pool.execute("UPDATE deliveries SET state = $1, due_at = $2", status, due_at)

    for text in (status, status.lower()):
        answer = await gateway.ask("GET", "/v1/messages", params={"status": text})
        assert [row["status"] for row in answer.json()["data"]] == [status]


async def test_the_details_of_a_message_have_its_events(gateway):
    message_id = (await gateway.post(as_json(EMAIL))).json()["id"]

    message = (await gateway.ask("GET", f"/v1/messages/{message_id}")).json()

    shown = ("from", "to", "subject", "tags", "provider", "attempts", "events")
    assert {name: message[name] for name in shown[:-1]} == {
        "from": "noreply@yourapp.com",
        "to": ["user@example.com"],
        "subject": "Order Confirmation",
        "tags": ["transactional", "orders"],
        "provider": None,
        "attempts": 0,
    }
    (event,) = message["events"]
    assert {"id", "type", "status", "provider", "recipient", "detail", "created_at"} <= set(event)
    assert (event["type"], event["status"]) == ("accepted", "QUEUED")


async def test_a_queued_message_is_cancelled_and_another_is_not(gateway):
    queued, sent = [(await gateway.post(as_json(body))).json()["id"] for body in (SMS, EMAIL)]
    await gateway.pool.execute("UPDATE deliveries SET state = 'SENT', due_at = NULL WHERE channel = 'email'")

    cancelled = await gateway.ask("DELETE", f"/v1/messages/{queued}/cancel")
    refused = await gateway.ask("DELETE", f"/v1/messages/{sent}/cancel")

    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "CANCELLED")
    error_of(refused, 409, "MESSAGE_NOT_CANCELLABLE")
