"""The event-worker's projection of events to suppressions."""

import json

import asyncpg
import pytest

from event_worker import service as event_worker
from event_worker.service import EventService
from event_worker.suppressions import SuppressionProjection
from sluice.bus.messages import DeliveryEvent
from sluice.model.message import Channel
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.model.suppression import SuppressionReason, known_address, suppression_reason
from sluice.store import receipts
from sluice.store.receipts import ReceiptEntry
from tests.examples import NOON, PROJECT, PROVIDER, a_claim, a_message, a_transition, an_email, an_id
from tests.services.fakes import FakeRecord

GONE = (Reason.INVALID_ADDRESS, Reason.UNKNOWN_RECIPIENT, Reason.DISABLED)


@pytest.fixture
async def service(store, role_pools, bus):
    await store.pool.execute("INSERT INTO organizations VALUES ($1, 'O', now())", PROJECT)
    await store.pool.execute(
        "INSERT INTO projects (id, organization_id, slug, name, created_at) VALUES ($1, $1, 'shop', 'Shop', now())",
        PROJECT,
    )
    return EventService(bus, [SuppressionProjection(role_pools.event_worker)])


async def a_sent(store, *to, **changes):
    """A delivery that a provider accepted."""
    message = a_message(content=an_email(to=to or ("ada@example.com",)).model_dump_json(), **changes)
    await store.accept(message)
    delivery_id = message.deliveries[0].id
    await store.claim(a_claim(delivery_id))
    await store.transitioned(a_transition(delivery_id, EventType.SENT, outcome="accepted", provider_id=PROVIDER))
    return delivery_id


async def reported(store, delivery_id, type_, reason=None, *, receipt_id="r1", **changes):
    """The records of the events that a receipt makes."""
    entry = ReceiptEntry(
        delivery_id=delivery_id,
        attempt=1,
        provider_id=PROVIDER,
        receipt_id=receipt_id,
        type=EventType(type_),
        occurred_at=NOON,
        reason=reason,
        detail="550 5.1.1",
        **changes,
    )
    async with store.rows_of() as db:
        applied = await receipts.apply(db, [entry], now=NOON, outbox_retry_after=NOON - NOON)
    return [FakeRecord(DeliveryEvent(**fields).encode(), topic="delivery.events") for fields in applied.events]


async def suppressed(store):
    rows = await store.pool.fetch("SELECT channel, address, reason FROM suppressions ORDER BY address")
    return [tuple(row) for row in rows]


async def test_a_hard_bounce_suppresses_the_address_and_says_where_from(store, service):
    delivery_id = await a_sent(store, "Ada <Ada@Example.com>")

    await service.on_events(await reported(store, delivery_id, "bounced", Reason.UNKNOWN_RECIPIENT))

    row = await store.pool.fetchrow("SELECT * FROM suppressions")
    assert (row["channel"], row["address"], row["reason"], row["detail"]) == (
        "email",
        "ada@example.com",
        "hard_bounce",
        "550 5.1.1",
    )
    assert (row["project_id"], row["delivery_id"], row["provider_id"]) == (PROJECT, delivery_id, PROVIDER)
    event = await store.pool.fetchrow(
        "SELECT type FROM events WHERE delivery_id = $1 AND sequence = $2", delivery_id, row["event_sequence"]
    )
    assert event["type"] == "bounced"
    assert await store.pool.fetchval("SELECT has_suppressions FROM projects")


async def test_a_repeated_batch_changes_nothing(store, service):
    records = await reported(store, await a_sent(store), "bounced")
    await service.on_events(records)
    before = await store.pool.fetchrow("SELECT * FROM suppressions")

    await service.on_events(records)
    await service.on_events(await reported(store, await a_sent(store), "complained"))

    assert await store.pool.fetch("SELECT * FROM suppressions") == [before]


async def test_a_complaint_suppresses(store, service):
    await service.on_events(await reported(store, await a_sent(store), "complained"))

    assert await suppressed(store) == [("email", "ada@example.com", "complaint")]


@pytest.mark.parametrize("reason", [*GONE, Reason.UNSUBSCRIBED])
async def test_a_recipient_whom_a_provider_refuses_for_good_is_suppressed(store, service, reason):
    message = a_message(to=("+14155550001",), channel=Channel.SMS, content="{}")
    await store.accept(message)
    delivery_id = message.deliveries[0].id
    await store.claim(a_claim(delivery_id))
    failed = a_transition(delivery_id, EventType.FAILED, outcome="recipient_rejected", reason=reason)
    await store.transitioned(failed)
    event = {"delivery_id": str(delivery_id), "project_id": str(PROJECT), "channel": "sms", "sequence": 3} | {
        "type": "failed"
    }

    await service.on_events([FakeRecord(json.dumps(event).encode())])

    expected = "unsubscribe" if reason is Reason.UNSUBSCRIBED else "hard_bounce"
    assert await suppressed(store) == [("sms", "+14155550001", expected)]


