"""F5 and F6: what the published schema says of send requests is true on the bus, and each record is answered there."""

import asyncio
import json

from jsonschema import Draft202012Validator

from tests.examples import a_body, as_json
from tests.fuzz.asyncapi_requests import allowed, forbidden
from tests.repository.files import ROOT
from tests.system.testbed import sluice

EACH = 40  # requests
SEED = 1
DOCUMENT = json.loads((ROOT / "docs" / "asyncapi.json").read_text("utf-8"))


async def made(requests):
    return [value async for value in requests if value]  # an empty record has no answer: it is dead-lettered


async def answered(testbed, values, **headers):
    """The answers to records with these values, in their order, each with its headers."""
    places = [
        (number % 8, await testbed.publish(value, partition=number % 8, **headers))
        for number, value in enumerate(values)
    ]
    answers = await testbed.answers(places)
    return [answers[place] for place in places]


async def test_f5_the_bus_accepts_what_the_schema_allows_and_rejects_what_it_forbids(testbed):
    good = await made(allowed(DOCUMENT, SEED, EACH))
    bad = await made(forbidden(DOCUMENT, SEED, EACH))

    answers = [answer for answer, _ in await answered(testbed, [*good, *bad], x_sendpipe_key=testbed.sandbox_key)]

    accepted, rejected = answers[: len(good)], answers[len(good) :]
    assert [(value, one) for value, one in zip(good, accepted, strict=True) if one["type"] != "request_accepted"] == []
    assert [(value, one) for value, one in zip(bad, rejected, strict=True) if one["type"] != "request_rejected"] == []
    assert {one["code"] for one in rejected} == {"VALIDATION_ERROR"}
    query = "SELECT id FROM messages WHERE project_id = $1"
    stored = [str(row["id"]) for row in await testbed.db.fetch(query, testbed.project.id)]
    assert sorted(stored) == sorted(one["message_id"] for one in accepted)
    assert {json.loads(value)["channel"] for value in good} >= {"email", "sms", "whatsapp", "push"}


async def test_f5_the_events_on_the_bus_are_those_of_the_schema(testbed, mailbox):
    payload = {"$ref": "#/components/schemas/events:Message:Payload", "components": DOCUMENT["components"]}
    message_headers = DOCUMENT["components"]["messages"]["events:Message"]["headers"]
    for body in (a_body(), a_body(to=["no-address"])):
        await testbed.publish(as_json(body), correlation_id="corr-1")

    wanted = {"request_accepted", "request_rejected", "attempt_failed", "sent"}
    events = await testbed.events(lambda events: {event["type"] for event, _ in events} >= wanted)

    assert [list(Draft202012Validator(payload).iter_errors(event)) for event, _ in events] == [[]] * len(events)
    assert [list(Draft202012Validator(message_headers).iter_errors(one)) for _, one in events] == [[]] * len(events)


async def test_f6_a_publisher_finds_what_became_of_its_request(testbed, mailbox):
    body = as_json(a_body(idempotency_key="order-7"))

    [(first, one), (repeated, other)] = await answered(testbed, [body, body], correlation_id="corr-1")
    [(rejected, its)] = await answered(testbed, [as_json(a_body(to=["no-address"]))], correlation_id="corr-2")

    message = await testbed.settled(first["id"])
    assert (message["status"], first["idempotency_key"]) == ("SENT", "order-7")
    assert {first["id"], repeated["id"]} == {message["id"]}
    assert sorted([first["replayed"], repeated["replayed"]]) == [False, True]
    assert (rejected["code"], rejected["field"]) == ("VALIDATION_ERROR", "to.0")
    assert [headers["correlation_id"] for headers in (one, other, its)] == ["corr-1", "corr-1", "corr-2"]


async def test_f12_the_command_that_publishes_shows_what_became_of_the_request(testbed, mailbox):
    async def publish(*words):
        return await asyncio.to_thread(sluice, testbed.system, "publish", "--to", "ada@example.com", *words)

    accepted = await publish("--key", testbed.key)
    rejected = await publish("--key", testbed.key, "--channel", "sms")
    unknown = await publish("--key", "sp_live_" + "a" * 48, "--wait", "1")

    assert accepted.returncode == 0, accepted.stderr
    message_id = accepted.stdout.removeprefix("accepted as ").partition(";")[0]
    assert (await testbed.settled(message_id))["status"] == "SENT"
    assert (rejected.returncode, rejected.stderr.partition(":")[0]) == (1, "sluice")
    assert "rejected with VALIDATION_ERROR: " in rejected.stderr
    assert unknown.returncode == 1
    assert "not answered within 1 s" in unknown.stderr
