"""The event-worker: counts events by type, and dead-letters records that are no events."""

import json

import pytest

from event_worker import service as event_worker
from event_worker.service import DeadLetterError, EventService
from event_worker.webhooks.projection import WebhookProjection
from sluice.bus.messages import DeliveryEvent
from sluice.runtime import metrics
from tests.examples import NOON, PROJECT, a_rejection, an_acceptance, an_id, an_unresponsiveness
from tests.services.fakes import FakeRecord


@pytest.fixture
def service(bus, store):
    return EventService(bus, [WebhookProjection(store.event_worker, on_added=lambda: None)])


def count(type_):
    return metrics.EVENTS_CONSUMED.labels(type_)._value.get()


@pytest.fixture
def counted():
    """The number of events by type since the test began."""
    types = ("accepted", "sent", "request_accepted", "request_rejected", "provider_unresponsive", "other")
    before = {type_: count(type_) for type_ in types}
    return lambda: {type_: count(type_) - before[type_] for type_ in types if count(type_) != before[type_]}


def records(*values):
    return [FakeRecord(value, topic="delivery.events", offset=offset) for offset, value in enumerate(values)]


def an_event(type_):
    return DeliveryEvent(
        delivery_id=an_id(),
        sequence=1,
        message_id=an_id(),
        project_id=PROJECT,
        channel="email",
        type=type_,
        occurred_at=NOON,
    ).encode()


async def test_events_are_counted_by_type(service, bus, counted):
    await service.on_events(records(an_event("accepted"), an_event("sent"), an_event("accepted")))

    assert counted() == {"accepted": 2, "sent": 1}
    assert bus.published == []


async def test_events_that_belong_to_no_delivery_are_counted(service, counted):
    await service.on_events(
        records(*(event.encode() for event in (an_acceptance(), a_rejection(), an_unresponsiveness())))
    )

    assert counted() == {"request_accepted": 1, "request_rejected": 1, "provider_unresponsive": 1}


async def test_an_event_of_a_newer_version_is_counted_as_other(service, bus, counted):
    await service.on_events(records(b'{"type": "of_a_newer_version"}'))

    assert (counted(), bus.published) == ({"other": 1}, [])


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"7", b"{}", b'{"type": 7}', b'{"type": null}', b"\xff"])
async def test_a_record_that_is_no_event_is_dead_lettered_and_the_others_are_counted(service, bus, counted, value):
    await service.on_events(records(an_event("sent"), value, an_event("sent")))

    (letter,) = map(json.loads, bus.on("dead.letters"))
    assert (letter["topic"], letter["offset"], letter["reason"]) == ("delivery.events", 1, "no event")
    assert counted() == {"sent": 2}


async def test_a_batch_fails_while_its_dead_letter_cannot_be_published(service, bus, counted, monkeypatch):
    monkeypatch.setattr(event_worker, "_RETRY_DELAY", 0.0)
    bus.unavailable = True

    with pytest.raises(DeadLetterError):
        await service.on_events(records(an_event("sent"), b"{"))

    assert counted() == {}
