"""The receipt endpoint on real PostgreSQL with a package of the tests: signatures, look-ups, handshakes, fetches."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import uuid4

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette

from gateway.receipts.endpoint import ReceiptEndpoint, may_fetch
from sluice.delivery.outbox import OutboxPublisher
from sluice.delivery.receipts import MAX_PAYLOAD
from sluice.model import ids
from sluice.model.message import Channel
from sluice.model.outcome import Unknown
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers import registry
from sluice.providers.account import Account
from sluice.providers.contract import (
    Credentials,
    DeliveryReceipt,
    InboundMessage,
    InvalidReceiptSignatureError,
    OptOut,
    Package,
    TransportKind,
    WebhookAnswer,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.samples import SAMPLE_HEADER, SampleAnswer, SampleResult
from sluice.runtime.clock import utc_now
from sluice.store.cipher import CredentialCipher
from sluice_simulator.dialect import FakeResponse
from sluice_simulator.http_server import listen_http
from tests.examples import PROJECT, PROVIDER, a_provider
from tests.loopback import LOOPBACK
from tests.store.harness import SENT

KEY = bytes(32)
REFERENCE_EVENT = {"type": "delivered", "id": "r-1"}


class SignedCredentials(Credentials):
    """The word that a request has to carry."""

    signature: str


def parse_webhook(
    request: WebhookRequest, credentials: SignedCredentials, fetched: Mapping[str, bytes]
) -> WebhookReply:
    if request.method == "GET":
        return WebhookReply(answer=WebhookAnswer(200, request.url.partition("challenge=")[2].encode()))
    if request.headers.get("x-signature") != credentials.signature:
        raise InvalidReceiptSignatureError
    body = json.loads(request.body)
    if "certificate" in body:
        url = body["certificate"]
        if url not in fetched:
            return WebhookReply(fetch=url, cacheable=body.get("cacheable", False))
        if body.get("forged"):
            raise InvalidReceiptSignatureError
        return WebhookReply(answer=WebhookAnswer(202, fetched[url]))
    return WebhookReply([event_of(one) for one in body["events"]], token=body.get("token"))


def event_of(one):
    match one["type"]:
        case "inbound":
            return InboundMessage("i-1", "+1999", "STOP")
        case "opt_out":
            return OptOut(one.get("recipient", "+1999"))
    return DeliveryReceipt(
        receipt_id=one["id"],
        type=EventType(one["type"]),
        reference=one.get("reference"),
        provider_message_id=one.get("message"),
        recipient=one.get("recipient"),
        detail=one.get("detail", ""),
        reason=Reason.FULL if one["type"] == "bounced" else None,
        occurred_at=datetime.fromisoformat(one["at"]) if "at" in one else None,
    )


def sign(url, credentials, at):
    return WebhookRequest("POST", url, {"x-signature": credentials.signature}, b'{"events": []}', at)


def a_package(*allowed):
    return Package(
        name="provider-signed",
        title="Signed",
        channels=(Channel.EMAIL,),
        credentials=SignedCredentials,
        transport=TransportKind.HTTP,
        build=lambda message, credentials: None,
        classify=lambda response: Unknown(),
        parse_webhook=parse_webhook,
        sample=sign,
        webhook_urls=allowed,
    )


class Config:
    """One provider, without a database."""

    def __init__(self):
        sealed = CredentialCipher(lambda: [KEY]).encrypt(
            b'{"signature":"good"}', project_id=a_provider().project_id, provider_id=PROVIDER
        )
        self.row = a_provider(id=PROVIDER, package="provider-signed", encrypted_credentials=sealed)
        self.providers = {PROVIDER: self.row}


class Endpoint:
    """A client of the endpoint, as the provider is one."""

    def __init__(self, store, client):
        self.store, self.client = store, client
        self.path = f"/v1/receipts/{ids.encode_id('prv', PROVIDER)}"

    async def post(self, body, signature="good"):
        return await self.client.post(self.path, content=json.dumps(body), headers={"x-signature": signature})

    async def post_events(self, *events):
        return await self.post({"events": events})


@pytest.fixture
def packages(monkeypatch):
    """The installed packages; the tests' own is one of them."""
    found = {"provider-signed": a_package()}
    monkeypatch.setattr(registry, "installed", lambda: found)
    return found


