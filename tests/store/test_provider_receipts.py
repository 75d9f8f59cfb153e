"""Receipts by provider: counted in batches by the event-worker and the gateway, each with its own login."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from event_worker.events import Event
from event_worker.settings import SilenceSettings
from event_worker.silence import ReceiptProjection, SilenceMonitor
from gateway.receipts.refusals import RefusalCounter
from sluice.model.ids import uuid7
from sluice.model.message import Channel
from sluice.runtime import metrics
from sluice.store import projects, provider_receipts, providers
from sluice.store.provider_receipts import ProviderEvents
from tests.examples import NOON, PROJECT, a_provider, after, an_id

HOUR = timedelta(hours=1)


@pytest.fixture
async def provider(store):
    """A stored provider: its row."""
    project = await projects.create_project(store.pool, organization="Shop", slug="shop", name="Shop", now=NOON)
    return await stored(store, project.id)


async def stored(store, project_id):
    row = a_provider(id=uuid7(), project_id=project_id, package="provider-resend")
    fields = {"package": row.package, "channel": Channel.EMAIL, "name": row.name, "encrypted_credentials": b"x"}
    await providers.create_provider(store.pool, row.id, project_id, now=NOON, **fields)
    return row


async def seen(store, row, *, accepted=0, received=False, at=0.0):
    batch = [ProviderEvents(row.id, accepted, received)]
    await provider_receipts.count_events(store.event_worker, batch, now=after(at))


async def counts(store, row):
    return (await provider_receipts.list_all(store.operator))[row.id]


async def changes(store, *, at, attempts=20):
    found = await provider_receipts.mark_silent(store.event_worker, now=after(at), after=HOUR, attempts=attempts)
    return [(change.provider_id, change.silent) for change in found]


async def test_attempts_are_counted_until_the_next_receipt(store, provider):
    await seen(store, provider, accepted=3)
    await seen(store, provider, accepted=2)
    assert (await counts(store, provider)).accepted_count == 5

    await seen(store, provider, accepted=4, received=True, at=7)

    found = await counts(store, provider)
    assert (found.accepted_count, found.received_at) == (0, after(7))


async def test_ids_that_are_no_providers_are_ignored(store, provider):
    await provider_receipts.count_events(store.event_worker, [ProviderEvents(an_id(), 1, True)], now=NOON)

    assert await provider_receipts.list_all(store.operator) == {}


async def test_a_provider_is_silent_after_an_hour_with_enough_accepted_attempts_and_no_receipt(store, provider):
    await seen(store, provider, received=True)
    await seen(store, provider, accepted=20, at=10)

    assert await changes(store, at=10 + 3599) == []
    assert await changes(store, at=10 + 3600) == [(provider.id, True)]
    assert await changes(store, at=10 + 3601) == []  # reported once
    assert await provider_receipts.count_silent(store.event_worker) == {"provider-resend": 1}

    await seen(store, provider, received=True, at=4000)

    assert await changes(store, at=4000) == [(provider.id, False)]
    assert await provider_receipts.count_silent(store.event_worker) == {}


@pytest.mark.parametrize(
    ("received", "accepted"), [(True, 19), (False, 500)], ids=["few attempts", "no receipt has ever come"]
)
async def test_a_provider_without_reason_to_send_receipts_is_not_silent(store, provider, received, accepted):
    await seen(store, provider, received=received)
    await seen(store, provider, accepted=accepted)

    assert await changes(store, at=1e6) == []


async def test_a_disabled_provider_is_not_silent_any_more(store, provider):
    await seen(store, provider, received=True)
    await seen(store, provider, accepted=20)
    assert await changes(store, at=5000) == [(provider.id, True)]

    await providers.update_provider(store.pool, provider.project_id, provider.id, now=NOON, enabled=False)

    assert await changes(store, at=5001) == [(provider.id, False)]


async def test_the_projection_counts_a_batch_of_events_by_provider(store, provider):
    def an_event(type_, **changes):
        of = {"delivery_id": an_id(), "sequence": 1, "project_id": PROJECT, "channel": "email"}
        return Event(type=type_, **of | {"provider_id": provider.id} | changes)

    await ReceiptProjection(store.event_worker).apply(
        [
            *[an_event("sent", outcome="accepted")] * 3,
            an_event("attempt_failed", outcome="unknown"),
            an_event("accepted", provider_id=None),
            an_event("failed"),  # every provider was tried
        ]
    )
    assert (await counts(store, provider)).accepted_count == 3
    assert (await counts(store, provider)).received_at is None

    await ReceiptProjection(store.event_worker).apply([an_event("delivered")])

    assert (await counts(store, provider)).received_at is not None


async def test_the_monitor_writes_one_log_line_and_sets_the_metric(store, provider, monkeypatch):
    monkeypatch.setenv("SLUICE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("SLUICE_POSTGRES_DSN", "postgresql://x")
    await seen(store, provider, received=True)
    await seen(store, provider, accepted=20)
    monitor = SilenceMonitor(store.event_worker, SilenceSettings())

    with capture_logs() as lines:
        await monitor.look()
        await monitor.look()

    assert [(line["event"], line["log_level"], line["provider"]) for line in lines] == [
        ("receipts_stopped", "warning", str(provider.id))
    ]
    assert metrics.SILENT_PROVIDERS.labels("provider-resend")._value.get() == 1

    await seen(store, provider, received=True)
    with capture_logs() as lines:
        await monitor.look()

    assert [line["event"] for line in lines] == ["receipts_resumed"]
    assert metrics.SILENT_PROVIDERS._metrics == {}


async def test_refused_requests_are_counted_until_the_next_receipt(store, provider):
    other = await stored(store, provider.project_id)
    refusals = RefusalCounter(store.gateway)

    async with refusals.running():
        for _ in range(3):
            refusals.add(provider)
        await refusals.write()
        refusals.add(provider)
        refusals.add(other)

    assert (await counts(store, provider)).refused_count == 4
    assert (await counts(store, other)).refused_count == 1

    await seen(store, provider, received=True)

    found = await counts(store, provider)
    assert (found.refused_count, found.refused_at) == (0, None)
