"""The gateway in process: authentication, responses, and the text of errors."""

import asyncio
import base64
import hashlib
import json
import os
from contextlib import AsyncExitStack
from datetime import timedelta

import httpx
import pytest
from prometheus_client import REGISTRY

from gateway.apis.rendering import is_v1
from gateway.asgi import Apis, create_asgi
from gateway.auth.access import Access
from gateway.auth.access_tokens import AccessTokens
from gateway.auth.api_keys import ApiKeyAuthenticator
from gateway.auth.login_throttle import LocalCounters, LoginThrottle
from gateway.auth.passwords import Passwords
from gateway.auth.principal import UserPrincipal
from gateway.auth.project_access import ProjectAccess
from gateway.auth.sessions import SessionAuthenticator
from gateway.bulk.expander import BulkExpander
from gateway.domains.checker import DomainChecker
from gateway.events.feed import EventFeed
from gateway.ingest import ingest
from gateway.ingest.ingest import MessageIngest
from gateway.ingest.kafka_ingress import SendRequestConsumer
from gateway.messages.waiting import SettledMessages
from gateway.providers.tester import ProviderTester
from gateway.rate_limits.buckets import TokenBuckets
from gateway.rate_limits.limits import RateLimits
from gateway.receipts.endpoint import ReceiptEndpoint
from gateway.services import Accounts, ProviderAccess, Services
from gateway.status.monitor import StatusMonitor
from gateway.templates.rendering import TemplateRenderer
from gateway.unsubscribe.links import UnsubscribeLinks
from sluice.bus.group_status import GroupStatus, GroupSurvey
from sluice.bus.messages import DeliveryTask, RequestAccepted, RequestRejected
from sluice.bus.topics import Group
from sluice.delivery.mailer import Mailer
from sluice.delivery.outbox import OutboxPublisher
from sluice.model import ids
from sluice.model.roles import Role
from sluice.runtime.batching import QueueFullError
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import cancel_and_wait
from sluice.store import api_keys, projects
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.logins import GATEWAY
from sluice.store.record_signatures import sign_record
from tests.engine import as_login
from tests.examples import a_body, as_json, seconds
from tests.loopback import LOCAL, LOOPBACK
from tests.polling import wait_until
from tests.services import openapi_check
from tests.services.fakes import FakeEventSource, FakeRecord, with_a_patient_gateway

MAX_BODY = 100_000  # bytes
QUEUE_LIMIT = 20  # deliveries


async def check_documented(response):
    await response.aread()
    openapi_check.check(response, "v1" if is_v1(response.request.url.path) else "project")


def an_accounts(pool, config, authenticator):
    """What people need to log in, with counters of this process."""
    sessions = SessionAuthenticator(config, pool)
    access_tokens = AccessTokens(lambda: [bytes(32)])
    return Accounts(
        access=Access(authenticator, sessions, pool, public_url=None),
        project_access=ProjectAccess(authenticator, sessions, access_tokens),
        access_tokens=access_tokens,
        sessions=sessions,
        passwords=Passwords(),
        throttle=LoginThrottle(LocalCounters(900.0), per_account=5, per_address=200),
        mailer=Mailer(None, None),
        dashboard_url="http://gateway",
        sign_up_is_open=True,
    )


