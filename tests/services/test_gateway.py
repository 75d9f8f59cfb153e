"""The gateway in process: authentication, responses, and the text of errors."""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import timedelta

import httpx
import pytest
from prometheus_client import REGISTRY

from gateway.asgi import create_asgi
from gateway.auth.api_keys import ApiKeyAuthenticator
from gateway.auth.permissions import Role
from gateway.auth.principal import UserPrincipal
from gateway.ingest.ingest import MessageIngest
from gateway.ingest.kafka_ingress import SendRequestConsumer
from gateway.receipts.endpoint import ReceiptEndpoint
from gateway.services import Services
from sluice.bus.messages import DeliveryTask, RequestRejected
from sluice.delivery.outbox import OutboxPublisher
from sluice.model import ids
from sluice.runtime.batching import QueueFullError
from sluice.runtime.clock import utc_now
from sluice.store import api_keys, projects
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.logins import GATEWAY
from tests.engine import as_login
from tests.examples import a_body, as_json, seconds
from tests.polling import wait_until
from tests.services import openapi_check
from tests.services.fakes import FakeRecord, with_a_patient_gateway

MAX_BODY = 100_000  # bytes
QUEUE_LIMIT = 20  # deliveries


async def check_documented(response):
    await response.aread()
    openapi_check.check(response)


class Gateway:
    """The services of a gateway, and a client of its APIs that compares every response with the OpenAPI document."""

    def __init__(self, owner_pool, pool, config, bus):
        self.pool, self.config, self.bus = owner_pool, config, bus
        self.ingest = MessageIngest(
            pool, config, bus, requeue_after=timedelta(seconds=8), max_pending=1000, dispatch_queue_limit=QUEUE_LIMIT
        )
        self.outbox = OutboxPublisher(pool, bus)
        self.receipts = ReceiptEndpoint(
            pool, config, CredentialCipher(lambda: [bytes(32)]), self.outbox, public_url=None
        )
        self.authenticator = ApiKeyAuthenticator(config, pool)
        self.ingress = SendRequestConsumer(self.authenticator, self.ingest, bus, max_body=MAX_BODY)
        services = Services(pool, config, self.authenticator, self.ingest, self.receipts, self.outbox)
        self.app = create_asgi(services, max_request_bytes=MAX_BODY, ready=lambda: None)
        self.key = ""
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False),
            base_url="http://gateway",
            event_hooks={"response": [check_documented]},
        )

    async def new_project(self, slug="shop"):
        """The key of a new project."""
        now = utc_now()
        project = await projects.create_project(self.pool, organization="Shop", slug=slug, name=slug, now=now)
        return await api_keys.create_key(self.pool, project.id, name="test", is_test=False, now=now)

    async def another_key(self, *, is_test):
        """Another key of the first project."""
        project_id = await self.pool.fetchval("SELECT id FROM projects ORDER BY created_at LIMIT 1")
        return await api_keys.create_key(self.pool, project_id, name="another", is_test=is_test, now=utc_now())

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
async def gateway(pool, role_pools, store_database, bus, monkeypatch):
    with_a_patient_gateway(monkeypatch)
    async with ConfigCache().subscribed(as_login(store_database, GATEWAY)) as config:
        gateway = Gateway(pool, role_pools.gateway, config, bus)
        gateway.key = await gateway.new_project()
        async with AsyncExitStack() as services:
            for service in (gateway.authenticator, gateway.ingest, gateway.outbox, gateway.receipts):
                await services.enter_async_context(service.running())
            yield gateway
        await gateway.client.aclose()


def error_of(answer, status, code):
    """The error, if the response is one in the envelope of ``/v1``."""
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


async def test_deliveries_above_a_projects_quota_enter_the_backlog_and_do_not_delay_another_project(
    gateway, monkeypatch
):
    async def not_now(*_):
        """A refresh would not count the request that is being stored at that moment."""

    monkeypatch.setattr("gateway.ingest.dispatch_quota.DispatchQuota.refresh", not_now)
    answers = [await gateway.post() for _ in range(QUEUE_LIMIT + 5)]
    other = await gateway.new_project("other")
    answers.append(await gateway.post(key=other))

    assert [answer.status_code for answer in answers] == [201] * (QUEUE_LIMIT + 6)
    assert len(gateway.bus.on("deliveries.accepted")) == QUEUE_LIMIT + 1
    waiting = await gateway.pool.fetch(
        "SELECT due_at <= $1 AS due FROM deliveries WHERE enqueued_at IS NULL AND due_at IS NOT NULL", utc_now()
    )
    assert [row["due"] for row in waiting] == [True] * 5


