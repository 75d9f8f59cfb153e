"""Customer webhooks, from the endpoint that ``/v1`` creates to the signed request and its log."""

import asyncio
import base64
import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiosmtpd.controller import Controller
from sluice.client import verify_webhook
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from event_worker.service import EventService
from event_worker.settings import EventWorkerSettings
from event_worker.webhooks.disabling import EndpointDisabler
from event_worker.webhooks.projection import WebhookProjection
from event_worker.webhooks.sender import WebhookSender
from sluice.bus.messages import DeliveryEvent
from sluice.delivery.mailer import Mailer
from sluice.model.ids import decode_id, encode_id
from sluice.model.state import EventType
from sluice.model.webhooks import DisabledReason
from sluice.providers.adapters.smtp import SmtpCredentials
from sluice.runtime.clock import utc_now
from sluice.store import audit, webhook_deliveries, webhooks
from sluice.store.cipher import CredentialCipher
from sluice.transports.http import open_http
from sluice_launcher.process_info import free_port
from tests.examples import NOON, PROVIDER, a_claim, a_message, a_transition, an_id
from tests.loopback import LOOPBACK
from tests.polling import wait_until
from tests.services.customer_endpoint import customer_endpoint, never
from tests.services.fakes import FakePublisher, FakeRecord
from tests.services.people import a_person
from tests.services.test_gateway import error_of

HOOKS = "/v1/webhooks"
FAST = {"webhook_retry_schedule": (0.05, 0.05, 0.05), "webhook_poll_interval": 0.05, "webhook_timeout": 20.0}


@pytest.fixture
async def endpoint():
    async with customer_endpoint() as running:
        yield running