class Gateway:
    """The services of a gateway, and a client of its APIs that compares every response with the OpenAPI document."""

    def __init__(self, owner_pool, pool, config, bus, max_body=MAX_BODY):
        self.pool, self.config, self.bus = owner_pool, config, bus
        self.publisher = bus
        self.groups = {group: GroupStatus(1, 0, 0.0) for group in Group}
        self.status = StatusMonitor(pool, None, self._survey_groups)
        self.outbox = OutboxPublisher(pool, bus)
        self.templates = TemplateRenderer(pool, config)
        self.unsubscribe_links = UnsubscribeLinks(lambda: [bytes(32)], public_url="http://gateway")
        self.domains = DomainChecker(servers=["127.0.0.1:1"], mail_domain="mail.sluice.example")
        self.ingest = self._message_ingest(pool)
        self.cipher = CredentialCipher(lambda: [bytes(32)])
        self.outgoing = LOOPBACK
        self.receipts = ReceiptEndpoint(
            *(pool, config, self.cipher, self.outbox), public_url=None, links={}, outgoing=self.outgoing
        )
        self.authenticator = ApiKeyAuthenticator(config, pool)
        self.accounts = an_accounts(pool, config, self.authenticator)
        self.ingress = SendRequestConsumer(self.authenticator, self.ingest, bus, max_body=max_body)
        self.health = {}
        self.providers = ProviderAccess({}, ProviderTester(LOCAL), "https://gateway.example/")
        self.rate_limits = RateLimits(TokenBuckets(None), self.config)
        self.event_source = FakeEventSource()
        self.events = EventFeed(self.event_source)
        self.settled = SettledMessages(pool, None, limit=0.0)
        self.bulk = BulkExpander(pool, self.ingest, self.outbox)
        self.services = Services(
            **{name: getattr(self, name) for name in Services.__dataclass_fields__} | {"pool": pool}
        )
        self.app = create_asgi(self.services, Apis(self.services), max_request_bytes=max_body)
        self.key = ""
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False),
            base_url="http://gateway",
            event_hooks={"response": [check_documented]},
        )

    async def _survey_groups(self):
        """What the broker says; an error if a test puts one in place of the groups."""
        if isinstance(self.groups, Exception):
            raise self.groups
        return GroupSurvey(self.groups, 0.001)

    def _message_ingest(self, pool):
        return MessageIngest(
            *(pool, self.config, self.bus),
            outbox=self.outbox,
            templates=self.templates,
            unsubscribe_links=self.unsubscribe_links,
            domains=self.domains,
            requeue_after=timedelta(seconds=8),
            max_pending=1000,
            dispatch_queue_limit=QUEUE_LIMIT,
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
        await wait_until(lambda: config.projects)  # until then it assumes the worst of a project, such as suppressions
        async with AsyncExitStack() as services:
            accounts = gateway.accounts
            running = (gateway.authenticator, gateway.outbox, gateway.templates, gateway.ingest, gateway.receipts)
            people = (accounts.sessions, accounts.passwords, accounts.mailer)
            for service in (*running, *people, gateway.providers.tester, gateway.bulk):
                await services.enter_async_context(service.running())
            feeding = asyncio.create_task(gateway.events.run())
            yield gateway
            await cancel_and_wait(feeding)
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


@pytest.mark.parametrize("coding", ["Identity", "IDENTITY", "identity, identity", ""])
async def test_f21_codings_are_compared_without_case(gateway, coding):
    assert (await gateway.post(content_encoding=coding)).status_code == 201


@pytest.mark.parametrize("coding", ["GZIP", "gzip, identity", "identity, br", "x"])
async def test_f21_a_coding_in_any_case_is_refused(gateway, coding):
    error_of(await gateway.post(content_encoding=coding), 400, "VALIDATION_ERROR")


async def test_f20_an_idempotency_key_is_the_same_in_header_and_body(gateway):
    first = await gateway.post(as_json(a_body(idempotency_key="clé-1")))
    header = {"idempotency-key": "clé-1".encode()}

    again = await gateway.ask("POST", "/v1/messages/channel", content=as_json(a_body()), headers=header)
    both = await gateway.ask(
        "POST", "/v1/messages/channel", content=as_json(a_body(idempotency_key="clé-1")), headers=header
    )

    assert [answer.json()["id"] for answer in (again, both)] == [first.json()["id"]] * 2
    assert await gateway.count() == 1


async def test_f20_an_idempotency_key_that_is_not_utf_8_is_refused(gateway):
    answer = await gateway.ask(
        "POST", "/v1/messages/channel", content=as_json(a_body()), headers={"idempotency-key": "clé".encode("latin-1")}
    )

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == "idempotency_key"


@pytest.mark.parametrize("name", ["Idempotency-Key", "X-SendPipe-Key", "Content-Encoding"])
async def test_f20_a_header_that_is_repeated_with_another_value_is_refused(gateway, name):
    headers = [("x-sendpipe-key", gateway.key), ("content-type", "application/json"), (name, "one"), (name, "other")]

    answer = await gateway.client.post("/v1/messages/channel", content=as_json(a_body()), headers=headers)

    assert name in error_of(answer, 400, "VALIDATION_ERROR")["message"].replace("Sendpipe", "SendPipe")
    assert await gateway.count() == 0


async def test_a_header_may_be_repeated_with_the_same_value(gateway):
    headers = (
        [("x-sendpipe-key", gateway.key)] * 2 + [("idempotency-key", "a")] * 2 + [("accept", "a"), ("accept", "b")]
    )

    assert (await gateway.client.post("/v1/messages/channel", content=as_json(a_body()), headers=headers)).is_success


async def test_u5_a_null_field_is_an_absent_field(gateway):
    first = await gateway.post(as_json(a_body() | {"cc": None, "tags": None, "html": None}), idempotency_key="k")

    again = await gateway.post(as_json(a_body()), idempotency_key="k")

    assert (first.status_code, again.json()["id"]) == (201, first.json()["id"])


async def test_f17_a_large_message_may_wait_longer_for_the_database_than_a_small_one(gateway, monkeypatch):
    monkeypatch.setattr(ingest, "_DB_TIMEOUT", 0.05)
    monkeypatch.setattr(ingest, "_DB_RATE", 1_000)  # bytes a second
    monkeypatch.setattr(ingest, "_LARGE", 10_000)
    async with gateway.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE messages")
        large = asyncio.create_task(gateway.post(as_json(a_body(text="x" * 60_000))))

        error_of(await gateway.post(), 503, "UNAVAILABLE")

    assert (await large).status_code == 201


async def test_f17_a_request_of_nearly_the_stated_limit_is_stored(pool, role_pools, store_database, bus, monkeypatch):
    with_a_patient_gateway(monkeypatch)
    content = os.urandom(19_000_000)
    body = as_json(a_body(attachments=[{"filename": "a.bin", "content": base64.b64encode(content).decode()}]))
    async with ConfigCache().subscribed(store_database) as config:
        gateway = Gateway(pool, role_pools.gateway, config, bus, max_body=26_214_400)
        gateway.key = await gateway.new_project()
        async with gateway.authenticator.running(), gateway.ingest.running(), gateway.client:
            answer = await gateway.post(body)

    assert answer.status_code == 201
    stored = await pool.fetchrow("SELECT length(content) AS size, sha256 FROM attachments")
    assert tuple(stored) == (19_000_000, hashlib.sha256(content).hexdigest())


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
OTHER_KEY, _ = api_keys.generate_key(api_keys.LIVE)


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
    keys = [api_keys.generate_key(api_keys.LIVE)[0] for _ in range(200)]

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


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        *[(method, "/v1/messages/channel", "POST") for method in ("GET", "PUT", "OPTIONS", "HEAD", "PATCH")],
        ("POST", "/v1/messages/msg_x", "GET, HEAD"),
        ("OPTIONS", "/v1/messages/msg_x", "GET, HEAD"),
        ("GET", "/v1/messages/msg_x/cancel", "DELETE"),
        ("DELETE", "/v1/receipts/prv_x", "GET, HEAD, POST"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("POST", "/project.openapi.json", "GET, HEAD"),
        ("DELETE", "/errors", "GET, HEAD"),
    ],
)
async def test_f15_a_405_names_the_methods_of_the_path(gateway, method, path, allow):
    answer = await gateway.ask(method, path)

    assert (answer.status_code, ", ".join(sorted(answer.headers["allow"].split(", ")))) == (405, allow)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/messages/channel/", "/v1/messages/msg_x/", "/v1/messages/msg_x/cancel/", "/v1/receipts/prv_x/"),
        *("/openapi.json/", "/errors/", "/project.openapi.json/", "//v1/messages/channel"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_f14_a_slash_at_the_end_is_not_found_and_never_a_redirect(gateway, method, path):
    answer = await gateway.client.request(
        method, path, headers={"host": "evil.example", "x-forwarded-proto": "https", "x-sendpipe-key": gateway.key}
    )

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
    assert "evil" not in answer.text + str(answer.headers)


@pytest.mark.parametrize("path", ["/errors", "/openapi.json", "/v1/messages/{id}", "/v1/messages/msg_x"])
async def test_u13_head_is_get_without_the_content(gateway, path):
    path = path.format(id=(await gateway.post()).json()["id"])
    whole = await gateway.ask("GET", path)

    head = await gateway.ask("HEAD", path)

    assert (head.status_code, head.content, head.headers) == (whole.status_code, b"", whole.headers)


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


@pytest.mark.parametrize("path", ["/email", "/email/send/x", "/v2/messages", "/v1messages"])
async def test_a_path_outside_v1_belongs_to_the_project_api(gateway, path):
    answer = await gateway.ask("GET", path)

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
    assert answer.json() == {"message": "Not found", "error": "Not Found", "statusCode": 404}


async def test_the_page_about_errors_needs_no_key(gateway):
    assert (await gateway.client.get("/errors")).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_finding_21_the_public_port_serves_no_ops_endpoint(gateway, path):
    assert (await gateway.client.get(path)).status_code == 404


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


def a_signed_record(gateway, value=None, *, key=None, at=None, **changes):
    value = as_json(a_body()) if value is None else value
    headers = sign_record(key or gateway.key, value, idempotency_key="signed-1", now=at or utc_now())
    pairs = tuple((name, text.encode()) for name, text in (headers | changes).items())
    return a_record(gateway, value, headers=pairs)


async def test_finding_8_a_signed_record_is_accepted_without_the_key(gateway):
    record, copy = a_signed_record(gateway), a_signed_record(gateway)
    await consume(gateway, record, copy)

    assert (await gateway.count(), dead_letters(gateway)) == (1, [])
    assert not any(gateway.key.encode() in (value or b"") for _, value in record.headers)


async def test_finding_8_a_record_signed_with_a_new_key_is_accepted_at_once(gateway):
    await consume(gateway, a_signed_record(gateway, key=await gateway.new_project("other")))

    assert (await gateway.count(), dead_letters(gateway)) == (1, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"key": OTHER_KEY},
        {"at": utc_now() - timedelta(hours=25)},
        {"x-sendpipe-signature": "v1,AAAA"},
        {"x-sendpipe-key-id": "aaaaaaaaaaaa"},
        {"x-sendpipe-key-id": ""},
        {"x-sendpipe-key-id": "\x00"},
        {"idempotency-key": "another"},
    ],
    ids=["unknown key", "old", "false", "unknown id", "no id", "no text", "another idempotency key"],
)
async def test_finding_8_a_falsely_signed_record_is_dead_lettered(gateway, changes):
    await consume(gateway, a_signed_record(gateway, **changes))

    (letter,) = dead_letters(gateway)
    assert letter["reason"].startswith("UNAUTHORIZED")
    assert await gateway.count() == 0