async def test_when_the_dispatch_queue_is_empty_the_quota_is_available_again(gateway):
    for _ in range(QUEUE_LIMIT):
        await gateway.post()
    await gateway.pool.execute("UPDATE deliveries SET due_at = NULL, enqueued_at = NULL, state = 'SENT'")

    async def is_enqueued():
        before = len(gateway.bus.on("deliveries.accepted"))
        await gateway.post()
        return len(gateway.bus.on("deliveries.accepted")) > before

    await wait_until(is_enqueued)


async def test_projects_above_their_quota_are_counted_while_they_send(gateway):
    for _ in range(QUEUE_LIMIT):
        await gateway.post()

    async def is_counted():
        await gateway.post()
        return backlogged_projects() == 1

    await wait_until(is_counted)
    await gateway.pool.execute("UPDATE deliveries SET due_at = NULL, enqueued_at = NULL, state = 'SENT'")
    await wait_until(lambda: backlogged_projects() == 0)


def backlogged_projects():
    return REGISTRY.get_sample_value("sluice_backlogged_projects")


async def test_a_project_with_too_many_concurrent_requests_gets_429_with_retry_after(gateway, monkeypatch):
    monkeypatch.setattr("gateway.ingest.admission.AdmissionController.acquire", lambda *_, **__: None)

    refused = await gateway.post()

    error_of(refused, 429, "RATE_LIMIT_EXCEEDED")
    assert refused.headers["retry-after"] == "1"
    assert await gateway.count() == 0


@pytest.mark.parametrize(("delivery_class", "status"), [("standard", 429), ("urgent", 201)])
async def test_a_project_above_its_quota_sends_only_urgent_messages_while_latency_is_degraded(
    gateway, monkeypatch, delivery_class, status
):
    monkeypatch.setattr("gateway.ingest.dispatch_quota.DispatchQuota.is_backlogged", lambda *_: True)
    monkeypatch.setattr(
        "gateway.ingest.admission.AdmissionController.acquire", lambda *_, backlogged: None if backlogged else 1.0
    )
    monkeypatch.setattr("gateway.ingest.admission.AdmissionController.release", lambda *_: None)

    answer = await gateway.post(as_json(a_body(**{"class": delivery_class})))

    assert answer.status_code == status


async def test_a_request_is_stored_enqueued_and_answered(gateway):
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


async def test_delivery_tasks_contain_no_content(gateway):
    await gateway.post(as_json(a_body(text="canary-text", to=["canary@example.com"], metadata={"a": "canary"})))

    assert not [value for _, value in gateway.bus.published if b"canary" in value]


async def test_a_request_succeeds_while_kafka_is_unavailable(gateway):
    gateway.bus.unavailable = True

    answer = await gateway.post()

    assert (answer.status_code, await gateway.count()) == (201, 1)


async def test_a_scheduled_message_is_not_enqueued(gateway):
    later = (utc_now() + seconds(3600)).isoformat()

    answer = await gateway.post(as_json(a_body(send_at=later)))

    assert (answer.status_code, gateway.bus.published) == (201, [])


async def test_the_same_request_again_gets_the_same_response(gateway):
    first, again = [await gateway.post(idempotency_key="order-7") for _ in range(2)]

    assert (again.status_code, again.json()) == (201, first.json())
    assert [answer.headers.get("idempotent-replayed") for answer in (first, again)] == [None, "true"]
    assert (await gateway.count(), len(gateway.bus.on("deliveries.accepted"))) == (1, 1)


async def test_the_key_in_the_body_is_the_key_in_the_header(gateway):
    first = await gateway.post(idempotency_key="order-7")

    again = await gateway.post(as_json(a_body(idempotency_key="order-7")))

    assert again.json() == first.json()


async def test_another_request_with_the_same_key_is_a_conflict(gateway):
    await gateway.post(idempotency_key="order-7")

    answer = await gateway.post(as_json(a_body(subject="Another")), idempotency_key="order-7")

    error_of(answer, 409, "IDEMPOTENCY_CONFLICT")
    assert await gateway.count() == 1


async def test_a_repeat_is_answered_although_its_time_has_passed(gateway, monkeypatch):
    an_hour_ago = utc_now() - seconds(3600)
    body = as_json(a_body(send_at=(an_hour_ago + seconds(60)).isoformat()))
    with monkeypatch.context() as then:
        then.setattr("gateway.ingest.ingest.utc_now", lambda: an_hour_ago)
        first = await gateway.post(body, idempotency_key="order-7")

    new, again = await gateway.post(body), await gateway.post(body, idempotency_key="order-7")

    assert (first.status_code, new.status_code) == (201, 400)
    assert (again.status_code, again.json()) == (201, first.json())