@pytest.fixture
async def endpoint(store, bus, packages):
    outbox = OutboxPublisher(store.gateway, bus)
    receipts = ReceiptEndpoint(
        store.gateway,
        Config(),
        CredentialCipher(lambda: [KEY]),
        outbox,
        public_url="https://sluice.test",
        links={},
        outgoing=LOOPBACK,
    )
    async with outbox.running(), receipts.running():
        transport = httpx.ASGITransport(Starlette(routes=[receipts.route()]))
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
            yield Endpoint(store, client)


def counted(result):
    return REGISTRY.get_sample_value("sluice_receipts_total", {"package": "provider-signed", "result": result}) or 0


async def test_a_receipt_with_our_reference_moves_its_delivery(endpoint, bus):
    delivery_id = await endpoint.store.a_delivery_that_was(SENT, outcome="accepted")

    answer = await endpoint.post_events(REFERENCE_EVENT | {"reference": ids.attempt_reference(delivery_id, 1)})

    assert (answer.status_code, answer.content) == (204, b"")
    assert await endpoint.store.state(delivery_id) == "DELIVERED"
    assert [json.loads(event)["type"] for event in bus.on("delivery.events")] == ["delivered"]


@pytest.mark.parametrize("part", [0, 1])
async def test_a_receipt_with_one_of_the_providers_message_ids_alone_moves_its_delivery(endpoint, part):
    parts = (uuid4().hex, uuid4().hex)
    delivery_id = await endpoint.store.a_delivery_that_was(
        SENT, outcome="accepted", provider_id=PROVIDER, receipt_ids=parts, provider_message_id=parts[0]
    )

    answer = await endpoint.post_events(REFERENCE_EVENT | {"message": parts[part]})

    assert answer.status_code == 204
    assert await endpoint.store.state(delivery_id) == "DELIVERED"


@pytest.mark.parametrize("event", [{"message": "no message of ours"}, {"reference": "att_1"}, {}])
async def test_a_receipt_about_nothing_of_ours_is_not_found(endpoint, event):
    await endpoint.store.a_delivery_that_was(SENT, outcome="accepted", provider_id=PROVIDER, receipt_ids=("some id",))

    assert (await endpoint.post_events(REFERENCE_EVENT | event)).status_code == 404


async def test_the_reason_and_the_raw_payload_of_a_receipt_are_kept(endpoint, bus):
    delivery_id = await endpoint.store.a_delivery_that_was(SENT, outcome="accepted")
    reference = ids.attempt_reference(delivery_id, 1)
    event = {"type": "bounced", "id": "r-2", "reference": reference, "extra": "\0é" * MAX_PAYLOAD}

    await endpoint.post_events(event)

    payload = await endpoint.store.pool.fetchval("SELECT payload FROM receipts WHERE delivery_id = $1", delivery_id)
    assert payload.startswith('{"events": [{"type": "bounced"')
    assert len(payload.encode()) <= MAX_PAYLOAD
    assert [json.loads(told)["reason"] for told in bus.on("delivery.events")] == ["full"]
    assert await endpoint.store.state(delivery_id) == "BOUNCED"


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "x" * 5_000])
async def test_no_receipt_is_lost_because_of_a_text_that_cannot_be_stored(endpoint, text):
    delivery_id = await endpoint.store.a_delivery_that_was(SENT, outcome="accepted", provider_id=PROVIDER)
    genuine = REFERENCE_EVENT | {"reference": ids.attempt_reference(delivery_id, 1)}

    odd = genuine | {"id": text, "message": text, "detail": text, "recipient": text}
    first = await endpoint.post_events(odd, {"type": "opt_out", "recipient": text})
    again = await endpoint.post_events(odd)

    assert (first.status_code, again.status_code) == (204, 204)
    assert await endpoint.store.state(delivery_id) == "DELIVERED"
    assert await endpoint.store.pool.fetchval("SELECT count(*) FROM receipts WHERE delivery_id = $1", delivery_id) == 1


async def test_a_forged_request_changes_nothing(endpoint):
    delivery_id = await endpoint.store.a_delivery_that_was(SENT, outcome="accepted")
    before = counted("forged")

    event = REFERENCE_EVENT | {"reference": ids.attempt_reference(delivery_id, 1)}
    answer = await endpoint.post({"events": [event]}, signature="bad")

    assert (answer.status_code, counted("forged") - before) == (401, 1)
    assert await endpoint.store.state(delivery_id) == "SENT"


