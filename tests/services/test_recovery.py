"""The recovery loop with a real database and a fake bus: backlog, lost records, expired leases, overdue outbox rows."""

import pytest

from router.recovery import Recovery, RecoverySettings
from sluice.bus.messages import DeliveryEvent, DeliveryTask
from sluice.delivery.settlement import SettlementWriter
from sluice.model.message import Channel
from sluice.model.suppression import SuppressionReason
from sluice.runtime import metrics
from sluice.runtime.clock import utc_now
from sluice.store import projects, suppressions
from sluice.store.invariants import check_window, id_windows
from sluice.store.suppressions import NewSuppression, Recipient
from tests.examples import OTHER_PROJECT, PROJECT, a_claim, a_message, a_provider, a_transition, an_email, seconds
from tests.polling import wait_until
from tests.services.test_worker import StubConfig
from tests.store.harness import FAILED_ATTEMPT, SENT


class StubProgress:
    """Low watermarks that a test sets."""

    def __init__(self):
        self.low_watermark = utc_now()

    async def low_watermarks(self):
        return dict.fromkeys(Channel, self.low_watermark)


@pytest.fixture
def progress():
    return StubProgress()


@pytest.fixture
def provider():
    return a_provider()


@pytest.fixture
def health():
    return {}


@pytest.fixture
async def recovery(store, bus, progress, provider, health):
    async with SettlementWriter(store.router, bus).running() as settlements:
        yield Recovery(
            pool=store.router,
            config=StubConfig(provider),
            publisher=bus,
            settlements=settlements,
            progress=progress,
            health=health,
            settings=RecoverySettings(
                postgres_dsn="unused", kafka_bootstrap_servers="unused:1", dispatch_queue_limit=3, retry_schedule=()
            ),
        )


def ago(number):
    return utc_now() - seconds(number)


def a_backlogged_message(**changes):
    """A message that is due and not enqueued."""
    defaults = {"when": ago(60), "due_at": ago(60), "send_at": ago(60), "expires_at": utc_now() + seconds(3600)}
    return a_message(**defaults | changes)


def tasks(bus, topic="deliveries.accepted"):
    return [DeliveryTask.model_validate_json(value) for value in bus.on(topic)]


def ids(*messages):
    return {message.deliveries[0].id for message in messages}


def value_of(metric):
    return sum(sample.value for sample in next(iter(metric.collect())).samples)


def requeued():
    samples = next(iter(metrics.REQUEUED_DELIVERIES.collect())).samples
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))


async def test_the_backlog_is_enqueued(store, bus, recovery):
    first, second = a_backlogged_message(), a_backlogged_message()
    await store.accept(first, second)

    assert not await recovery.run_once()

    assert {task.delivery_id for task in tasks(bus)} == ids(first, second)
    assert {task.attempt for task in tasks(bus)} == {1}


async def test_no_more_is_enqueued_than_the_dispatch_queue_limit(store, bus, recovery):
    await store.accept(*[a_backlogged_message() for _ in range(5)], a_backlogged_message(project_id=OTHER_PROJECT))

    assert await recovery.run_once()
    assert await recovery.run_once()

    assert len(tasks(bus)) == 3
    assert OTHER_PROJECT in {task.project_id for task in tasks(bus)}


async def test_an_expired_delivery_of_the_backlog_is_settled(store, bus, recovery):
    message = a_backlogged_message(expires_at=ago(1))
    await store.accept(message)

    await recovery.run_once()

    [delivery_id] = ids(message)
    await wait_until(lambda: bus.on("delivery.events"))
    assert (await store.state(delivery_id), tasks(bus)) == ("EXPIRED", [])


async def test_a_delivery_whose_record_is_lost_is_requeued(store, bus, recovery, progress):
    message = a_message(ago(60), due_at=ago(50), expires_at=utc_now() + seconds(3600))
    await store.accept(message)
    progress.low_watermark = ago(61)
    await recovery.run_once()
    assert tasks(bus) == []

    progress.low_watermark = ago(59)
    counted = requeued()
    await recovery.run_once()

    assert {task.delivery_id for task in tasks(bus)} == ids(message)
    assert requeued() == counted + 1