class Hooks:
    """The webhooks of the gateway's project: its API, and an event-worker."""

    def __init__(self, gateway, endpoint, event_worker):
        self.gateway, self.endpoint, self.pool = gateway, endpoint, gateway.pool
        self.event_worker = event_worker  # the pool of its login
        self.service = EventService(FakePublisher(), [WebhookProjection(event_worker, on_added=lambda: None)])

    async def create(self, path="/hook", *, key=None, **fields):
        body = {"url": self.endpoint.url + path, "events": ["delivered", "bounced", "failed", "sent"]} | fields
        answer = await self.gateway.ask("POST", HOOKS, json=body, key=key)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def project_id(self):
        return await self.pool.fetchval("SELECT id FROM projects WHERE slug = 'shop'")

    async def event(self, event_type=EventType.DELIVERED, *, project_id=None, consumed=True, **changes):
        """An event of a new message, published: its delivery's id."""
        message = a_message(project_id=project_id or await self.project_id(), **changes)
        delivery_id = message.deliveries[0].id
        store = self.store
        claim = a_claim(delivery_id, project_id=message.project_id, sandbox=message.sandbox)
        transition = a_transition(delivery_id, event_type, provider_id=PROVIDER, project_id=message.project_id)
        await store.accept(message)
        assert await store.claim(claim) == [delivery_id]
        assert await store.transitioned(transition) == {delivery_id}
        if consumed:
            await self.consume(delivery_id)
        return delivery_id

    async def records(self, *delivery_ids):
        """The records of all events of these deliveries."""
        rows = await self.pool.fetch(
            """
            SELECT e.delivery_id, e.sequence, e.project_id, e.type, e.occurred_at, d.message_id, d.channel
              FROM events e JOIN deliveries d ON d.id = e.delivery_id
             WHERE e.delivery_id = ANY($1::uuid[]) ORDER BY 1, 2
            """,
            list(delivery_ids),
        )
        return [FakeRecord(DeliveryEvent(**row).encode(), topic="delivery.events", offset=0) for row in rows]

    async def consume(self, *delivery_ids):
        await self.service.on_events(await self.records(*delivery_ids))

    async def deliveries(self, hook, **query):
        answer = await self.gateway.ask("GET", f"{HOOKS}/{hook['id']}/deliveries", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def ask(self, method, path, **request):
        return await self.gateway.ask(method, f"{HOOKS}/{path}", **request)

    @asynccontextmanager
    async def sending(self, *, mailer=None, **settings):
        """A running sender."""
        chosen = EventWorkerSettings.model_construct(**(an_event_worker().model_dump() | FAST | settings))
        disabler = EndpointDisabler(
            self.event_worker, mailer or Mailer(None, None), failing_for=timedelta(seconds=chosen.webhook_disable_after)
        )
        async with open_http(outgoing=LOOPBACK, connections_per_origin=0) as transport:
            sender = WebhookSender(self.event_worker, self.gateway.cipher, transport, disabler, chosen)
            async with sender.running():
                loop = asyncio.create_task(sender.run())
                try:
                    yield sender
                finally:
                    loop.cancel()
                    await asyncio.gather(loop, return_exceptions=True)

    async def settled(self, hook, number=1):
        """The deliveries of an endpoint, once ``number`` of them are settled."""

        async def all_settled():
            found = await self.deliveries(hook, limit=100)
            return len(found) >= number and all(one["status"] != "PENDING" for one in found) and found

        return await wait_until(all_settled)


def an_event_worker():
    return EventWorkerSettings(postgres_dsn="postgresql://x", kafka_bootstrap_servers="x:1")


@pytest.fixture
async def hooks(gateway, endpoint, store):
    hooks = Hooks(gateway, endpoint, store.event_worker)
    hooks.store = store
    return hooks


def verified(request, secret):
    """The event, verified as the independent library, Sluice's client and SendPipe's documents do it."""
    event = Webhook(secret).verify(request.body, request.headers)
    assert verify_webhook(request.headers, request.body, secret) == event
    seed = hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(seed, request.headers["x-sendpipe-signature"])
    return event


# -- endpoints -----------------------------------------------------------------------------------------------------


async def test_an_endpoint_is_created_changed_and_deleted(hooks, gateway):
    created = await hooks.create(events=["failed", "delivered", "failed"], tags=["news"], channels=["sms", "email"])
    path = created["id"]
    listed = (await gateway.ask("GET", HOOKS)).json()["data"]
    changed = await hooks.ask("PATCH", path, json={"url": "https://shop.example/x", "tags": [], "enabled": False})
    read = await hooks.ask("GET", path)
    deleted = await hooks.ask("DELETE", path)
    gone = [await hooks.ask(method, path) for method in ("GET", "DELETE")]
    gone.append(await hooks.ask("PATCH", path, json={"enabled": True}))

    assert created["secret"].startswith("whsec_")
    assert (created["events"], created["channels"]) == (["delivered", "failed"], ["email", "sms"])
    assert listed == [{name: value for name, value in created.items() if name != "secret"}]
    assert changed.json() == read.json()
    assert (read.json()["url"], read.json()["tags"], read.json()["enabled"]) == ("https://shop.example/x", [], False)
    assert deleted.json() == {"id": created["id"], "deleted": True}
    for answer in gone:
        error_of(answer, 404, "NOT_FOUND")
    assert await hooks.pool.fetchval("SELECT count(*) FROM webhook_secrets") == 0


async def test_the_minimal_request_of_the_contract(hooks, gateway):
    answer = await gateway.ask("POST", HOOKS, json={"url": "https://shop.example/hooks", "events": ["delivered"]})

    assert (answer.status_code, answer.json()["id"][:4], answer.json()["enabled"]) == (201, "whk_", True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"url": "ftp://shop.example/"}, "url"),
        ({"url": "shop.example/hooks"}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": "https://user:password@shop.example/"}, "url"),
        ({"url": "https://shop.example/#part"}, "url"),
        ({"url": "https://shop.example/a b"}, "url"),
        ({"url": "https://shop.example/a\r\nx: y"}, "url"),
        ({"url": "https://shop.example:99999/"}, "url"),
        ({"url": "https://shop.example/" + "x" * 2048}, "url"),
        ({"url": "http://a[b/"}, "url"),
        ({"url": "http://a]b/"}, "url"),
        ({"url": "http://a[b]/x"}, "url"),
        ({"url": "http://[::::]/"}, "url"),
        ({"url": "http://%61%00/"}, "url"),
        ({"url": 7}, "url"),
        ({"events": []}, "events"),
        ({"events": ["nothing"]}, "events.0"),
        ({"events": "delivered"}, "events"),
        ({"channels": ["fax"]}, "channels.0"),
        ({"tags": [""]}, "tags.0"),
        ({"tags": ["x"] * 51}, "tags"),
        ({"enabled": None}, "enabled"),
        ({"secret": "whsec_x"}, "secret"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_bad_endpoint_names_the_field(hooks, gateway, changes, field, method):
    path, body = HOOKS, {"url": "https://shop.example/", "events": ["delivered"]} | changes
    if method == "PATCH":
        path, body = f"{HOOKS}/{(await hooks.create())['id']}", changes

    named = error_of(await gateway.ask(method, path, json=body), 400, "VALIDATION_ERROR")

    assert named.get("field") == field or "enabled must not be null" in named["message"]


async def test_endpoints_of_test_and_live_keys_are_apart(hooks, gateway):
    test_key = await gateway.another_key(is_test=True)
    live, test = await hooks.create(), await hooks.create(key=test_key)

    assert (live["test"], test["test"]) == (False, True)
    assert [row["id"] for row in (await gateway.ask("GET", HOOKS)).json()["data"]] == [live["id"]]
    assert [row["id"] for row in (await gateway.ask("GET", HOOKS, key=test_key)).json()["data"]] == [test["id"]]
    error_of(await hooks.ask("GET", test["id"]), 404, "NOT_FOUND")


async def test_a_foreign_endpoint_answers_as_an_unknown_one(hooks, gateway, endpoint):
    hook = await hooks.create()
    await hooks.event()
    (delivery,) = await hooks.deliveries(hook)
    foreign = await gateway.new_project("other")
    since = {"since": "2026-01-01T00:00:00Z"}
    requests = [
        ("GET", "{hook}", None),
        ("PATCH", "{hook}", {"enabled": False}),
        ("DELETE", "{hook}", None),
        ("POST", "{hook}/rotate", {}),
        ("POST", "{hook}/test", {}),
        ("POST", "{hook}/replay", since),
        ("GET", "{hook}/deliveries", None),
        ("GET", "{hook}/deliveries/{delivery}", None),
        ("POST", "{hook}/deliveries/{delivery}/replay", None),
    ]
    before = await hooks.pool.fetchrow("SELECT * FROM webhook_endpoints")
    for method, path, body in requests:
        answers = []
        for one in (hook["id"], encode_id("whk", an_id()), "whk_x"):
            named = path.format(hook=one, delivery=delivery["id"])
            extra = {} if body is None else {"json": body}
            answer = await hooks.ask(method, named, key=foreign, **extra)
            answers.append((answer.status_code, answer.json()))
        assert answers[0][0] == 404
        assert answers[0] == answers[1] == answers[2]
    assert await hooks.pool.fetchrow("SELECT * FROM webhook_endpoints") == before


async def test_a_viewer_sees_no_webhooks(hooks, gateway):
    viewer = await a_person(gateway, "vera@example.com", shop="viewer")
    developer = await a_person(gateway, "dev@example.com", shop="developer")

    error_of(await viewer.ask("GET", HOOKS, project="shop"), 403, "FORBIDDEN")
    assert (await developer.ask("GET", HOOKS, project="shop")).status_code == 200


async def test_a_project_has_a_limited_number_of_endpoints(hooks, gateway, monkeypatch):
    monkeypatch.setattr("gateway.webhooks.service.MAX_ENDPOINTS", 1)
    await hooks.create()

    answer = await gateway.ask("POST", HOOKS, json={"url": "https://shop.example", "events": ["sent"]})

    assert "at most 1" in error_of(answer, 400, "VALIDATION_ERROR")["message"]


async def test_changes_are_in_the_audit_log_without_a_secret(hooks):
    hook = await hooks.create()
    await hooks.ask("PATCH", hook["id"], json={"description": "new"})
    await hooks.ask("POST", f"{hook['id']}/rotate")
    await hooks.ask("DELETE", hook["id"])

    entries = await audit.list_entries(hooks.pool, await hooks.project_id(), limit=10, noun="webhook")
    assert [entry.action for entry in entries] == ["deleted", "secret_rotated", "updated", "created"]
    assert "whsec_" not in json.dumps([dict(entry.changes) for entry in entries])


async def test_the_secret_is_encrypted_and_bound_to_its_row(hooks):
    first, second = await hooks.create(), await hooks.create()
    raw = base64.b64decode(first["secret"].removeprefix("whsec_"))

    stored = [row["encrypted_secret"] for row in await hooks.pool.fetch("SELECT encrypted_secret FROM webhook_secrets")]
    assert not any(raw in value for value in stored)
    endpoint_id = decode_id("whk", second["id"])
    await hooks.pool.execute(
        "UPDATE webhook_secrets SET encrypted_secret = (SELECT encrypted_secret FROM webhook_secrets"
        " WHERE endpoint_id <> $1) WHERE endpoint_id = $1",
        endpoint_id,
    )
    targets = await webhooks.load_targets(hooks.event_worker, hooks.gateway.cipher, [endpoint_id], now=utc_now())
    assert targets[endpoint_id].secrets == ()


async def test_secrets_are_encrypted_again_with_a_new_key(hooks):
    hook = await hooks.create()
    await hooks.ask("POST", f"{hook['id']}/rotate")
    rotating = CredentialCipher(lambda: [bytes([9] * 32), bytes(32)])
    assert await webhooks.count_stale_secrets(hooks.store.operator, rotating) == 2

    assert await webhooks.reencrypt_secrets(hooks.store.operator, rotating, limit=1) == 2

    alone = CredentialCipher(lambda: [bytes([9] * 32)])
    endpoint_id = decode_id("whk", hook["id"])
    targets = await webhooks.load_targets(hooks.event_worker, alone, [endpoint_id], now=utc_now())
    assert base64.b64decode(hook["secret"].removeprefix("whsec_")) in targets[endpoint_id].secrets
    assert await webhooks.reencrypt_secrets(hooks.store.operator, rotating) == 0


# -- sending -------------------------------------------------------------------------------------------------------


async def test_an_event_is_sent_signed_and_recorded(hooks, endpoint):
    hook = await hooks.create()
    delivery_id = await hooks.event(tags=("news",), metadata='{"order": 7}', idempotency_key="order-7")

    async with hooks.sending():
        (recorded,) = await hooks.settled(hook)

    (request,) = endpoint.received
    event = verified(request, hook["secret"])
    assert (event["id"], event["type"], event["test"]) == (request.id, "delivered", False)
    assert event["id"] == f"{encode_id('evt', delivery_id)}_3"
    assert event["data"] == {
        "message_id": event["data"]["message_id"],
        "project_id": encode_id("proj", await hooks.project_id()),
        "channel": "email",
        "recipient": "ada@example.com",
        "status": "DELIVERED",
        "provider": encode_id("prv", PROVIDER),
        "attempt": 1,
        "reason": None,
        "detail": "",
        "tags": ["news"],
        "metadata": {"order": 7},
        "idempotency_key": "order-7",
    }
    assert (recorded["event_id"], recorded["status"], recorded["next_attempt_at"]) == (event["id"], "DELIVERED", None)
    (attempt,) = recorded["attempts"]
    assert (attempt["number"], attempt["status"], attempt["error"]) == (1, 200, None)
    assert attempt["answer"] == "status 200"
    assert request.headers["content-type"] == "application/json"


async def test_a_changed_body_does_not_verify(hooks, endpoint):
    hook = await hooks.create()
    await hooks.event()
    async with hooks.sending():
        await hooks.settled(hook)

    (request,) = endpoint.received
    with pytest.raises(WebhookVerificationError):
        Webhook(hook["secret"]).verify(request.body + b" ", request.headers)


async def test_a_repeated_event_is_sent_once(hooks, endpoint):
    hook = await hooks.create()
    delivery_id = await hooks.event()
    await asyncio.gather(*(hooks.consume(delivery_id, delivery_id) for _ in range(5)))

    async with hooks.sending():
        await hooks.settled(hook)
    await hooks.consume(delivery_id)
    async with hooks.sending() as sender:
        assert not await sender.claim_once()

    assert len(endpoint.received) == 1


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({}, True),
        ({"events": ["bounced"]}, False),
        ({"channels": ["email"]}, True),
        ({"channels": ["sms", "push"]}, False),
        ({"tags": ["news", "other"]}, True),
        ({"tags": ["other"]}, False),
        ({"enabled": False}, False),
    ],
)
async def test_an_endpoint_gets_what_it_asks_for(hooks, fields, sent):
    hook = await hooks.create(**fields)
    await hooks.event(tags=("news", "sale"))

    assert len(await hooks.deliveries(hook)) == sent


