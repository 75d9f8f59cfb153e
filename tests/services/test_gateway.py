"""The gateway in process: who may ask, what is answered, and in which words."""

import asyncio
import json
from datetime import timedelta

import httpx
import pytest

from gateway.app import create_app
from gateway.auth.api_keys import ApiKeyAuthenticator
from gateway.ingest.ingest import MessageIngest
from gateway.ingest.kafka_ingress import SendRequestConsumer
from gateway.receipts.endpoint import ReceiptEndpoint
from sluice.bus.messages import DeliveryTask, RequestRejected
from sluice.delivery.outbox import OutboxPublisher
from sluice.model import ids
from sluice.runtime.clock import utc_now
from sluice.store import api_keys, projects
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from tests.examples import a_body, as_json, seconds
from tests.polling import wait_until
from tests.services.fakes import FakeRecord

pytestmark = pytest.mark.store

LARGEST = 100_000
CONVEYOR = 20


class Gateway:
    """The parts of a gateway, and a client on its app."""

    def __init__(self, pool, memory, bus):
        self.pool, self.bus = pool, bus
        self.acceptance = MessageIngest(
            pool, memory, bus, requeue_after=timedelta(seconds=8), max_pending=1000, dispatch_queue_limit=CONVEYOR
        )
        self.announcer = OutboxPublisher(pool, bus)
        self.receipts = ReceiptEndpoint(pool, memory, CredentialCipher(bytes(32)), self.announcer, public_url=None)
        self.keys = ApiKeyAuthenticator(memory, pool)
        self.intake = SendRequestConsumer(self.keys, self.acceptance, bus, max_body=LARGEST)
        self.app = create_app(
            authenticator=self.keys,
            ingest=self.acceptance,
            receipts=self.receipts,
            outbox=self.announcer,
            config=memory,
            pool=pool,
            max_request_bytes=LARGEST,
            ready=lambda: None,
        )
        self.key = ""
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url="http://gateway"
        )

    async def new_project(self, slug="shop"):
        """The key of a new project."""
        now = utc_now()
        project = await projects.create_project(self.pool, organization="Shop", slug=slug, name=slug, now=now)
        return await api_keys.create_key(self.pool, project.id, name="test", is_test=False, now=now)

    async def ask(self, method, path, *, key=None, **request):
        headers = {"x-sendpipe-key": self.key if key is None else key} | request.pop("headers", {})
        return await self.client.request(method, path, headers=headers, **request)

    async def post(self, content=None, *, key=None, **headers):
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return await self.ask(
            "POST",
            "/v1/messages/channel",
            key=key,
            content=as_json(a_body()) if content is None else content,
            headers=named,
        )

    async def count(self):
        return await self.pool.fetchval("SELECT count(*) FROM messages")


@pytest.fixture
async def gateway(pool, store_database, bus):
    async with ConfigCache().subscribed(store_database) as memory:
        gateway = Gateway(pool, memory, bus)
        gateway.key = await gateway.new_project()
        async with gateway.acceptance.running(), gateway.announcer.running(), gateway.receipts.running():
            yield gateway
        await gateway.client.aclose()


