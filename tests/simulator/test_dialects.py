"""Properties of every dialect: each behaviour has its outcome, genuine receipts are believed, forged ones are not."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.model.message import Channel, Email
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Scope,
    Throttled,
    Unknown,
)
from sluice.model.suppression import known_address
from sluice.providers.contract import (
    RECEIPT_TYPES,
    AnyPackage,
    DeliveryReceipt,
    InvalidReceiptSignatureError,
    OptOut,
    OutboundMessage,
    TransportKind,
    WebhookEvent,
    WebhookRequest,
)
from sluice.providers.registry import get_package
from sluice.runtime.clock import utc_now
from sluice.transports.http import HttpTransport
from sluice.transports.opening import open_transports
from sluice.transports.provider_call import call_provider
from sluice_simulator import Behaviour, EndpointScenario, Forgery, Receipts, Rule, Scenario, Simulator, Webhook
from sluice_simulator.dialect import Answered, Dialect, FakeRequest
from sluice_simulator.registry import DIALECTS
from tests.loopback import LOCAL
from tests.polling import virtual_time
from tests.simulator.conftest import WebhookInbox
from tests.unit.providers.examples import content_for, credentials_of, outbound, sample_of

SHORT = 0.5  # seconds of virtual time: the deadline of a call that never ends
HTTP = [dialect for dialect in DIALECTS.values() if dialect.transport is TransportKind.HTTP]
every_http_dialect = pytest.mark.parametrize("dialect", HTTP, ids=lambda dialect: dialect.name)
with_receipts = pytest.mark.parametrize(
    "dialect", [dialect for dialect in HTTP if dialect.receipts], ids=lambda dialect: dialect.name
)
KINDS = [*sorted(RECEIPT_TYPES), "inbound", "opt_out"]
OUTCOMES: list[tuple[Behaviour, tuple[type[Outcome], ...]]] = [
    (Behaviour.ACCEPT, (Accepted,)),
    (Behaviour.REJECT, (RecipientRejected, Declined)),
    (Behaviour.DECLINE, (Declined, RecipientRejected)),
    (Behaviour.DECLINE_ACCOUNT, (Declined, RecipientRejected)),
    (Behaviour.THROTTLE, (Throttled,)),
    (Behaviour.AUTH, (AuthFailed,)),
    (Behaviour.FAULT, (ProviderFault,)),
    (Behaviour.HANG, (Unknown,)),
    (Behaviour.DRIP, (Unknown,)),
    (Behaviour.RESET, (Unknown,)),
    (Behaviour.GARBAGE, (Unknown,)),
    (Behaviour.ACCEPT_SILENT, (Unknown,)),
    (Behaviour.ACCEPT_RESET, (Unknown,)),
    (Behaviour.ACCEPT_500, (Unknown,)),
]


@pytest.mark.parametrize(("behaviour", "outcomes"), OUTCOMES)
@every_http_dialect
async def test_every_behaviour_has_its_outcome(
    dialect: Dialect, behaviour: Behaviour, outcomes: tuple[type[Outcome], ...]
) -> None:
    package = get_package(dialect.package)
    async with (
        Simulator(Scenario(default=Rule(behaviour=behaviour)), endpoints={"one": dialect.name}) as simulator,
        open_transports(limits=LOCAL) as transports,
    ):
        credentials = credentials_of(package, baseUrl=simulator.url("one"))

        with virtual_time():
            found = await call_provider(package, message_for(package), credentials, transports, deadline=SHORT)

        assert isinstance(found, outcomes)
        assert len(simulator.calls) == 1  # the transport repeats nothing
        if behaviour in dialect.declines:
            wanted = Scope.ACCOUNT if behaviour is Behaviour.DECLINE_ACCOUNT else Scope.MESSAGE
            assert isinstance(found, Declined)
            assert found.scope is wanted


def message_for(package: AnyPackage, **changes: Any) -> OutboundMessage:
    token = sample_of(package).access_token
    if package.channels == (Channel.TELEGRAM,):
        changes = {"recipient": "123456789", **changes}  # a chat
    return outbound(content_for(package), access_token=token, attempted_at=utc_now(), **changes)


def a_scenario(dialect: Dialect, inbox: WebhookInbox, **receipts: Any) -> Scenario:
    webhook = Webhook(url=inbox.url, secret=sample_of(get_package(dialect.package)).webhook_secret)
    plan = Receipts.model_validate({"delay": 0, "interval": 0, **receipts})
    return Scenario(default=Rule(receipts=plan), endpoints={"one": EndpointScenario(webhooks={"*": webhook})})


async def receipts_of(
    dialect: Dialect, inbox: WebhookInbox, http: HttpTransport, **receipts: Any
) -> tuple[OutboundMessage, Accepted, str]:
    """A message, its acceptance, and the base URL; the webhook requests that follow are in the inbox."""
    package = get_package(dialect.package)
    message = message_for(package, callback_url=inbox.url)
    async with Simulator(a_scenario(dialect, inbox, **receipts), endpoints={"one": dialect.name}) as simulator:
        request = package.build(message, credentials_of(package, baseUrl=simulator.url("one")))
        accepted = package.classify(await http.exchange(request, deadline=10))
        assert isinstance(accepted, Accepted)
        await simulator.webhook_sender.wait_idle()
        return message, accepted, simulator.url("one")


def parse(dialect: Dialect, inbox: WebhookInbox, call: FakeRequest, base_url: str) -> list[WebhookEvent]:
    package = get_package(dialect.package)
    assert package.parse_webhook is not None
    headers = {name.decode(): value.decode("latin-1") for name, value in call.headers.items()}
    url = inbox.url + (f"?{call.query}" if call.query else "")
    request = WebhookRequest(call.method, url, headers, call.body, utc_now())
    account = credentials_of(package, baseUrl=base_url)
    reply = package.parse_webhook(request, account, {})
    if reply.fetch is not None:  # a certificate, which the dialect serves
        assert dialect.read is not None
        served = dialect.read(FakeRequest("GET", reply.fetch.removeprefix(base_url), {}, b""))
        assert isinstance(served, Answered)
        reply = package.parse_webhook(request, account, {reply.fetch: served.response.body})
    return list(reply.events)


def _addresses(channel: Channel, message: OutboundMessage) -> set[str | None]:
    content = message.content
    named = (*content.to, *content.cc, *content.bcc) if isinstance(content, Email) else (message.recipient,)
    return {known_address(channel, one) for one in named}


@with_receipts
async def test_every_genuine_receipt_is_believed_and_leads_to_its_attempt(
    dialect: Dialect, http: HttpTransport, inbox: WebhookInbox
) -> None:
    message, accepted, base_url = await receipts_of(dialect, inbox, http, kinds=KINDS)

    found = [event for call in inbox.calls for event in parse(dialect, inbox, call, base_url)]

    assert found
    receipts = [event for event in found if isinstance(event, DeliveryReceipt)]
    assert all(
        one.reference == message.reference or one.provider_message_id in accepted.receipt_ids for one in receipts
    )
    assert {one.type for one in receipts} <= RECEIPT_TYPES
    # A suppression is compared in the channel's own form of the recipient, such as +2348012345678.
    channel = get_package(dialect.package).channels[0]
    named = {event.recipient for event in found if isinstance(event, DeliveryReceipt | OptOut) and event.recipient}
    assert {known_address(channel, one) for one in named} <= _addresses(channel, message)


@pytest.mark.parametrize("forgery", Forgery)
@with_receipts
async def test_no_forged_receipt_is_believed(
    dialect: Dialect, http: HttpTransport, inbox: WebhookInbox, forgery: Forgery
) -> None:
    forged: list[tuple[FakeRequest, str]] = []
    for kind in KINDS:
        _, _, base_url = await receipts_of(dialect, inbox, http, kinds=(), forged=(forgery,), forged_kind=kind)
        forged += ((call, base_url) for call in inbox.calls[len(forged) :])

    assert forged
    for call, base_url in forged:
        with pytest.raises(InvalidReceiptSignatureError):
            parse(dialect, inbox, call, base_url)