async def test_test_and_live_events_are_apart(hooks, gateway):
    test_key = await gateway.another_key(is_test=True)
    live, test = await hooks.create("/live"), await hooks.create("/test", key=test_key)
    await hooks.event(sandbox=True)

    found = await gateway.ask("GET", f"{HOOKS}/{test['id']}/deliveries", key=test_key)

    assert (len(await hooks.deliveries(live)), len(found.json()["data"])) == (0, 1)


async def test_a_record_that_lies_about_its_project_adds_nothing(hooks, gateway):
    """The bus names an event; what is sent, and to whom, is decided by the database."""
    await hooks.create()
    await gateway.new_project("other")
    foreign = await hooks.pool.fetchval("SELECT id FROM projects WHERE slug = 'other'")
    delivery_id = await hooks.event(project_id=foreign, consumed=False)
    shop = await hooks.project_id()
    lies = [
        json.loads(record.value) | change
        for record in await hooks.records(delivery_id)
        for change in ({"project_id": str(shop)}, {"project_id": str(shop), "type": "bounced"})
    ]

    await hooks.service.on_events([FakeRecord(json.dumps(one).encode(), topic="t", offset=0) for one in lies])

    assert await hooks.pool.fetchval("SELECT count(*) FROM webhook_deliveries") == 0


