"""``POST /v1/messages/batch``."""

import asyncio

import pytest

from gateway.messages import batch
from sluice.bus.messages import DeliveryTask
from tests.examples import a_body, as_json
from tests.loop_lag import LIMIT, loop_lag
from tests.services.fakes import SlowBody
from tests.services.test_gateway import error_of

BATCH = "/v1/messages/batch"


def bodies(number, **fields):
    return [a_body(to=[f"{one}@example.com"], **fields) for one in range(number)]


async def send(gateway, messages, *, key=None, **headers):
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return await gateway.ask("POST", BATCH, key=key, content=as_json({"messages": messages}), headers=named)


async def test_every_message_of_a_batch_is_stored_and_enqueued(gateway):
    answer = await send(gateway, bodies(3))

    assert answer.status_code == 201
    accepted = answer.json()["data"]
    assert [(one["status"], one["channel"]) for one in accepted] == [("queued", "email")] * 3
    assert len({one["id"] for one in accepted}) == 3
    tasks = [DeliveryTask.model_validate_json(value) for value in gateway.bus.on("deliveries.accepted")]
    stored = await gateway.pool.fetch("SELECT id FROM deliveries")
    assert {task.delivery_id for task in tasks} == {row["id"] for row in stored}
    listed = (await gateway.ask("GET", "/v1/messages")).json()["data"]
    assert [(row["id"], row["to"]) for row in reversed(listed)] == [
        (one["id"], [f"{number}@example.com"]) for number, one in enumerate(accepted)
    ]


async def test_a_message_with_an_error_concerns_no_other(gateway):
    messages = [
        a_body(to=["no address"]),
        a_body(),
        7,
        a_body(channel="pigeon"),
        a_body(preferred_provider="prv_x"),
        a_body(metadata={"order": ["\x00"]}),
    ]

    answer = await send(gateway, messages)

    assert answer.status_code == 201
    found = [one.get("error", {}) for one in answer.json()["data"]]
    assert [(one.get("code"), one.get("field")) for one in found] == [
        ("VALIDATION_ERROR", "to.0"),
        (None, None),
        ("VALIDATION_ERROR", None),
        ("VALIDATION_ERROR", "channel"),
        ("VALIDATION_ERROR", "preferred_provider"),
        ("VALIDATION_ERROR", "metadata.order.0"),
    ]
    assert await gateway.count() == 1


async def test_a_large_batch_is_stored_in_chunks(gateway, monkeypatch):
    monkeypatch.setattr(batch, "_CHUNK", 3)

    answer = await send(gateway, bodies(10))

    assert len(answer.json()["data"]) == 10
    transactions = await gateway.pool.fetchval("SELECT count(DISTINCT xmin::text) FROM messages")
    assert (await gateway.count(), transactions) == (10, 4)


async def test_a_repeated_batch_sends_nothing_twice(gateway):
    first, again = [await send(gateway, bodies(3), idempotency_key="news-7") for _ in range(2)]

    assert again.json() == first.json()
    assert [answer.headers.get("idempotent-replayed") for answer in (first, again)] == [None, "true"]
    assert (await gateway.count(), len(gateway.bus.on("deliveries.accepted"))) == (3, 3)


async def test_an_item_that_differs_from_the_first_batch_is_a_conflict(gateway):
    await send(gateway, bodies(2), idempotency_key="news-7")

    answer = await send(gateway, [*bodies(1), a_body(subject="Another"), a_body()], idempotency_key="news-7")

    codes = [one.get("error", {}).get("code") for one in answer.json()["data"]]
    assert codes == [None, "IDEMPOTENCY_CONFLICT", None]
    assert "idempotent-replayed" not in answer.headers
    assert await gateway.count() == 3


async def test_a_conflict_of_an_item_that_is_wrong_by_now_concerns_no_other(gateway):
    await gateway.post(as_json(a_body(idempotency_key="order-7")))

    answer = await send(gateway, [a_body(idempotency_key="order-7", preferred_provider="prv_x"), a_body()])

    assert answer.status_code == 201
    codes = [one.get("error", {}).get("code") for one in answer.json()["data"]]
    assert codes == ["IDEMPOTENCY_CONFLICT", None]


async def test_a_message_with_its_own_key_is_the_same_as_alone(gateway):
    body = a_body(idempotency_key="order-7")
    alone = (await gateway.post(as_json(body))).json()

    answer = await send(gateway, [body, body], idempotency_key="news-7")

    assert answer.json()["data"] == [alone, alone]
    assert await gateway.count() == 1


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": [{}] * 1001}, "messages"),
        ({"messages": [{}], "to": "x"}, "to"),
        ({"messages": [{}], "to" * 99: "x"}, ("to" * 99)[:100]),
        ([], None),
    ],
)
async def test_a_body_of_another_form_is_refused(gateway, document, field):
    answer = await gateway.ask("POST", BATCH, content=as_json(document))

    assert error_of(answer, 400, "VALIDATION_ERROR").get("field") == field


async def test_a_body_that_is_no_json_is_refused(gateway):
    error_of(await gateway.ask("POST", BATCH, content=b"{"), 400, "VALIDATION_ERROR")


async def test_a_batch_that_is_too_large_is_refused_before_it_is_decoded(gateway):
    error_of(await gateway.ask("POST", BATCH, content=b"x" * (batch.MAX_BYTES + 1)), 413, "PAYLOAD_TOO_LARGE")
    many = as_json({"messages": [{"a": "b"}] * 70_000})
    error_of(await gateway.ask("POST", BATCH, content=many), 413, "PAYLOAD_TOO_LARGE")