async def test_records_with_a_plain_key_can_be_refused(gateway):
    gateway.authenticator._accepts_plain_keys = False

    await consume(gateway, a_record(gateway), a_signed_record(gateway))

    (letter,) = dead_letters(gateway)
    assert "have to be signed" in letter["reason"]
    assert await gateway.count() == 1


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


def a_late_record(gateway, ago):
    """A record that was written so long ago, with a request for a minute later."""
    written = utc_now() - ago
    value = as_json(a_body(send_at=(written + timedelta(seconds=60)).isoformat()))
    return a_record(gateway, value, timestamp=round(written.timestamp() * 1000))


async def test_a_request_that_is_consumed_after_its_send_at_is_accepted(gateway):
    await consume(gateway, a_late_record(gateway, timedelta(hours=1)))

    assert (await gateway.count(), dead_letters(gateway)) == (1, [])


async def test_f12_of_the_bus_a_record_that_claims_to_be_older_than_its_topic_is_judged_by_the_present(gateway):
    await consume(gateway, a_late_record(gateway, timedelta(days=8)))

    (rejected,) = [RequestRejected.model_validate_json(value) for value in gateway.bus.on("delivery.events")]
    assert (rejected.code, rejected.field) == ("VALIDATION_ERROR", "send_at")


async def test_an_idempotency_key_is_shared_by_http_and_kafka(gateway):
    await gateway.post(idempotency_key="order-7")

    await consume(gateway, a_record(gateway, as_json(a_body(idempotency_key="order-7"))))

    assert (await gateway.count(), dead_letters(gateway)) == (1, [])