@pytest.mark.parametrize(
    "broken",
    [
        {"delivery_id": "x"},
        {"delivery_id": 7},
        {"sequence": "1"},
        {"sequence": True},
        {"sequence": 0},
        {"sequence": 1 << 15},
        {"channel": "fax"},
        {"provider_id": "nonsense"},
    ],
)
async def test_an_event_without_its_fields_is_dead_lettered(hooks, broken):
    record = json.loads((await hooks.records(await hooks.event(consumed=False)))[-1].value) | broken
    await hooks.service.on_events([FakeRecord(json.dumps(record).encode(), topic="t", offset=0)])

    assert len(hooks.service._publisher.on("dead.letters")) == 1


# -- failures ------------------------------------------------------------------------------------------------------


async def test_a_failed_webhook_is_repeated_with_the_same_id_and_body(hooks, endpoint):
    hook = await hooks.create()
    endpoint.answers["/hook"] = 500
    await hooks.event()

    async with hooks.sending(webhook_retry_schedule=(0.05, 0.05, 0.05, 0.05, 0.05, 0.05)):
        await wait_until(lambda: len(endpoint.received) >= 2)
        endpoint.answers["/hook"] = 204
        (recorded,) = await hooks.settled(hook)

    assert len({(request.id, request.body) for request in endpoint.received}) == 1
    for request in endpoint.received:
        verified(request, hook["secret"])
    assert recorded["status"] == "DELIVERED"
    assert [attempt["status"] for attempt in recorded["attempts"]][:2] == [500, 500]
    assert recorded["attempts"][-1]["error"] is None
    read = (await hooks.ask("GET", hook["id"])).json()
    assert (read["failing_since"], read["enabled"]) == (None, True)