async def test_of_several_recipients_the_one_is_suppressed_whom_the_receipt_names(store, service):
    delivery_id = await a_sent(store, "ada@example.com", "Bob <BOB@example.com>")

    await service.on_events(await reported(store, delivery_id, "bounced", receipt_id="r1"))
    await service.on_events(await reported(store, delivery_id, "bounced", receipt_id="r2", recipient="eve@example.com"))
    await service.on_events(await reported(store, delivery_id, "bounced", receipt_id="r3", recipient="bob@example.com"))

    assert await suppressed(store) == [("email", "bob@example.com", "hard_bounce")]


async def test_a_forwarded_mail_suppresses_the_address_that_was_written_to(store, service):
    delivery_id = await a_sent(store)

    await service.on_events(await reported(store, delivery_id, "bounced", recipient="ada@elsewhere.example"))

    assert await suppressed(store) == [("email", "ada@example.com", "hard_bounce")]


async def test_a_test_message_suppresses_nothing(store, service):
    await service.on_events(await reported(store, await a_sent(store, sandbox=True), "bounced"))

    assert await suppressed(store) == []


@pytest.mark.parametrize("named", [None, "Ada@example.com"])
async def test_a_complaint_after_the_erasure_of_the_content_suppresses(store, service, named):
    delivery_id = await a_sent(store)
    await store.pool.execute("UPDATE messages SET content = '{}'")

    await service.on_events(await reported(store, delivery_id, "complained", recipient=named))

    assert await suppressed(store) == [("email", "ada@example.com", "complaint")]


async def test_of_several_erased_recipients_the_one_is_suppressed_whom_the_receipt_names(store, service):
    delivery_id = await a_sent(store, "ada@example.com", "bob@example.com")
    await store.pool.execute("UPDATE messages SET content = '{}'")

    await service.on_events(await reported(store, delivery_id, "bounced", recipient="bob@example.com"))

    assert await suppressed(store) == [("email", "bob@example.com", "hard_bounce")]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "bounced"},
        {"type": "bounced", "delivery_id": 7, "sequence": 1},
        {"type": "bounced", "delivery_id": str(an_id()), "sequence": 1},
        {"type": "bounced", "delivery_id": str(an_id()), "sequence": 10**9},
        {"type": "bounced", "delivery_id": str(an_id()), "sequence": "1"},
        {"type": "bounced", "delivery_id": "x", "sequence": True},
        {"type": "failed", "delivery_id": None, "sequence": 1, "reason": []},
    ],
)
async def test_an_event_that_does_not_exist_suppresses_nothing(store, service, event):
    await service.on_events([FakeRecord(json.dumps(event).encode())])

    assert await suppressed(store) == []


async def test_a_batch_is_repeated_while_postgresql_is_away(bus, monkeypatch):
    class Away:
        async def fetch(self, *_):
            raise asyncpg.PostgresConnectionError

    monkeypatch.setattr(event_worker, "_RETRY_DELAY", 0.0)
    service = EventService(bus, [SuppressionProjection(Away())])
    event = {
        "type": "bounced",
        "delivery_id": str(an_id()),
        "project_id": str(an_id()),
        "channel": "email",
        "sequence": 1,
    }

    with pytest.raises(asyncpg.PostgresConnectionError):
        await service.on_events([FakeRecord(json.dumps(event).encode())])


SUPPRESSING = {
    **{(EventType.BOUNCED, reason): SuppressionReason.HARD_BOUNCE for reason in (None, Reason.OTHER, *GONE)},
    **{(EventType.FAILED, reason): SuppressionReason.HARD_BOUNCE for reason in GONE},
    **{(type_, Reason.UNSUBSCRIBED): SuppressionReason.UNSUBSCRIBE for type_ in (EventType.BOUNCED, EventType.FAILED)},
    **{(type_, Reason.COMPLAINT): SuppressionReason.COMPLAINT for type_ in (EventType.BOUNCED, EventType.FAILED)},
    **{(EventType.COMPLAINED, reason): SuppressionReason.COMPLAINT for reason in (None, *Reason)},
}


def test_what_suppresses():
    every = [(type_, reason) for type_ in EventType for reason in (None, *Reason)]

    assert {one: found for one in every if (found := suppression_reason(*one)) is not None} == SUPPRESSING


@pytest.mark.parametrize(
    ("channel", "text", "address"),
    [
        (Channel.EMAIL, "Ada <ADA@EXAMPLE.COM>", "ada@example.com"),
        (Channel.EMAIL, "ada@bücher.example", "ada@xn--bcher-kva.example"),
        (Channel.EMAIL, "no address", None),
        (Channel.EMAIL, "a@example.com, b@example.com", None),
        (Channel.SMS, " +14155550001 ", "+14155550001"),
        (Channel.PUSH, "x" * 601, None),
        (Channel.PUSH, "", None),
    ],
)
def test_addresses_are_compared_in_one_form(channel, text, address):
    assert known_address(channel, text) == address