async def test_a_handshake_is_answered_word_for_word(endpoint):
    answer = await endpoint.client.get(f"{endpoint.path}?hub.challenge=4711")

    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (
        200,
        "4711",
        "text/plain; charset=utf-8",
    )


async def test_inbound_messages_and_opt_outs_are_counted_by_kind(endpoint):
    before = counted("inbound"), counted("opt_out")

    answer = await endpoint.post_events({"type": "inbound"}, {"type": "opt_out"})

    assert answer.status_code == 204
    assert (counted("inbound") - before[0], counted("opt_out") - before[1]) == (1, 1)


@pytest.fixture
async def certificates():
    """A server of certificates, and the paths that were read."""
    paths = []

    def serve(request, connection):
        paths.append(request.path)
        connection.respond(FakeResponse(200 if request.path == "/cert" else 404, b"certificate"))

    listener = await listen_http(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{listener.port}", paths
    await listener.close()


async def test_a_url_that_the_package_allows_is_read_once(endpoint, packages, certificates):
    url, paths = certificates
    packages["provider-signed"] = a_package(r"http://127\.0\.0\.1:\d+/cert")

    answer = await endpoint.post({"certificate": f"{url}/cert"})

    assert (answer.status_code, answer.content, paths) == (202, b"certificate", ["/cert"])


@pytest.mark.parametrize("path", ["/other", "/cert?x", "/certx"])
async def test_any_other_url_is_not_read(endpoint, packages, certificates, path):
    url, paths = certificates
    packages["provider-signed"] = a_package(r"http://127\.0\.0\.1:\d+/cert")

    answer = await endpoint.post({"certificate": url + path})

    assert (answer.status_code, paths) == (401, [])


@pytest.mark.parametrize(("cacheable", "reads"), [(True, 1), (False, 3)])
async def test_a_content_that_does_not_change_is_kept(endpoint, packages, certificates, cacheable, reads):
    url, paths = certificates
    packages["provider-signed"] = a_package(f"{url}/cert")

    answers = [await endpoint.post({"certificate": f"{url}/cert", "cacheable": cacheable}) for _ in range(3)]

    assert [(one.status_code, one.content) for one in answers] == [(202, b"certificate")] * 3
    assert paths == ["/cert"] * reads


async def test_only_a_content_that_verified_a_request_is_kept(endpoint, packages, certificates):
    url, paths = certificates
    packages["provider-signed"] = a_package(f"{url}/cert")

    for _ in range(2):
        forged = await endpoint.post({"certificate": f"{url}/cert", "cacheable": True, "forged": True})
        assert forged.status_code == 401

    assert paths == ["/cert"] * 2


async def test_a_kept_content_is_read_again_after_an_hour(endpoint, packages, certificates, monkeypatch):
    url, paths = certificates
    packages["provider-signed"] = a_package(f"{url}/cert")
    for now in (1.0, 3600.0, 3602.0, 7201.0):
        monkeypatch.setattr("gateway.receipts.endpoint.monotonic", lambda now=now: now)
        await endpoint.post({"certificate": f"{url}/cert", "cacheable": True})

    assert paths == ["/cert"] * 2


async def test_a_url_that_cannot_be_read_asks_for_the_request_again(endpoint, packages, certificates):
    url, _ = certificates
    packages["provider-signed"] = a_package(r"http://127\.0\.0\.1:\d+/missing")

    assert (await endpoint.post({"certificate": f"{url}/missing"})).status_code == 503


@pytest.mark.parametrize("provider", ["prv_nonsense", ids.encode_id("prv", ids.uuid7())], ids=["malformed", "unknown"])
async def test_an_unknown_provider_is_not_found(endpoint, provider):
    assert (await endpoint.client.post(f"/v1/receipts/{provider}")).status_code == 404


# -- odd receipts that are genuine ---------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-23:59", "2999-01-01T00:00:00Z"])
async def test_finding_18_a_time_ahead_counts_as_five_minutes_ahead_at_most(endpoint, at):
    delivery_id = await endpoint.store.a_delivery_that_was(SENT, outcome="accepted")

    event = REFERENCE_EVENT | {"reference": ids.attempt_reference(delivery_id, 1), "at": at}
    assert (await endpoint.post_events(event)).status_code == 204

    occurred_at = await endpoint.store.pool.fetchval("SELECT occurred_at FROM events WHERE type = 'delivered'")
    assert occurred_at - utc_now() <= timedelta(minutes=5)


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "1970-01-01T00:00:00Z"])
async def test_finding_18_a_time_before_the_delivery_counts_as_its_creation_or_as_now(endpoint, at):
    delivery_id = await endpoint.store.a_delivery_that_was(SENT, outcome="accepted")

    event = REFERENCE_EVENT | {"reference": ids.attempt_reference(delivery_id, 1), "at": at}
    assert (await endpoint.post_events(event)).status_code == 204

    occurred_at = await endpoint.store.pool.fetchval("SELECT occurred_at FROM events WHERE type = 'delivered'")
    assert occurred_at >= ids.created_at_of(delivery_id)