async def test_retries_end_and_are_visibly_exhausted(hooks, endpoint):
    hook = await hooks.create()
    endpoint.answers["/hook"] = 500
    await hooks.event()

    async with hooks.sending():
        (recorded,) = await hooks.settled(hook)

    assert (recorded["status"], len(recorded["attempts"]), len(endpoint.received)) == ("EXHAUSTED", 4, 4)
    assert {attempt["error"] for attempt in recorded["attempts"]} == {"the endpoint answered 500"}
    read = (await hooks.ask("GET", hook["id"])).json()
    assert read["enabled"], "it has not failed for days"
    assert read["failing_since"] is not None


async def test_a_redirect_is_not_followed(hooks, endpoint):
    hook = await hooks.create()

    async def elsewhere(_):
        return web.Response(status=307, headers={"location": f"{endpoint.url}/elsewhere"})

    endpoint.answers["/hook"] = elsewhere
    await hooks.event()
    async with hooks.sending(webhook_retry_schedule=()):
        (recorded,) = await hooks.settled(hook)

    assert endpoint.at("/elsewhere") == []
    assert recorded["attempts"][0]["error"] == "the endpoint answered 307; redirects are not followed"


async def test_an_endpoint_that_does_not_answer_times_out(hooks, endpoint):
    hook = await hooks.create()
    endpoint.answers["/hook"] = never
    await hooks.event()
    async with hooks.sending(webhook_retry_schedule=(), webhook_timeout=0.2):
        (recorded,) = await hooks.settled(hook)

    (attempt,) = recorded["attempts"]
    assert (attempt["status"], bool(attempt["error"])) == (None, True)


async def test_an_endpoint_without_a_server_fails(hooks, gateway):
    hook = (
        await gateway.ask("POST", HOOKS, json={"url": f"http://127.0.0.1:{free_port()}/", "events": ["delivered"]})
    ).json()
    await hooks.event()
    async with hooks.sending(webhook_retry_schedule=()):
        (recorded,) = await hooks.settled(hook)

    assert recorded["attempts"][0]["error"]


@pytest.mark.parametrize("body", [b"\x00\xff" * 100_000, "ž".encode() * 50_000])
async def test_the_answer_is_kept_up_to_a_bound(hooks, endpoint, body):
    hook = await hooks.create()

    async def large(_):
        return web.Response(status=500, body=body)

    endpoint.answers["/hook"] = large
    await hooks.event()
    async with hooks.sending(webhook_retry_schedule=()):
        (recorded,) = await hooks.settled(hook)

    assert 0 < len(recorded["attempts"][0]["answer"]) <= 4096


async def test_an_endpoint_that_asks_for_a_pause_gets_it(hooks, endpoint):
    hook = await hooks.create()

    async def busy(_):
        return web.Response(status=429, headers={"retry-after": "600"})

    endpoint.answers["/hook"] = busy
    await hooks.event()
    async with hooks.sending():
        await wait_until(lambda: endpoint.received)

        async def recorded():
            return [one for one in await hooks.deliveries(hook) if one["attempts"]]

        (found,) = await wait_until(recorded)

    due = datetime.fromisoformat(found["next_attempt_at"])
    assert due > datetime.now(UTC) + timedelta(minutes=5)


async def test_410_disables_the_endpoint_with_a_notice(hooks, endpoint):
    hook = await hooks.create()
    endpoint.answers["/hook"] = 410
    await hooks.event()
    async with hooks.sending():
        (recorded,) = await hooks.settled(hook)

        async def disabled():
            return not (await hooks.ask("GET", hook["id"])).json()["enabled"]

        await wait_until(disabled)

    read = (await hooks.ask("GET", hook["id"])).json()
    assert (recorded["status"], len(endpoint.received), read["disabled_reason"]) == ("EXHAUSTED", 1, "gone")
    (entry, _) = await audit.list_entries(hooks.pool, await hooks.project_id(), limit=10, noun="webhook")
    assert (entry.action, entry.actor_kind, entry.changes["reason"]) == ("disabled", "system", "gone")


