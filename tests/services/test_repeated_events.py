"""What the recovery loop publishes again from the outbox equals what was published first, byte for byte."""

from datetime import UTC, datetime

import orjson
import pytest

from sluice.delivery import retry_policy
from sluice.delivery.attempt import AttemptCaller
from sluice.delivery.outbox import OutboxPublisher, republish
from sluice.delivery.receipts import ReceiptSink
from sluice.delivery.retry_policy import defer, end_unconfirmed, exhaust_round, expire
from sluice.delivery.settlement import Settlement, SettlementWriter
from sluice.model import ids
from sluice.model.message import DeliveryClass
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Divided,
    Part,
    ProviderFault,
    RecipientRejected,
    Scope,
    Throttled,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.contract import RECEIPT_TYPES, DeliveryReceipt
from sluice.runtime.clock import utc_now
from sluice.store import restored
from tests.examples import PROVIDER, a_message, a_policy, a_task, an_email, seconds
from tests.polling import wait_until
from tests.services.fakes import FakePublisher
from tests.services.test_recovery import health, progress, recovery  # noqa: F401  (fixtures)
from tests.services.test_suppressions import ADA, send, suppress
from tests.services.test_worker import harness, provider, transport  # noqa: F401  (fixtures)

ATTEMPTS = {
    "accepted": Accepted("their-1", ("their-1",), "captured"),
    "recipient rejected": RecipientRejected(Reason.INVALID_ADDRESS, "550 no such user"),
    "message declined": Declined(Reason.SPAM, "554 looks like spam"),
    "account declined": Declined(Reason.OTHER, "account closed", Scope.ACCOUNT),
    "account throttled": Throttled("slow down", seconds(90.5)),
    "recipient throttled": Throttled("450 greylisted", None, Scope.RECIPIENT),
    "credentials refused": AuthFailed("535"),
    "provider fault": ProviderFault("503"),
    "unknown": Unknown("timed out"),
    "divided": Divided(
        (
            Part(("ada@example.com",), Accepted("their-1")),
            Part(("bob@other.example",), Declined(Reason.SPAM, "554", Scope.ACCOUNT)),
        )
    ),
}
NO_ROUNDS = a_policy(retry_schedule=())
IDLE = {
    EventType.POSTPONED: lambda task, at: defer(task, until=at + seconds(60), reason="suspended", at=at),
    EventType.EXPIRED: lambda task, at: expire(task, at=at),
    EventType.FAILED: lambda task, at: exhaust_round(task, reason="all failed", at=at, policy=NO_ROUNDS),
    EventType.UNCONFIRMED: lambda task, at: end_unconfirmed(task, reason="may have been sent", at=at),
    "suppressed": lambda task, at: retry_policy.suppress(task, detail="the address is suppressed", at=at),
}
NEVER_PUBLISHED = {EventType.ACCEPTED, EventType.SENDING}  # what asks for them reads the database


def identity(value):
    event = orjson.loads(value)
    return event["delivery_id"], event["sequence"]


async def assert_repeats_are_equal(store, bus, count, *types):
    """Compares each of ``count`` events with its repeat; they have these types."""
    await wait_until(lambda: len(bus.on("delivery.events")) == count)
    await restored.republish_events(store.pool, since=datetime(2000, 1, 1, tzinfo=UTC), now=utc_now())
    again = FakePublisher()
    for row in await store.pool.fetch("SELECT id FROM event_outbox"):
        assert await republish(store.router, again, row["id"])
    repeats = {identity(value): value for value in again.on("delivery.events")}

    first = bus.on("delivery.events")
    assert [repeats[identity(value)] for value in first] == first
    assert {orjson.loads(value)["type"] for value in first} == set(types)


@pytest.mark.parametrize("kind", ATTEMPTS)
async def test_of_an_attempt(harness, provider, monkeypatch, kind):  # noqa: F811
    async def outcome(*_):
        return ATTEMPTS[kind]

    monkeypatch.setattr(AttemptCaller, "call", outcome)
    content = an_email(to=("ada@example.com", "bob@other.example")).model_dump_json()
    task = await harness.a_delivery(content=content)

    await harness.handle(harness.a_record(task, provider))

    types = {"accepted": ["sent"], "recipient rejected": ["failed"], "divided": ["sent", "attempt_failed"]}
    found = types.get(kind, ["attempt_failed"])
    await assert_repeats_are_equal(harness.store, harness.bus, len(found), *found)


async def test_of_an_attempt_that_is_never_repeated(harness, provider, monkeypatch):  # noqa: F811
    async def outcome(*_):
        return Unknown("timed out")

    monkeypatch.setattr(AttemptCaller, "call", outcome)
    task = await harness.a_delivery(delivery_class=DeliveryClass.ONCE)

    await harness.handle(harness.a_record(task, provider))

    await assert_repeats_are_equal(harness.store, harness.bus, 1, "unconfirmed")


async def test_of_an_attempt_that_was_lost_with_its_worker(store, bus, recovery):  # noqa: F811
    await store.a_delivery_in_flight(expires_at=utc_now() + seconds(3600))

    await recovery.run_once()

    await assert_repeats_are_equal(store, bus, 1, "attempt_failed")
    (event,) = map(orjson.loads, bus.on("delivery.events"))
    assert event["scope"] == "message"  # no evidence against the provider


@pytest.mark.parametrize("kind", IDLE)
async def test_without_an_attempt(store, bus, kind):
    now = utc_now()
    message = a_message(now, expires_at=now)
    await store.accept(message)
    task = a_task(delivery_id=message.deliveries[0].id, message_id=message.id)

    async with SettlementWriter(store.router, bus).running() as settlements:
        assert await settlements.settle(Settlement(task, IDLE[kind](task, utc_now())))

    await assert_repeats_are_equal(store, bus, 1, "failed" if kind == "suppressed" else kind)


async def test_of_receipts(store, bus):
    delivery_id = await store.a_delivery_that_was("sent", outcome="accepted", provider_id=PROVIDER)
    reference = ids.attempt_reference(delivery_id, 1)
    receipts = [
        DeliveryReceipt(
            f"one {kind}", kind, reference, reason=Reason.OTHER, detail="words", recipient="ada@example.com"
        )
        for kind in sorted(RECEIPT_TYPES)
    ]

    outbox = OutboxPublisher(store.gateway, bus)
    async with outbox.running(), ReceiptSink(store.gateway, outbox).running() as sink:
        project_id = (await store.pending(delivery_id))["project_id"]
        await sink.accept(project_id, PROVIDER, receipts, payload=b"", received_at=utc_now())

    await assert_repeats_are_equal(store, bus, len(receipts), *RECEIPT_TYPES)


async def test_of_a_cancellation(gateway, store):
    message_id = await send(gateway, send_at=(utc_now() + seconds(3600)).isoformat())

    answer = await gateway.ask("DELETE", f"/v1/messages/{message_id}/cancel")

    assert answer.status_code == 200, answer.text
    await assert_repeats_are_equal(store, gateway.bus, 1, "cancelled")


async def test_of_a_suppressed_recipient(gateway, store):
    await suppress(gateway, ADA)

    await send(gateway, to=[ADA])

    await assert_repeats_are_equal(store, gateway.bus, 1, "failed")


def test_every_type_is_compared_or_never_published():
    compared = {EventType.SENT, EventType.ATTEMPT_FAILED, EventType.CANCELLED} | set(IDLE) - {"suppressed"}

    assert compared | RECEIPT_TYPES | NEVER_PUBLISHED == set(EventType)