def error_of(answer, status, code):
    """The error, if the answer is one in the envelope."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    error = answer.json()["error"]
    assert (error["code"], set(error) - {"field"}) == (code, {"code", "message", "docs"})
    return error


# -- sending -----------------------------------------------------------------------------------------------------


async def test_every_error_points_to_a_place_on_the_error_page(gateway):
    refused = await gateway.client.get("/v1/nothing")
    page, _, place = refused.json()["error"]["docs"].partition("#")

    found = await gateway.client.get(page)

    assert f'id="{place}"' in found.text


async def test_what_is_beyond_a_projects_share_waits_in_the_record_and_no_other_project_notices(gateway, monkeypatch):
    async def not_now(*_):
        """A look would forget the request that is being recorded at that moment."""

    monkeypatch.setattr("gateway.ingest.dispatch_quota.DispatchQuota.refresh", not_now)
    answers = [await gateway.post() for _ in range(CONVEYOR + 5)]
    other = await gateway.new_project("other")
    answers.append(await gateway.post(key=other))

    assert [answer.status_code for answer in answers] == [201] * (CONVEYOR + 6)
    assert len(gateway.bus.on("deliveries.accepted")) == CONVEYOR + 1
    waiting = await gateway.pool.fetch(
        "SELECT due_at <= $1 AS due FROM deliveries WHERE enqueued_at IS NULL AND due_at IS NOT NULL", utc_now()
    )
    assert [row["due"] for row in waiting] == [True] * 5


async def test_when_the_conveyor_has_emptied_there_is_room_again(gateway):
    for _ in range(CONVEYOR):
        await gateway.post()
    await gateway.pool.execute("UPDATE deliveries SET due_at = NULL, enqueued_at = NULL, state = 'SENT'")

    async def goes():
        before = len(gateway.bus.on("deliveries.accepted"))
        await gateway.post()
        return len(gateway.bus.on("deliveries.accepted")) > before

    await wait_until(goes)


async def test_who_has_too_many_requests_open_is_refused_and_told_when_to_come_again(gateway, monkeypatch):
    monkeypatch.setattr("gateway.ingest.admission.AdmissionController.acquire", lambda *_, **__: None)

    refused = await gateway.post()

    error_of(refused, 429, "RATE_LIMIT_EXCEEDED")
    assert refused.headers["retry-after"] == "1"
    assert await gateway.count() == 0


@pytest.mark.parametrize(("delivery_class", "status"), [("standard", 429), ("urgent", 201)])
async def test_of_a_project_that_has_a_pile_only_urgent_messages_are_let_in_while_answers_are_late(
    gateway, monkeypatch, delivery_class, status
):
    monkeypatch.setattr("gateway.ingest.dispatch_quota.DispatchQuota.is_backlogged", lambda *_: True)
    monkeypatch.setattr("gateway.ingest.admission.AdmissionController.acquire", lambda *_, backlogged: None if backlogged else 1.0)
    monkeypatch.setattr("gateway.ingest.admission.AdmissionController.release", lambda *_: None)

    answer = await gateway.post(as_json(a_body(**{"class": delivery_class})))

    assert answer.status_code == status


async def test_a_request_is_recorded_put_on_the_conveyor_and_answered(gateway):
    answer = await gateway.post()

    assert answer.status_code == 201
    body = answer.json()
    assert (body["status"], body["channel"], body["id"][:4], body["project_id"][:5]) == (
        "queued",
        "email",
        "msg_",
        "proj_",
    )
    (task,) = [DeliveryTask.model_validate_json(value) for value in gateway.bus.on("deliveries.accepted")]
    assert await gateway.pool.fetchval("SELECT id FROM deliveries") == task.delivery_id


async def test_what_travels_on_the_bus_holds_no_content(gateway):
    await gateway.post(as_json(a_body(text="canary-text", to=["canary@example.com"], metadata={"a": "canary"})))

    assert not [value for _, value in gateway.bus.published if b"canary" in value]


async def test_a_request_succeeds_although_kafka_is_away(gateway):
    gateway.bus.unavailable = True

    answer = await gateway.post()

    assert (answer.status_code, await gateway.count()) == (201, 1)


async def test_a_scheduled_message_is_not_put_on_the_conveyor(gateway):
    later = (utc_now() + seconds(3600)).isoformat()

    answer = await gateway.post(as_json(a_body(send_at=later)))

    assert (answer.status_code, gateway.bus.published) == (201, [])


async def test_the_same_request_again_gets_the_same_answer(gateway):
    first, again = [await gateway.post(idempotency_key="order-7") for _ in range(2)]

    assert (again.status_code, again.json()) == (201, first.json())
    assert [answer.headers.get("idempotent-replayed") for answer in (first, again)] == [None, "true"]
    assert (await gateway.count(), len(gateway.bus.on("deliveries.accepted"))) == (1, 1)


async def test_the_key_in_the_body_is_the_key_in_the_header(gateway):
    first = await gateway.post(idempotency_key="order-7")

    again = await gateway.post(as_json(a_body(idempotency_key="order-7")))

    assert again.json() == first.json()


async def test_another_request_with_the_key_is_a_conflict(gateway):
    await gateway.post(idempotency_key="order-7")

    answer = await gateway.post(as_json(a_body(subject="Another")), idempotency_key="order-7")

    error_of(answer, 409, "IDEMPOTENCY_CONFLICT")
    assert await gateway.count() == 1


async def test_a_repeat_is_answered_although_its_time_has_passed(gateway):
    body = as_json(a_body(send_at=(utc_now() + seconds(0.5)).isoformat()))
    first = await gateway.post(body, idempotency_key="order-7")

    async def once_it_is_past():
        return await gateway.post(body) if (await gateway.post(body)).status_code == 400 else None

    await wait_until(once_it_is_past)
    again = await gateway.post(body, idempotency_key="order-7")

    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())


async def test_a_body_that_is_too_large_is_refused(gateway):
    error_of(await gateway.post(b"x" * (LARGEST + 1)), 413, "PAYLOAD_TOO_LARGE")


async def test_a_body_that_turns_out_too_large_is_refused(gateway):
    async def drip():
        for _ in range(LARGEST // 1000 + 1):
            yield b"x" * 1000

    error_of(await gateway.post(drip()), 413, "PAYLOAD_TOO_LARGE")


async def test_a_compressed_body_is_refused(gateway):
    error_of(await gateway.post(content_encoding="gzip"), 400, "VALIDATION_ERROR")


async def test_a_wrong_field_is_named(gateway):
    error = error_of(await gateway.post(as_json(a_body(to=["nobody"]))), 400, "VALIDATION_ERROR")

    assert error["field"] == "to.0"


async def test_fifty_requests_at_once_share_a_commit_and_keep_their_answers(gateway):
    bodies = [as_json(a_body(subject=f"Number {number}")) for number in range(50)]

    answers = await asyncio.gather(*[gateway.post(body) for body in bodies])

    subjects = [
        json.loads(await gateway.pool.fetchval("SELECT content FROM messages WHERE id = $1", read(answer)))["subject"]
        for answer in answers
    ]
    assert subjects == [f"Number {number}" for number in range(50)]


def read(answer):
    return ids.decode_id("msg", answer.json()["id"])


# -- who asks ----------------------------------------------------------------------------------------------------

ROUTES = [
    ("POST", "/v1/messages/channel"),
    ("GET", "/v1/messages/msg_00000000000000000000000000"),
    ("DELETE", "/v1/messages/msg_00000000000000000000000000/cancel"),
]
OTHER_KEY, _ = api_keys.generate_key(is_test=False)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("key", ["", "nonsense", "sp_live_" + "a" * 48, OTHER_KEY, "schl\u00fcssel"])
async def test_nobody_gets_in_without_a_key(gateway, method, path, key):
    error = error_of(await gateway.ask(method, path, key=key.encode("latin-1")), 401, "UNAUTHORIZED")

    assert not key or key not in error["message"]


async def test_a_new_key_works_at_once(gateway):
    assert (await gateway.post(key=await gateway.new_project("other"))).status_code == 201


async def test_a_switched_off_key_stops_working(gateway):
    await gateway.pool.execute("UPDATE api_keys SET is_active = false")

    async def refused():
        return (await gateway.post()).status_code == 401

    await wait_until(refused)


async def test_the_message_of_another_project_does_not_exist(gateway):
    message_id = (await gateway.post()).json()["id"]
    stranger = await gateway.new_project("other")

    answers = [
        await gateway.ask("GET", f"/v1/messages/{message_id}", key=stranger),
        await gateway.ask("DELETE", f"/v1/messages/{message_id}/cancel", key=stranger),
    ]

    for answer in answers:
        error_of(answer, 404, "NOT_FOUND")
    assert (await gateway.ask("GET", f"/v1/messages/{message_id}")).json()["status"] == "QUEUED"


# -- reading and taking back -------------------------------------------------------------------------------------


async def test_a_message_is_shown_with_its_history(gateway):
    body = a_body(tags=["welcome"], metadata={"order": 7})
    message_id = (await gateway.post(as_json(body))).json()["id"]

    message = (await gateway.ask("GET", f"/v1/messages/{message_id}")).json()

    assert {name: message[name] for name in ("from", "to", "subject", "tags", "metadata")} == {
        name: body[name] for name in ("from", "to", "subject", "tags", "metadata")
    }
    assert [event["type"] for event in message["events"]] == ["accepted"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/messages/msg_00000000000000000000000000",
        "/v1/messages/msg_!",
        "/v1/messages/%00",
        "/v1/messages/%F0%9F%98%80",
        "/v1/nothing",
        "/",
    ],
)
async def test_what_does_not_exist_is_said_in_the_envelope(gateway, path):
    error_of(await gateway.ask("GET", path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/messages/channel"), ("PUT", "/v1/messages/channel"), ("POST", "/v1/messages/msg_x/cancel")],
)
async def test_a_wrong_method_is_said_in_the_envelope(gateway, method, path):
    answer = await gateway.ask(method, path)

    assert (answer.status_code, set(answer.json())) == (405, {"error"})


async def test_a_message_is_taken_back_once(gateway):
    message_id = (await gateway.post()).json()["id"]

    answers = [await gateway.ask("DELETE", f"/v1/messages/{message_id}/cancel") for _ in range(2)]

    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(200, "CANCELLED")] * 2
    assert len(gateway.bus.on("delivery.events")) == 1


async def test_a_message_on_its_way_is_not_taken_back(gateway):
    message_id = (await gateway.post()).json()["id"]
    await gateway.pool.execute("UPDATE deliveries SET state = 'SENDING', in_flight = true")

    answer = await gateway.ask("DELETE", f"/v1/messages/{message_id}/cancel")

    error_of(answer, 409, "MESSAGE_NOT_CANCELLABLE")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_bug_of_ours_is_an_answer_in_the_envelope_that_tells_nothing(gateway, method, path):
    async def broken(text):
        raise RuntimeError("canary of the inside")

    gateway.keys.authenticate = broken

    answer = await gateway.ask(method, path)

    error_of(answer, 500, "INTERNAL_ERROR")
    assert "canary" not in answer.text


# -- the second door ---------------------------------------------------------------------------------------------


def a_record(gateway, value=None, **changes):
    headers = changes.pop("headers", (("x-sendpipe-key", gateway.key.encode()),))
    return FakeRecord(as_json(a_body()) if value is None else value, headers, topic="send.requests", **changes)


async def take(gateway, *records):
    await gateway.intake.handle_batch(list(records))
    await wait_until(lambda: all(record.acked for record in records))


def parked(gateway):
    return [json.loads(value) for value in gateway.bus.on("dead.letters")]


async def test_a_record_is_accepted_like_a_request(gateway):
    await take(gateway, a_record(gateway))

    assert (await gateway.count(), len(gateway.bus.on("deliveries.accepted")), parked(gateway)) == (1, 1, [])


async def test_a_record_that_is_read_twice_is_one_message(gateway):
    for _ in range(2):
        await take(gateway, a_record(gateway, offset=17))

    assert await gateway.count() == 1


async def test_two_records_alike_are_two_messages(gateway):
    await take(gateway, a_record(gateway, offset=17), a_record(gateway, offset=18))

    assert await gateway.count() == 2


async def test_a_record_at_the_same_place_of_a_wiped_topic_is_another_message(gateway):
    await take(gateway, a_record(gateway, offset=17, timestamp=1_000))
    await take(gateway, a_record(gateway, offset=17, timestamp=2_000))

    assert (await gateway.count(), parked(gateway)) == (2, [])


async def test_a_key_counts_through_both_doors(gateway):
    await gateway.post(idempotency_key="order-7")

    await take(gateway, a_record(gateway, as_json(a_body(idempotency_key="order-7"))))

    assert (await gateway.count(), parked(gateway)) == (1, [])


async def test_a_refused_record_is_told_to_its_project(gateway):
    await take(gateway, a_record(gateway, as_json(a_body(to=["nobody"])), offset=17, partition=3))

    (rejected,) = [RequestRejected.model_validate_json(value) for value in gateway.bus.on("delivery.events")]
    assert (rejected.code, rejected.field, rejected.partition, rejected.offset) == ("VALIDATION_ERROR", "to.0", 3, 17)
    assert len(parked(gateway)) == 1


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ((), "UNAUTHORIZED"),
        ((("x-sendpipe-key", None),), "UNAUTHORIZED"),
        ((("x-sendpipe-key", b"\xff\xfe"),), "UNAUTHORIZED"),
        ((("schema-version", b"\xff"),), "schema version"),
        ((("schema-version", b"9" * 100_000),), "schema version"),
        ((("name", None), ("schema-version", b"1")), "schema version"),
    ],
)
async def test_a_record_with_odd_headers_is_parked(gateway, headers, reason):
    await take(gateway, a_record(gateway, headers=headers))

    (letter,) = parked(gateway)
    assert letter["reason"].startswith(reason)
    assert await gateway.count() == 0


async def test_a_bad_record_waits_for_kafka_to_be_parked(gateway):
    gateway.bus.unavailable = True
    record = a_record(gateway, b"{]")
    await gateway.intake.handle_batch([record])

    gateway.bus.unavailable = False

    await wait_until(lambda: record.acked)
    assert len(parked(gateway)) == 1


async def test_a_record_that_was_taken_away_is_left_to_the_other(gateway):
    record = a_record(gateway, owned=False)

    await take(gateway, record)

    assert await gateway.count() == 0