@pytest.mark.parametrize("change", [{"url": "{}/new"}, {"enabled": True}], ids=["another URL", "enabled again"])
async def test_410_does_not_disable_an_endpoint_that_was_changed_meanwhile(hooks, endpoint, change):
    hook = await hooks.create()
    changed = {name: value.format(endpoint.url) if name == "url" else value for name, value in change.items()}

    async def gone(_):
        assert (await hooks.ask("PATCH", hook["id"], json=changed)).status_code == 200
        return 410

    endpoint.answers["/hook"] = gone
    await hooks.event()
    async with hooks.sending():
        (recorded,) = await hooks.settled(hook)

    read = (await hooks.ask("GET", hook["id"])).json()
    assert recorded["status"] == "EXHAUSTED"
    assert (read["enabled"], read["disabled_reason"], read["failing_since"]) == (True, None, None)


async def test_another_url_begins_without_the_failures_of_the_one_before(hooks, endpoint):
    hook = await hooks.create()
    endpoint.answers["/new"] = 500
    long_ago = utc_now() - timedelta(days=9)
    await hooks.pool.execute("UPDATE webhook_endpoints SET failing_since = $1", long_ago)

    described = await hooks.ask("PATCH", hook["id"], json={"description": "Orders", "url": hook["url"]})
    moved = await hooks.ask("PATCH", hook["id"], json={"url": f"{endpoint.url}/new"})
    await hooks.event()
    async with hooks.sending():
        await hooks.settled(hook)

    read = (await hooks.ask("GET", hook["id"])).json()
    assert described.json()["failing_since"] is not None
    assert moved.json()["failing_since"] is None
    assert (read["enabled"], read["failing_since"] is not None) == (True, True)


async def test_what_a_disabled_endpoint_misses_is_skipped_and_can_be_replayed(hooks, endpoint):
    hook = await hooks.create()
    pending = await hooks.event()
    disabler = EndpointDisabler(hooks.event_worker, Mailer(None, None), failing_for=timedelta(0))
    updated_at = await hooks.pool.fetchval("SELECT updated_at FROM webhook_endpoints")
    await disabler.disable(decode_id("whk", hook["id"]), DisabledReason.GONE, updated_at=updated_at)
    missed = await hooks.event()

    async with hooks.sending():
        recorded = await hooks.settled(hook, 2)
        for path in (f"{hook['id']}/test", f"{hook['id']}/deliveries/{recorded[0]['id']}/replay"):
            error_of(await hooks.ask("POST", path), 409, "WEBHOOK_DISABLED")
        await hooks.ask("PATCH", hook["id"], json={"enabled": True})
        since = {"since": (NOON - timedelta(hours=1)).isoformat()}
        replayed = await hooks.ask("POST", f"{hook['id']}/replay", json=since)
        await wait_until(lambda: len(endpoint.received) == 2)

    assert {one["status"] for one in recorded} == {"SKIPPED"}
    assert (replayed.status_code, replayed.json()) == (202, {"replayed": 2, "next_cursor": None})
    assert {request.id for request in endpoint.received} == {f"{encode_id('evt', one)}_3" for one in (pending, missed)}