async def test_scheduled_messages_and_the_backlog_are_not_counted_as_requeued(store, bus, recovery):
    """Their number is no sign of lost records; an alert fires at 0.1 in a second."""
    await store.accept(a_backlogged_message(), a_backlogged_message(when=ago(600)))
    counted = requeued()

    await recovery.run_once()

    assert (len(tasks(bus)), requeued()) == (2, counted)


async def test_a_delivery_between_attempts_is_rerouted_with_its_history(store, bus, recovery, provider):
    message = a_message(ago(60), expires_at=utc_now() + seconds(3600))
    await store.accept(message)
    [delivery_id] = ids(message)
    await store.claim(a_claim(delivery_id, provider_id=provider.id), at=ago(50))
    await store.transition(
        a_transition(delivery_id, FAILED_ATTEMPT, outcome="unknown", unknown=True, due_at=ago(40), occurred_at=ago(45))
    )

    await recovery.run_once()

    (task,) = tasks(bus, "deliveries.reroute")
    assert (task.attempt, task.attempted_providers, task.unknown_attempts) == (2, (provider.id,), 1)
    assert task.retry_handle is None  # SMTP promises no idempotency


async def test_an_expired_lease_is_settled_as_unknown(store, bus, recovery, provider):
    message = a_message(ago(60), expires_at=utc_now() + seconds(3600))
    await store.accept(message)
    [delivery_id] = ids(message)
    await store.claim(a_claim(delivery_id, provider_id=provider.id), at=ago(50))

    await recovery.run_once()

    await wait_until(lambda: bus.on("delivery.events"))
    (attempt,) = await store.attempts(delivery_id)
    assert (attempt["outcome"], await store.state(delivery_id)) == ("unknown", "SENDING")
    (event,) = [DeliveryEvent.model_validate_json(value) for value in bus.on("delivery.events")]
    assert (event.outcome, event.scope) == ("unknown", "message")  # no evidence against the provider


async def test_the_events_of_an_overdue_outbox_row_are_published_and_the_row_is_deleted(store, bus, recovery):
    delivery_id = await store.a_delivery_in_flight()
    await store.transition(a_transition(delivery_id, SENT, outcome="accepted"), at=ago(60))

    await recovery.run_once()

    (event,) = [DeliveryEvent.model_validate_json(value) for value in bus.on("delivery.events")]
    assert (event.delivery_id, event.sequence, event.outcome) == (delivery_id, 3, "accepted")
    assert await store.count("event_outbox") == 0


async def test_an_outbox_row_that_kafka_does_not_acknowledge_is_kept(store, bus, recovery):
    bus.unavailable = True
    await store.transition(a_transition(await store.a_delivery_in_flight(), SENT), at=ago(60))

    await recovery.run_once()

    assert await store.count("event_outbox") == 1


async def test_backlog_and_outbox_are_measured(store, bus, recovery):
    bus.unavailable = True
    await store.accept(*[a_backlogged_message() for _ in range(5)])
    await store.transition(a_transition(await store.a_delivery_in_flight(expires_at=ago(-3600)), SENT))
    await store.pool.execute("UPDATE event_outbox SET created_at = now() - interval '90 s'")

    await recovery.run_once()

    assert value_of(metrics.BACKLOG_SIZE) == 5
    assert value_of(metrics.OUTBOX_OLDEST_AGE) >= 90
    assert value_of(metrics.OLDEST_DUE_AGE) >= 60


async def test_an_empty_database_measures_as_zero(recovery):
    await recovery.run_once()

    sizes = [value_of(one) for one in (metrics.BACKLOG_SIZE, metrics.OUTBOX_OLDEST_AGE, metrics.OLDEST_DUE_AGE)]
    assert sizes == [0, 0, 0]


async def test_f8_a_task_and_its_row_have_the_same_enqueue_time(store, bus, recovery):
    """The low watermark is read from tasks and compared with rows: a task with a later time would seem to be lost."""
    message = a_backlogged_message()
    await store.accept(message)

    await recovery.run_once()

    (task,) = [DeliveryTask.model_validate_json(value) for value in bus.on("deliveries.accepted")]
    assert task.enqueued_at == (await store.pending(message.deliveries[0].id))["enqueued_at"]