@pytest.mark.parametrize("number", [32768, 99999, 0])
async def test_finding_18_an_attempt_number_that_cannot_be_is_not_found(endpoint, number):
    delivery_id = await endpoint.store.a_delivery_that_was(SENT, outcome="accepted")

    event = REFERENCE_EVENT | {"reference": f"att_{delivery_id.hex}_{number}"}
    assert (await endpoint.post_events(event)).status_code == 404


async def test_finding_18_a_reference_beyond_the_calendar_is_not_found(endpoint):
    event = REFERENCE_EVENT | {"reference": f"att_{'f' * 32}_1", "at": "2026-01-01T00:00:00Z"}

    assert (await endpoint.post_events(event)).status_code == 404


async def test_finding_17_a_signature_over_the_url_is_worth_nothing_without_a_public_url(store, bus, packages):
    packages["provider-signed"] = replace(a_package(), signs_url=True)
    outbox = OutboxPublisher(store.gateway, bus)
    receipts = ReceiptEndpoint(
        store.gateway, Config(), CredentialCipher(lambda: [KEY]), outbox, public_url=None, links={}
    )
    delivery_id = await store.a_delivery_that_was(SENT, outcome="accepted")
    async with outbox.running(), receipts.running():
        transport = httpx.ASGITransport(Starlette(routes=[receipts.route()]))
        async with httpx.AsyncClient(transport=transport, base_url="http://attacker.example") as client:
            event = REFERENCE_EVENT | {"reference": ids.attempt_reference(delivery_id, 1)}
            answer = await Endpoint(store, client).post_events(event)

    assert (answer.status_code, "SLUICE_PUBLIC_URL" in answer.text) == (503, True)
    assert await store.state(delivery_id) == "SENT"


async def test_a_token_that_is_signed_in_place_of_the_body_stands_for_one_body(endpoint):
    delivery_id = await endpoint.store.a_delivery_that_was(SENT, outcome="accepted")
    token = uuid4().hex
    event = {"type": "opened", "reference": ids.attempt_reference(delivery_id, 1)}
    forged = counted("forged")

    first = await endpoint.post({"token": token, "events": [event | {"id": "r-1"}]})
    repeat = await endpoint.post({"token": token, "events": [event | {"id": "r-1"}]})
    replayed = await endpoint.post({"token": token, "events": [event | {"id": "r-2", "type": "bounced"}]})

    assert [answer.status_code for answer in (first, repeat, replayed)] == [204, 204, 401]
    assert counted("forged") == forged + 1
    assert await endpoint.store.state(delivery_id) == "SENT"


async def test_a_repeat_finds_the_attempt_that_its_first_sending_came_too_early_for(endpoint):
    token, message = uuid4().hex, uuid4().hex
    body = {"token": token, "events": [{"type": "delivered", "id": "r-1", "message": message}]}

    early = await endpoint.post(body)
    delivery_id = await endpoint.store.a_delivery_that_was(
        SENT, outcome="accepted", provider_id=PROVIDER, receipt_ids=(message,), provider_message_id=message
    )
    repeat = await endpoint.post(body)

    assert (early.status_code, repeat.status_code) == (404, 204)
    assert await endpoint.store.state(delivery_id) == "DELIVERED"


class OwnAddress(Credentials):
    """An account that reaches the provider at another address."""

    base_url: str | None = None