async def test_f6_of_the_bus_an_accepted_record_is_answered_with_its_message(gateway):
    await consume(gateway, a_keyed_record(gateway, b"order-7", offset=17, partition=3))

    message = await gateway.pool.fetchrow("SELECT id, project_id FROM messages")
    (accepted,) = [RequestAccepted.model_validate_json(value) for value in gateway.bus.on("delivery.events")]
    shown = await gateway.ask("GET", f"/v1/messages/{accepted.id}")
    assert (accepted.message_id, accepted.project_id) == (message["id"], message["project_id"])
    assert shown.json()["id"] == accepted.id
    assert (accepted.idempotency_key, accepted.partition, accepted.offset) == ("order-7", 3, 17)
    assert (accepted.replayed, accepted.sandbox) == (False, False)


async def test_f6_of_the_bus_the_answer_to_a_test_key_says_so(gateway):
    headers = (("x-sendpipe-key", (await gateway.another_key(is_test=True)).encode()),)

    await consume(gateway, a_record(gateway, headers=headers))

    (accepted,) = [RequestAccepted.model_validate_json(value) for value in gateway.bus.on("delivery.events")]
    assert (accepted.sandbox, accepted.idempotency_key) == (True, None)


async def test_f6_of_the_bus_a_record_that_is_consumed_twice_is_answered_twice_with_one_message(gateway):
    for _ in range(2):
        await consume(gateway, a_record(gateway, offset=17))

    answers = [RequestAccepted.model_validate_json(value) for value in gateway.bus.on("delivery.events")]
    assert [answer.replayed for answer in answers] == [False, True]
    assert len({answer.message_id for answer in answers}) == 1