# -- suppressions ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def suppress(store, recovery):
    """Suppresses addresses of the project, which exists."""
    await store.pool.execute("INSERT INTO organizations VALUES ($1, 'O', now())", PROJECT)
    await store.pool.execute(
        "INSERT INTO projects (id, organization_id, slug, name, created_at) VALUES ($1, $1, 'shop', 'Shop', now())",
        PROJECT,
    )

    async def add(*addresses, channel=Channel.EMAIL):
        new = [
            NewSuppression(Recipient(PROJECT, channel, address), SuppressionReason.COMPLAINT) for address in addresses
        ]
        await suppressions.add(store.pool, new, now=utc_now())
        recovery._config.projects[PROJECT] = (await projects.list_projects(store.pool))[0]

    return add


async def rows_of(store):
    rows = await store.pool.fetch("SELECT recipient, state, envelope, attempt_count FROM deliveries ORDER BY state")
    return [tuple(row) for row in rows]


async def settled(store, count):
    async def is_settled():
        return await store.pool.fetchval("SELECT count(*) FROM deliveries WHERE state = 'FAILED'") == count

    await wait_until(is_settled)


async def test_a_scheduled_message_to_a_suppressed_recipient_fails_when_it_is_due(store, bus, recovery, suppress):
    stopped, other = a_backlogged_message(), a_backlogged_message(content=a_content("bob@example.com"))
    await store.accept(stopped, other)
    await suppress("ada@example.com")

    await recovery.run_once()
    await settled(store, 1)

    assert {task.delivery_id for task in tasks(bus)} == ids(other)
    events = [DeliveryEvent.model_validate_json(value) for value in bus.on("delivery.events")]
    assert [(event.type, event.reason, event.delivery_id) for event in events] == [
        ("failed", "suppressed", stopped.deliveries[0].id)
    ]
    assert events[0].detail == "the address is suppressed: complaint"


async def test_a_scheduled_mail_goes_to_the_recipients_who_are_not_suppressed(store, bus, recovery, suppress):
    mail = a_backlogged_message(content=a_content("Ada <ADA@example.com>", "bob@example.com"))
    await store.accept(mail)
    await suppress("ada@example.com")

    await recovery.run_once()
    await settled(store, 1)

    assert {task.delivery_id for task in tasks(bus)} == ids(mail)
    assert await rows_of(store) == [
        ("ADA@example.com", "FAILED", ["ADA@example.com"], 0),
        ("bob@example.com", "QUEUED", ["bob@example.com"], 0),
    ]
    async for window in id_windows(store.pool):
        assert (await check_window(store.pool, window)).violations == []


async def test_a_divided_mail_is_checked_by_its_envelope(store, bus, recovery, suppress):
    mail = a_backlogged_message(content=a_content("ada@example.com", "bob@example.com"))
    await store.accept(mail)
    await store.pool.execute("UPDATE deliveries SET envelope = ARRAY['bob@example.com']")
    await suppress("ada@example.com")

    await recovery.run_once()

    assert {task.delivery_id for task in tasks(bus)} == ids(mail)


async def test_a_number_is_checked_on_its_channel(store, bus, recovery, suppress):
    sms = a_backlogged_message(to=("+14155550001",), channel=Channel.SMS, content="{}")
    whatsapp = a_backlogged_message(to=("+14155550001",), channel=Channel.WHATSAPP, content="{}")
    await store.accept(sms, whatsapp)
    await suppress("+14155550001", channel=Channel.SMS)

    await recovery.run_once()
    await settled(store, 1)

    assert {task.delivery_id for task in tasks(bus)} == ids(whatsapp)


async def test_what_may_have_been_sent_is_not_called_failed(store, bus, recovery, suppress):
    mail = a_backlogged_message()
    await store.accept(mail)
    await store.pool.execute("UPDATE deliveries SET unknown_attempts = 1")
    await suppress("ada@example.com")

    await recovery.run_once()

    assert {task.delivery_id for task in tasks(bus)} == ids(mail)


def a_content(*to):
    return an_email(to=to).model_dump_json()