async def test_a_body_that_is_too_large_is_refused(gateway):
    error_of(await gateway.post(b"x" * (MAX_BODY + 1)), 413, "PAYLOAD_TOO_LARGE")


async def test_a_body_of_undeclared_length_that_is_too_large_is_refused(gateway):
    async def chunks():
        for _ in range(MAX_BODY // 1000 + 1):
            yield b"x" * 1000

    error_of(await gateway.post(chunks()), 413, "PAYLOAD_TOO_LARGE")


async def test_a_compressed_body_is_refused(gateway):
    error_of(await gateway.post(content_encoding="gzip"), 400, "VALIDATION_ERROR")


async def test_the_field_at_fault_is_named(gateway):
    error = error_of(await gateway.post(as_json(a_body(to=["no-address"]))), 400, "VALIDATION_ERROR")

    assert error["field"] == "to.0"


async def test_fifty_concurrent_requests_share_a_commit_and_get_their_own_responses(gateway):
    bodies = [as_json(a_body(subject=f"Number {number}")) for number in range(50)]

    answers = await asyncio.gather(*[gateway.post(body) for body in bodies])

    subjects = [
        json.loads(await gateway.pool.fetchval("SELECT content FROM messages WHERE id = $1", message_id_of(answer)))[
            "subject"
        ]
        for answer in answers
    ]
    assert subjects == [f"Number {number}" for number in range(50)]


def message_id_of(answer):
    return ids.decode_id("msg", answer.json()["id"])


async def test_a_request_is_refused_while_too_many_wait_for_the_database(gateway, monkeypatch):
    def full(_):
        raise QueueFullError

    monkeypatch.setattr(gateway.ingest._batcher, "submit", full)

    answer = await gateway.post()

    error_of(answer, 503, "UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"


async def test_the_duration_of_an_accepted_request_is_measured(gateway):
    def count(source):
        return REGISTRY.get_sample_value("sluice_accept_duration_seconds_count", {"source": source}) or 0

    before = [count(source) for source in ("http", "kafka")]

    await gateway.post()
    await gateway.post(b"{]")
    await consume(gateway, a_record(gateway))

    assert [count(source) for source in ("http", "kafka")] == [number + 1 for number in before]


# -- authentication ----------------------------------------------------------------------------------------------------

ROUTES = [
    ("POST", "/v1/messages/channel"),
    ("GET", "/v1/messages/msg_00000000000000000000000000"),
    ("DELETE", "/v1/messages/msg_00000000000000000000000000/cancel"),
]
OTHER_KEY, _ = api_keys.generate_key(is_test=False)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "key",
    ["", "nonsense", "sp_live_" + "a" * 48, OTHER_KEY, "schl\u00fcssel"],
    ids=["empty", "nonsense", "mistyped", "unknown", "not ascii"],
)
async def test_a_request_without_a_valid_key_is_refused(gateway, method, path, key):
    error = error_of(await gateway.ask(method, path, key=key.encode("latin-1")), 401, "UNAUTHORIZED")

    assert not key or key not in error["message"]


async def test_a_new_key_is_valid_immediately(gateway):
    assert (await gateway.post(key=await gateway.new_project("other"))).status_code == 201


async def test_finding_10_unknown_keys_share_one_query_at_a_time(gateway, monkeypatch):
    running, most, queries = 0, 0, 0
    find_keys = api_keys.find_keys

    async def counted(pool, prefixes):
        nonlocal running, most, queries
        running, queries = running + 1, queries + 1
        most = max(most, running)
        try:
            return await find_keys(pool, prefixes)
        finally:
            running -= 1

    monkeypatch.setattr("gateway.auth.api_keys.api_keys.find_keys", counted)
    keys = [api_keys.generate_key(is_test=False)[0] for _ in range(200)]

    answers = await asyncio.gather(*(gateway.post(key=key) for key in keys), gateway.post())

    assert [answer.status_code for answer in answers] == [401] * 200 + [201]
    assert most == 1
    assert queries < 50


async def test_finding_15_a_key_that_is_revoked_while_it_is_looked_up_does_not_stay_valid(gateway, monkeypatch):
    key = await gateway.new_project("other")
    monkeypatch.setattr(gateway.config, "key", lambda prefix: None)  # as before its notification
    find_keys = api_keys.find_keys

    async def revoked_after(pool, prefixes):
        found = await find_keys(pool, prefixes)
        await gateway.pool.execute("UPDATE api_keys SET is_active = false WHERE key_prefix = ANY($1)", prefixes)
        return found

    monkeypatch.setattr("gateway.auth.api_keys.api_keys.find_keys", revoked_after)

    assert [(await gateway.post(key=key)).status_code for _ in range(3)] == [201, 401, 401]


async def test_a_deactivated_key_is_refused(gateway):
    await gateway.pool.execute("UPDATE api_keys SET is_active = false")

    async def is_refused():
        return (await gateway.post()).status_code == 401

    await wait_until(is_refused)


async def test_the_message_of_another_project_is_not_found(gateway):
    message_id = (await gateway.post()).json()["id"]
    other_key = await gateway.new_project("other")

    answers = [
        await gateway.ask("GET", f"/v1/messages/{message_id}", key=other_key),
        await gateway.ask("DELETE", f"/v1/messages/{message_id}/cancel", key=other_key),
    ]

    for answer in answers:
        error_of(answer, 404, "NOT_FOUND")
    assert (await gateway.ask("GET", f"/v1/messages/{message_id}")).json()["status"] == "QUEUED"


@pytest.mark.parametrize(("role", "statuses"), [(Role.VIEWER, [403, 404, 403]), (Role.DEVELOPER, [201, 404, 404])])
async def test_a_principal_needs_the_permission_of_the_route(gateway, role, statuses):
    project_id = await gateway.pool.fetchval("SELECT id FROM projects")

    async def user(_):
        return UserPrincipal(ids.uuid7(1), project_id, role)

    gateway.authenticator.authenticate = user

    answers = [await gateway.ask(method, path, content=as_json(a_body())) for method, path in ROUTES]

    assert [answer.status_code for answer in answers] == statuses
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 403} <= {"FORBIDDEN"}