@pytest.mark.parametrize(
    ("base_url", "url", "allowed"),
    [
        (None, "https://sns.test/a.pem", True),
        (None, "https://other.test/a.pem", False),
        ("http://127.0.0.1:9", "https://sns.test/a.pem", True),
        ("http://127.0.0.1:9", "http://127.0.0.1:9/a.pem", True),
        ("http://127.0.0.1:9/aws/", "http://127.0.0.1:9/aws/a.pem", True),
        ("http://127.0.0.1:9", "http://127.0.0.1:90/a.pem", False),
        ("http://127.0.0.1:9", "http://127.0.0.1:9@evil.test/a.pem", False),
        ("http://127.0.0.1:9", "https://127.0.0.1:9/a.pem", False),
        ("http://a.test", "http://aXtest/a.pem", False),
        ("http://127.0.0.1:9", "http://127.0.0.1:9/a\nb", False),
    ],
)
def test_a_webhook_may_name_urls_of_its_package_and_below_the_accounts_own(base_url, url, allowed):
    account = Account(PROVIDER, 1, a_package(r"https://sns\.test/.*"), OwnAddress(base_url=base_url))

    assert may_fetch(account, url) is allowed


def test_a_package_that_reads_no_urls_reads_none_of_the_accounts_own():
    account = Account(PROVIDER, 1, a_package(), OwnAddress(base_url="http://127.0.0.1:9"))

    assert not may_fetch(account, "http://127.0.0.1:9/a.pem")


async def test_an_opt_out_suppresses_its_recipient(endpoint):
    pool = endpoint.store.pool
    await pool.execute("INSERT INTO organizations VALUES ($1, 'O', now())", PROJECT)
    await pool.execute(
        "INSERT INTO projects (id, organization_id, slug, name, created_at) VALUES ($1, $1, 's', 'S', now())", PROJECT
    )

    answers = [await endpoint.post_events({"type": "opt_out", "recipient": "ADA@example.com"}) for _ in range(2)]

    row = await pool.fetchrow("SELECT project_id, channel, address, reason, provider_id FROM suppressions")
    assert [answer.status_code for answer in answers] == [204, 204]
    assert tuple(row) == (PROJECT, "email", "ada@example.com", "unsubscribe", PROVIDER)


async def sample(endpoint, body, signature, path=None):
    headers = {"x-signature": signature, SAMPLE_HEADER: "1"}
    answer = await endpoint.client.post(f"{path or endpoint.path}?a=1", content=body, headers=headers)
    assert answer.status_code == 200
    return SampleAnswer.model_validate_json(answer.content)


async def test_a_sample_is_verified_and_says_how_it_arrived(endpoint):
    body = b'{"events": []}'

    answer = await sample(endpoint, body, "good")

    assert answer.result is SampleResult.VERIFIED
    assert answer.url == f"https://sluice.test{endpoint.path}?a=1"
    assert answer.body_sha256 == sha256(body).hexdigest()
    assert abs(answer.received_at - utc_now()) < timedelta(minutes=1)


async def test_a_sample_with_another_signature_is_refused_and_counts_as_no_forgery(endpoint):
    before = counted("forged")

    answer = await sample(endpoint, b'{"events": []}', "bad")

    assert answer.result is SampleResult.REFUSED
    assert counted("forged") == before


async def test_a_sample_stores_nothing_even_when_it_is_a_genuine_receipt(endpoint):
    store = endpoint.store
    delivery_id = await store.a_delivery_that_was(SENT, outcome="accepted")
    event = REFERENCE_EVENT | {"reference": ids.attempt_reference(delivery_id, 1)}

    answer = await sample(endpoint, json.dumps({"events": [event], "token": "t"}).encode(), "good")

    assert answer.result is SampleResult.VERIFIED
    assert await store.state(delivery_id) == "SENT"
    written = "SELECT (SELECT count(*) FROM receipts) + (SELECT count(*) FROM receipt_tokens)"
    assert await store.pool.fetchval(written) == 0


async def test_a_sample_makes_the_gateway_read_no_url(endpoint, packages):
    packages["provider-signed"] = a_package(r"https?://.*")
    body = json.dumps({"certificate": "http://127.0.0.1:1/x"}).encode()

    answer = await sample(endpoint, body, "good")

    assert answer.result is SampleResult.REFUSED


async def test_a_sample_for_a_provider_that_does_not_exist_says_so(endpoint):
    answer = await sample(endpoint, b"{}", "good", path="/v1/receipts/prv_nosuch")

    assert answer.result is SampleResult.UNKNOWN