async def test_f6_of_the_bus_a_repeated_request_is_answered_with_the_first_message(gateway):
    body = as_json(a_body(idempotency_key="order-7"))
    first = (await gateway.post(body)).json()["id"]

    await consume(gateway, a_record(gateway, body))

    (accepted,) = [RequestAccepted.model_validate_json(value) for value in gateway.bus.on("delivery.events")]
    assert (accepted.id, accepted.replayed, accepted.idempotency_key) == (first, True, "order-7")


async def test_f6_of_the_bus_a_record_is_not_acknowledged_before_kafka_has_its_answer(gateway):
    gateway.bus.unavailable = True
    record = a_record(gateway)
    await gateway.ingress.handle_batch([record])
    await wait_until(gateway.count)
    assert not record.acked

    gateway.bus.unavailable = False

    await wait_until(lambda: record.acked)
    assert (await gateway.count(), len(gateway.bus.on("delivery.events"))) == (1, 1)


@pytest.mark.parametrize("to", ["ada@example.com", "no-address"])
async def test_f6_of_the_bus_the_answer_has_the_correlation_id_of_the_record(gateway, to):
    headers = (("x-sendpipe-key", gateway.key.encode()), ("correlation_id", "clé-1".encode()))

    await consume(gateway, a_record(gateway, as_json(a_body(to=[to])), headers=headers))

    (answer,) = [result for result in gateway.bus.results if result.topic == "delivery.events"]
    assert answer.headers == [("correlation_id", "clé-1")]