# -- test and live -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True)])
async def test_finding_6_test_and_live_requests_have_idempotency_keys_of_their_own(gateway, first, second):
    keys = {is_test: await gateway.another_key(is_test=is_test) for is_test in (True, False)}

    answers = [await gateway.post(key=keys[is_test], idempotency_key="K") for is_test in (first, second, first, second)]

    assert [answer.status_code for answer in answers] == [201] * 4
    assert ["idempotent-replayed" in answer.headers for answer in answers] == [False, False, True, True]
    ids_of = [answer.json()["id"] for answer in answers]
    assert ids_of[:2] == ids_of[2:]
    rows = await gateway.pool.fetch("SELECT sandbox FROM messages ORDER BY id")
    assert [row["sandbox"] for row in rows] == [first, second]


@pytest.mark.parametrize("is_test", [True, False])
async def test_finding_9_a_key_reads_and_cancels_only_the_messages_of_its_mode(gateway, is_test):
    own, other = [await gateway.another_key(is_test=mode) for mode in (is_test, not is_test)]
    message_id = (await gateway.post(key=own)).json()["id"]

    answers = [
        await gateway.ask("GET", f"/v1/messages/{message_id}", key=other),
        await gateway.ask("DELETE", f"/v1/messages/{message_id}/cancel", key=other),
    ]

    for answer in answers:
        error_of(answer, 404, "NOT_FOUND")
    assert (await gateway.ask("GET", f"/v1/messages/{message_id}", key=own)).json()["status"] == "QUEUED"
    assert (await gateway.ask("DELETE", f"/v1/messages/{message_id}/cancel", key=own)).json()["status"] == "CANCELLED"


# -- reading and cancelling -------------------------------------------------------------------------------------


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
        "/v1",
        "/v1/",
    ],
)
async def test_not_found_is_answered_in_the_envelope(gateway, path):
    error_of(await gateway.ask("GET", path), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/messages/channel"), ("PUT", "/v1/messages/channel"), ("POST", "/v1/messages/msg_x/cancel")],
)
async def test_method_not_allowed_is_answered_in_the_envelope(gateway, method, path):
    answer = await gateway.ask(method, path)

    assert (answer.status_code, set(answer.json())) == (405, {"error"})


async def test_a_message_is_cancelled_once(gateway):
    message_id = (await gateway.post()).json()["id"]

    answers = [await gateway.ask("DELETE", f"/v1/messages/{message_id}/cancel") for _ in range(2)]

    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(200, "CANCELLED")] * 2
    assert len(gateway.bus.on("delivery.events")) == 1