async def test_nothing_is_accepted_while_the_database_is_away(gateway, monkeypatch):
    async def away(*_):
        raise ConnectionError

    monkeypatch.setattr("sluice.store.ingest.insert_batch", away)

    answer = await send(gateway, bodies(2))

    error_of(answer, 503, "UNAVAILABLE")
    assert (await gateway.count(), gateway.bus.published) == (0, [])


async def test_chunks_that_were_stored_are_answered_although_a_later_one_was_not(gateway, monkeypatch):
    monkeypatch.setattr(batch, "_CHUNK", 2)
    insert, calls = batch.MessageBatch.insert, []

    async def once(self, connection):
        calls.append(1)
        if len(calls) > 1:
            raise ConnectionError
        return await insert(self, connection)

    monkeypatch.setattr(batch.MessageBatch, "insert", once)

    answer = await send(gateway, bodies(3))

    assert [one.get("error", {}).get("code") for one in answer.json()["data"]] == [None, None, "UNAVAILABLE"]
    assert await gateway.count() == 2


async def a_slow_batch(gateway, *, key=None):
    """A batch of the largest size, of which the end does not come yet, and its body."""
    body = SlowBody(as_json({"messages": bodies(1)}))
    headers = {"content-length": str(batch.MAX_BYTES)}
    task = asyncio.create_task(gateway.ask("POST", BATCH, key=key, content=body, headers=headers))
    await body.is_read.wait()
    return task, body


async def test_slow_batches_of_some_projects_leave_room_for_those_of_others(gateway):
    """Two projects with two batches each used up what all projects together had, also for the smallest batch."""
    large = bodies(200, text="x" * 500)
    other = await gateway.new_project("other")
    third = await gateway.new_project("third")
    slow = [await a_slow_batch(gateway), await a_slow_batch(gateway, key=other)]

    error_of(await send(gateway, large), 429, "RATE_LIMIT_EXCEEDED")  # the share of the project
    assert (await send(gateway, bodies(1))).status_code == 201
    assert (await send(gateway, large, key=third)).status_code == 201

    for task, body in slow:
        body.ends.set()
        assert (await task).status_code == 201
    assert (await send(gateway, large)).status_code == 201


async def test_a_batch_counts_until_it_is_stored(gateway, monkeypatch):
    """Its messages are in memory as long."""
    large = bodies(200, text="x" * 500)
    monkeypatch.setattr(batch, "_budget", batch.BodyBudget(total=200_000, per_project=200_000))
    insert, is_storing, goes_on = batch.MessageBatch.insert, asyncio.Event(), asyncio.Event()

    async def slow(self, connection):
        is_storing.set()
        await goes_on.wait()
        return await insert(self, connection)

    monkeypatch.setattr(batch.MessageBatch, "insert", slow)
    first = asyncio.create_task(send(gateway, large))
    await is_storing.wait()

    error_of(await send(gateway, large), 429, "RATE_LIMIT_EXCEEDED")

    goes_on.set()
    assert (await first).status_code == 201


def to_many(messages, recipients):
    """Messages to so many recipients each, no two of them the same."""
    return [
        {"channel": "telegram", "to": [str(10**8 + one * 1_000 + at) for at in range(recipients)], "text": "x"}
        for one in range(messages)
    ]


@pytest.mark.parametrize("fields", [("to",), ("to", "cc"), ("bcc", "to")])
async def test_a_batch_with_too_many_recipients_is_refused(gateway, fields):
    addresses = [f"a{one}@example.com" for one in range(1_000)]
    messages = [a_body(**dict.fromkeys(fields, addresses)) for _ in range(10 // len(fields))]

    answer = await send(gateway, [*messages, a_body(to=["b@example.com"])])

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == "messages"
    assert await gateway.count() == 0


async def test_the_batch_of_the_finding_is_refused_and_does_not_stop_the_loop(gateway):
    await send(gateway, to_many(1, 1))
    content = as_json({"messages": to_many(200, 550)})

    async with loop_lag() as lag:
        answer = await gateway.ask("POST", BATCH, content=content)

    assert answer.status_code == 400
    assert lag.worst < LIMIT


@pytest.mark.parametrize(("messages", "recipients"), [(10, 1_000), (100, 100), (1_000, 10)])
async def test_the_largest_batch_does_not_stop_the_loop(gateway, messages, recipients):
    gateway.client.event_hooks = {}
    await send(gateway, to_many(1, 1))
    content = as_json({"messages": to_many(messages, recipients)})

    async with loop_lag() as lag:
        answer = await gateway.ask("POST", BATCH, content=content)

    assert [one["status"] for one in answer.json()["data"]] == ["queued"] * messages
    assert await gateway.pool.fetchval("SELECT count(*) FROM deliveries") == messages * recipients + 1
    assert await gateway.pool.fetchval("SELECT count(DISTINCT xmin::text) FROM messages") == 10 + 1
    assert lag.worst < LIMIT


async def test_single_messages_to_many_recipients_are_not_all_stored_together(gateway):
    answers = await asyncio.gather(*[gateway.post(as_json(one)) for one in to_many(12, 400)])

    assert {answer.status_code for answer in answers} == {201}
    sizes = await gateway.pool.fetch("SELECT count(*) AS size FROM deliveries GROUP BY xmin::text")
    assert sum(row["size"] for row in sizes) == 4_800
    assert max(row["size"] for row in sizes) <= 1_200