async def test_an_endpoint_that_fails_for_days_is_disabled_and_its_owners_get_mail(hooks, endpoint, gateway):
    received = []

    class Handler:
        async def handle_DATA(self, server, session, envelope):
            received.append((envelope.rcpt_tos, envelope.content.decode()))
            return "250 OK"

    await a_person(gateway, "ada@example.com", shop="owner")
    await a_person(gateway, "dev@example.com", shop="developer")
    hook = await hooks.create()
    endpoint.answers["/hook"] = 500
    await hooks.event()
    await hooks.pool.execute("UPDATE webhook_endpoints SET failing_since = $1", utc_now() - timedelta(days=3, hours=1))
    controller = Controller(Handler(), hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        server = SmtpCredentials(host="127.0.0.1", port=controller.port, secure=False, require_tls=False)
        async with Mailer(server, "sluice@example.com").running() as mailer, hooks.sending(mailer=mailer):
            await wait_until(lambda: received)
    finally:
        controller.stop()

    ((recipients, text),) = received
    assert recipients == ["ada@example.com"]
    assert hook["id"] in text
    assert "whsec_" not in text
    read = (await hooks.ask("GET", hook["id"])).json()
    assert (read["enabled"], read["disabled_reason"]) == (False, "failing")


async def test_the_deliveries_of_a_deleted_endpoint_are_discarded(hooks, endpoint):
    hook = await hooks.create()
    await hooks.event()
    await hooks.ask("DELETE", hook["id"])

    async def discarded():
        return await hooks.pool.fetchval("SELECT status FROM webhook_deliveries") == "SKIPPED"

    async with hooks.sending():
        await wait_until(discarded)

    assert endpoint.received == []


async def test_a_deleted_project_gets_nothing_more(hooks, endpoint, gateway):
    ada = await a_person(gateway, "ada@example.com", shop="owner")
    await hooks.create()
    await ada.ask("DELETE", "/v1/projects/shop")

    assert await hooks.pool.fetchval("SELECT count(*) FROM webhook_endpoints") == 0


async def test_the_event_of_a_deleted_message_is_skipped(hooks, endpoint):
    hook = await hooks.create()
    await hooks.event()
    for table in ("messages", "deliveries", "events"):
        await hooks.pool.execute(f"DELETE FROM {table}")

    async with hooks.sending():
        (recorded,) = await hooks.settled(hook)

    assert (recorded["status"], endpoint.received) == ("SKIPPED", [])


# -- isolation -----------------------------------------------------------------------------------------------------


async def test_endpoints_that_hang_delay_no_other(hooks, endpoint):
    """More hanging endpoints than the whole process has slots, each with a backlog."""
    endpoint.answers |= {f"/hang{number}": never for number in range(4)}
    slow = [await hooks.create(f"/hang{number}") for number in range(4)]
    for _ in range(5):
        await hooks.event()
    async with hooks.sending(webhook_timeout=30.0, webhook_concurrency=2, webhook_total_concurrency=4):
        await wait_until(lambda: endpoint.open_requests >= 4)
        good = await hooks.create("/good")
        for _ in range(3):
            await hooks.event()
        (*_,) = await hooks.settled(good, 3)
        open_requests = endpoint.open_requests
        endpoint.answers.clear()

    assert len(endpoint.at("/good")) == 3
    assert all(len(endpoint.at(f"/hang{number}")) <= 2 for number in range(4))
    assert open_requests <= 8
    assert len(slow) == 4


async def test_one_endpoint_has_a_bounded_number_of_requests(hooks, endpoint):
    running = []

    async def slow(_):
        running.append(endpoint.open_requests)
        await asyncio.sleep(0.05)
        return 200

    endpoint.answers["/hook"] = slow
    hook = await hooks.create()
    for _ in range(12):
        await hooks.event()
    async with hooks.sending(webhook_concurrency=3):
        await hooks.settled(hook, 12)

    assert len(endpoint.received) == 12
    assert max(running) <= 3


async def test_two_processes_share_the_work(hooks, endpoint):
    hook = await hooks.create()
    await asyncio.gather(*(hooks.event() for _ in range(20)))
    async with hooks.sending(), hooks.sending():
        await hooks.settled(hook, 20)

    assert len({request.id for request in endpoint.received}) == len(endpoint.received) == 20


async def test_a_lease_that_ends_without_a_result_is_claimed_again(hooks):
    hook = await hooks.create()
    await hooks.event()
    shares = {decode_id("whk", hook["id"]): 10}
    lease, now = timedelta(seconds=60), utc_now() + timedelta(seconds=1)

    first = await webhook_deliveries.claim(hooks.event_worker, shares, lease=lease, now=now)
    none = await webhook_deliveries.claim(hooks.event_worker, shares, lease=lease, now=now)
    again = await webhook_deliveries.claim(hooks.event_worker, shares, lease=lease, now=now + lease)
    late = webhook_deliveries.Result(*first[0][:3], first[0].leased_until, "DELIVERED", None, 1, now)
    await webhook_deliveries.settle(hooks.event_worker, [late], now=now)

    assert (len(first), none, len(again)) == (1, [], 1)
    assert [one["status"] for one in await hooks.deliveries(hook)] == ["PENDING"]


# -- secrets, tests, replays ---------------------------------------------------------------------------------------


async def test_both_secrets_sign_during_a_rotation(hooks, endpoint):
    hook = await hooks.create()
    rotated = (await hooks.ask("POST", f"{hook['id']}/rotate", json={"grace_seconds": 3600})).json()
    await hooks.event()
    async with hooks.sending():
        await hooks.settled(hook)
        (during,) = endpoint.received
        ended = await hooks.ask("POST", f"{hook['id']}/rotate", json={"grace_seconds": 0})
        await hooks.event()
        await wait_until(lambda: len(endpoint.received) == 2)

    newest = ended.json()["secret"]
    verified(during, hook["secret"])  # the seed's form has room for one: a receiver has the old secret until then
    Webhook(rotated["secret"]).verify(during.body, during.headers)
    verified(endpoint.received[1], newest)
    for old in (hook["secret"], rotated["secret"]):
        with pytest.raises(WebhookVerificationError):
            Webhook(old).verify(endpoint.received[1].body, endpoint.received[1].headers)


@pytest.mark.parametrize("grace", [-1, 604_801, "x", None])
async def test_a_bad_grace_is_refused(hooks, grace):
    hook = await hooks.create()
    answer = await hooks.ask("POST", f"{hook['id']}/rotate", json={"grace_seconds": grace})

    assert error_of(answer, 400, "VALIDATION_ERROR")["field"] == "grace_seconds"


async def test_a_test_event_is_sent_once(hooks, endpoint):
    hook = await hooks.create(events=["sms_delivered"])
    endpoint.answers["/hook"] = 500
    answer = await hooks.ask("POST", f"{hook['id']}/test")
    async with hooks.sending():
        (recorded,) = await hooks.settled(hook)

    event = verified(endpoint.received[0], hook["secret"])
    assert (answer.status_code, answer.json()["status"], answer.json()["test"]) == (202, "PENDING", True)
    assert (event["type"], event["test"], event["data"]["channel"]) == ("sms_delivered", True, "sms")
    assert (recorded["status"], len(endpoint.received), recorded["id"]) == ("EXHAUSTED", 1, answer.json()["id"])


async def test_one_delivery_is_replayed_with_its_id(hooks, endpoint):
    hook = await hooks.create()
    await hooks.event()
    async with hooks.sending():
        (recorded,) = await hooks.settled(hook)
        answer = await hooks.ask("POST", f"{hook['id']}/deliveries/{recorded['id']}/replay")
        await wait_until(lambda: len(endpoint.received) == 2)
        (again,) = await hooks.settled(hook)

    read = await hooks.ask("GET", f"{hook['id']}/deliveries/{recorded['id']}")
    assert (answer.status_code, answer.json()["status"]) == (202, "PENDING")
    assert endpoint.received[0].id == endpoint.received[1].id
    assert [attempt["number"] for attempt in again["attempts"]] == [1, 2]
    assert read.json() == again
    unknown = await hooks.ask("POST", f"{hook['id']}/deliveries/{encode_id('whd', an_id())}/replay")
    error_of(unknown, 404, "NOT_FOUND")


async def test_a_range_is_replayed_in_steps(hooks, endpoint, monkeypatch):
    monkeypatch.setattr("gateway.webhooks.service.REPLAY_STEP", 2)
    hook = await hooks.create()
    for _ in range(5):
        await hooks.event()
    async with hooks.sending():
        await hooks.settled(hook, 5)
    path, body = f"{hook['id']}/replay", {"since": "2026-08-20T00:00:00Z", "until": "2026-08-21T00:00:00Z"}

    nothing = await hooks.ask("POST", path, json=body)
    counts, cursor = [], None
    while True:
        chosen = body | {"statuses": ["DELIVERED"]} | ({} if cursor is None else {"cursor": cursor})
        answer = (await hooks.ask("POST", path, json=chosen)).json()
        counts.append(answer["replayed"])
        if (cursor := answer["next_cursor"]) is None:
            break
    outside = await hooks.ask("POST", path, json={"since": "2026-08-21T00:00:00Z", "statuses": ["DELIVERED"]})
    async with hooks.sending():
        await hooks.settled(hook, 5)

    assert (nothing.json()["replayed"], outside.json()["replayed"], counts) == (0, 0, [2, 2, 1])
    assert len(endpoint.received) == 10


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "since"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-08-20T00:00:00Z", "statuses": []}, "statuses"),
        ({"since": "2026-08-20T00:00:00Z", "statuses": ["x"]}, "statuses.0"),
        ({"since": "2026-08-20T00:00:00Z", "cursor": "?"}, "cursor"),
        ({"since": "2026-08-20T00:00:00Z", "until": "2026-08-20T00:00:00Z"}, None),
    ],
)
async def test_a_bad_range_is_refused(hooks, body, field):
    hook = await hooks.create()
    answer = await hooks.ask("POST", f"{hook['id']}/replay", json=body)

    assert error_of(answer, 400, "VALIDATION_ERROR").get("field") == field


async def test_the_log_is_paged_and_filtered(hooks, endpoint):
    hook = await hooks.create()
    for _ in range(3):
        await hooks.event()
    path = f"{hook['id']}/deliveries"

    first = (await hooks.ask("GET", path, params={"limit": 2})).json()
    second = (await hooks.ask("GET", path, params={"limit": 2, "cursor": first["next_cursor"]})).json()

    ids = [one["id"] for one in first["data"] + second["data"]]
    assert len(ids) == len(set(ids)) == 3
    assert second["next_cursor"] is None
    assert await hooks.deliveries(hook, status="DELIVERED") == []
    error_of(await hooks.ask("GET", path, params={"status": "x"}), 400, "VALIDATION_ERROR")


async def test_410_to_a_test_event_disables_the_endpoint(hooks, endpoint):
    hook = await hooks.create()
    endpoint.answers["/hook"] = 410
    await hooks.ask("POST", f"{hook['id']}/test")

    async def disabled():
        return (await hooks.ask("GET", hook["id"])).json()["disabled_reason"] == "gone"

    async with hooks.sending():
        await wait_until(disabled)