async def test_a_message_in_flight_is_not_cancelled(gateway):
    message_id = (await gateway.post()).json()["id"]
    await gateway.pool.execute("UPDATE deliveries SET state = 'SENDING', in_flight = true")

    answer = await gateway.ask("DELETE", f"/v1/messages/{message_id}/cancel")

    error_of(answer, 409, "MESSAGE_NOT_CANCELLABLE")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_an_unexpected_error_is_answered_in_the_envelope_without_its_text(gateway, method, path):
    async def broken(text):
        raise RuntimeError("canary of the inside")

    gateway.authenticator.authenticate = broken

    answer = await gateway.ask(method, path)

    error_of(answer, 500, "INTERNAL_ERROR")
    assert "canary" not in answer.text


# -- the other applications ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/email/send", "/v2/messages", "/v1messages"])
async def test_a_path_outside_v1_belongs_to_the_project_api(gateway, path):
    answer = await gateway.ask("GET", path)

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
    assert answer.json() == {"message": "Not found", "error": "Not Found", "statusCode": 404}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/errors"])
async def test_the_pages_of_no_api_need_no_key(gateway, path):
    assert (await gateway.client.get(path)).status_code == 200


@pytest.mark.parametrize(("path", "api"), [("/openapi.json", "v1"), ("/project.openapi.json", "project")])
async def test_each_api_serves_its_published_document(gateway, path, api):
    assert (await gateway.client.get(path)).json() == openapi_check.document(api)


# -- Kafka ingress ---------------------------------------------------------------------------------------------


def a_record(gateway, value=None, **changes):
    headers = changes.pop("headers", (("x-sendpipe-key", gateway.key.encode()),))
    return FakeRecord(as_json(a_body()) if value is None else value, headers, topic="send.requests", **changes)


async def consume(gateway, *records):
    await gateway.ingress.handle_batch(list(records))
    await wait_until(lambda: all(record.acked for record in records))


def dead_letters(gateway):
    return [json.loads(value) for value in gateway.bus.on("dead.letters")]


async def test_a_record_is_accepted_like_a_request(gateway):
    await consume(gateway, a_record(gateway))

    assert (await gateway.count(), len(gateway.bus.on("deliveries.accepted")), dead_letters(gateway)) == (1, 1, [])


async def test_a_record_that_is_consumed_twice_is_one_message(gateway):
    for _ in range(2):
        await consume(gateway, a_record(gateway, offset=17))

    assert await gateway.count() == 1


async def test_two_equal_records_are_two_messages(gateway):
    await consume(gateway, a_record(gateway, offset=17), a_record(gateway, offset=18))

    assert await gateway.count() == 2


async def test_a_record_at_the_same_offset_of_a_recreated_topic_is_another_message(gateway):
    await consume(gateway, a_record(gateway, offset=17, timestamp=1_000))
    await consume(gateway, a_record(gateway, offset=17, timestamp=2_000))

    assert (await gateway.count(), dead_letters(gateway)) == (2, [])


async def test_an_idempotency_key_is_shared_by_http_and_kafka(gateway):
    await gateway.post(idempotency_key="order-7")

    await consume(gateway, a_record(gateway, as_json(a_body(idempotency_key="order-7"))))

    assert (await gateway.count(), dead_letters(gateway)) == (1, [])


async def test_a_rejected_record_is_published_as_an_event_of_its_project(gateway):
    await consume(gateway, a_record(gateway, as_json(a_body(to=["no-address"])), offset=17, partition=3))

    (rejected,) = [RequestRejected.model_validate_json(value) for value in gateway.bus.on("delivery.events")]
    assert (rejected.code, rejected.field, rejected.partition, rejected.offset) == ("VALIDATION_ERROR", "to.0", 3, 17)
    assert len(dead_letters(gateway)) == 1


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
async def test_a_record_with_invalid_headers_is_dead_lettered(gateway, headers, reason):
    await consume(gateway, a_record(gateway, headers=headers))

    (letter,) = dead_letters(gateway)
    assert letter["reason"].startswith(reason)
    assert await gateway.count() == 0


async def test_an_invalid_record_waits_until_kafka_accepts_its_dead_letter(gateway):
    gateway.bus.unavailable = True
    record = a_record(gateway, b"{]")
    await gateway.ingress.handle_batch([record])

    gateway.bus.unavailable = False

    await wait_until(lambda: record.acked)
    assert len(dead_letters(gateway)) == 1


async def test_a_record_of_a_revoked_partition_is_not_processed(gateway):
    record = a_record(gateway, owned=False)

    await consume(gateway, record)

    assert await gateway.count() == 0