@pytest.mark.parametrize("correlation_id", [b"\xff\xfe", b"x" * 256])
async def test_f6_of_the_bus_a_correlation_id_that_is_no_short_text_is_refused(gateway, correlation_id):
    headers = (("x-sendpipe-key", gateway.key.encode()), ("correlation_id", correlation_id))

    await consume(gateway, a_record(gateway, headers=headers))

    (rejected,) = [RequestRejected.model_validate_json(value) for value in gateway.bus.on("delivery.events")]
    assert (rejected.code, rejected.field) == ("VALIDATION_ERROR", "correlation_id")
    assert await gateway.count() == 0


async def test_a_rejected_record_is_published_as_an_event_of_its_project(gateway):
    body = as_json(a_body(to=["no-address"]))
    await consume(gateway, a_keyed_record(gateway, b"order-7", value=body, offset=17, partition=3))

    (rejected,) = [RequestRejected.model_validate_json(value) for value in gateway.bus.on("delivery.events")]
    assert (rejected.code, rejected.field, rejected.partition, rejected.offset) == ("VALIDATION_ERROR", "to.0", 3, 17)
    assert rejected.idempotency_key == "order-7"
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


def a_keyed_record(gateway, *keys, value=None, **changes):
    headers = (("x-sendpipe-key", gateway.key.encode()), *(("idempotency-key", key) for key in keys))
    return a_record(gateway, value, headers=headers, **changes)


async def test_f10_of_the_bus_binary_idempotency_keys_are_refused_and_never_one_request(gateway):
    keys = (b"\xff\xfe\xfd", b"\xf0\xf1\xf2", "clé".encode("latin-1"))

    await consume(gateway, *[a_keyed_record(gateway, key, offset=offset) for offset, key in enumerate(keys)])

    assert (await gateway.count(), len(dead_letters(gateway))) == (0, 3)
    rejected = [RequestRejected.model_validate_json(value) for value in gateway.bus.on("delivery.events")]
    assert {(event.code, event.field) for event in rejected} == {("VALIDATION_ERROR", "idempotency_key")}


async def test_f10_of_the_bus_a_header_that_is_repeated_with_another_value_is_refused(gateway):
    await consume(gateway, a_keyed_record(gateway, b"one", b"other"))

    assert await gateway.count() == 0
    (letter,) = dead_letters(gateway)
    assert letter["reason"] == "VALIDATION_ERROR: The idempotency-key header is repeated with different values."
    assert len(gateway.bus.on("delivery.events")) == 1


@pytest.mark.parametrize("name", ["x-sendpipe-key", "schema-version"])
async def test_f10_of_the_bus_no_header_is_read_while_it_has_two_values(gateway, name):
    headers = (("x-sendpipe-key", gateway.key.encode()), (name.title(), b"2"), (name, b"1"))

    await consume(gateway, a_record(gateway, headers=headers))

    assert await gateway.count() == 0
    assert "different values" in dead_letters(gateway)[0]["reason"]


async def test_f20_an_idempotency_key_beyond_ascii_is_one_key_over_http_and_kafka(gateway):
    await gateway.post(as_json(a_body(idempotency_key="clé-1")))

    await consume(gateway, a_keyed_record(gateway, "clé-1".encode(), "clé-1".encode()))

    assert (await gateway.count(), dead_letters(gateway)) == (1, [])


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
