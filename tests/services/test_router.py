"""The router's handler: every record becomes an assignment, a settlement or a dead letter, and is acknowledged."""

import json
from collections import Counter

import asyncpg
import pytest

from router.handler import RoutingHandler
from sluice.bus.messages import Assignment, DeliveryTask
from sluice.model.ids import attempt_reference
from sluice.model.state import EventType
from sluice.providers.adapters.sandbox import SANDBOX_PROVIDER_ID
from sluice.runtime.clock import utc_now
from tests.examples import NOON, a_candidate, a_config, a_policy, a_retry_handle, a_task, an_id, health_of, seconds
from tests.polling import wait_until
from tests.services.fakes import FakeRecord, FakeSettlementWriter

LATER = utc_now() + seconds(3600)


@pytest.fixture
def providers():
    """The candidates of the only project, in priority order."""
    return [a_candidate(1), a_candidate(2)]


@pytest.fixture
def health():
    return {}


@pytest.fixture
def settlements():
    return FakeSettlementWriter()


@pytest.fixture
async def routing(bus, settlements, providers, health):
    routing = RoutingHandler(
        config=a_config(providers),
        health=health,
        publisher=bus,
        settlements=settlements,
        policy=a_policy(retry_schedule=(5.0,)),
    )
    yield routing
    await routing.join()


async def route(routing, task, **fields):
    """The record of a delivery task, once it is acknowledged."""
    value = task if isinstance(task, bytes | None) else task.encode()
    record = FakeRecord(value, topic="deliveries.accepted", **fields)
    await routing.handle_batch([record])
    await wait_until(lambda: record.acked)
    return record


def a_live_task(**changes):
    return a_task(**{"expires_at": LATER} | changes)


async def test_a_task_becomes_an_assignment_on_its_channels_topic(routing, bus, providers):
    task = a_live_task()

    await route(routing, task)

    (value,) = bus.on("deliveries.email")
    assignment = Assignment.model_validate_json(value)
    assert (assignment.task, assignment.provider_id) == (task, providers[0].id)
    assert assignment.reference == attempt_reference(task.delivery_id, 1)


async def test_ids_of_asyncpgs_own_type_can_be_encoded(routing, bus, providers):
    providers[:] = [row._replace(id=asyncpg.pgproto.pgproto.UUID(row.id.bytes)) for row in providers]

    await route(routing, a_live_task())

    assert Assignment.model_validate_json(bus.on("deliveries.email")[0]).provider_id == providers[0].id


async def test_a_bug_in_one_decision_does_not_stop_the_other_records(routing, bus, providers):
    bad = a_live_task(project_id=an_id())
    candidates = routing._config.candidates
    routing._config.candidates = lambda project_id, channel: (
        1 / 0 if project_id == bad.project_id else candidates(project_id, channel)
    )

    await route(routing, bad)
    await route(routing, a_live_task())

    (letter,) = bus.on("dead.letters")
    assert "ZeroDivisionError" in json.loads(letter)["reason"]
    assert len(bus.on("deliveries.email")) == 1


async def test_an_assignment_contains_the_routing_decision(routing, bus, providers):
    await route(routing, a_live_task(attempted_providers=(providers[0].id,), attempt=2))

    decision = json.loads(Assignment.model_validate_json(bus.on("deliveries.email")[0]).routing_decision)
    assert decision["provider"] == str(providers[1].id)
    assert [one.get("excluded") for one in decision["candidates"]] == ["attempted in this retry round", None]


async def test_a_same_key_retry_keeps_its_reference(routing, bus, providers):
    await route(
        routing, a_live_task(attempt=2, unknown_attempts=1, retry_handle=a_retry_handle(providers[0], "att_old_1"))
    )

    assert Assignment.model_validate_json(bus.on("deliveries.email")[0]).reference == "att_old_1"


async def test_an_assignment_contains_the_task_as_it_was_received(routing, bus, providers):
    task = a_live_task()
    newer = task.encode()[:-1] + b',"of_a_newer_writer":[1]}'
    await routing.handle_batch([FakeRecord(newer)])

    (value,) = bus.on("deliveries.email")
    assert Assignment.model_validate_json(value).task == task
    assert json.loads(value)["task"] == json.loads(newer)


async def test_a_task_of_a_test_key_goes_to_the_sandbox(routing, bus, providers):
    providers.clear()

    await route(routing, a_live_task(sandbox=True))

    assert Assignment.model_validate_json(bus.on("deliveries.email")[0]).provider_id == SANDBOX_PROVIDER_ID


async def test_a_task_that_the_sandbox_does_not_answer_ends_unconfirmed(routing, settlements, bus):
    await route(routing, a_live_task(sandbox=True, unknown_attempts=2))
    await route(routing, a_live_task(sandbox=True, unknown_attempts=3))

    assert (settlements.kinds, len(bus.on("deliveries.email"))) == ([EventType.UNCONFIRMED], 1)


async def test_a_task_after_its_expiry_settles_as_expired(routing, settlements, bus):
    await route(routing, a_task(expires_at=NOON))

    assert (settlements.kinds, bus.published) == ([EventType.EXPIRED], [])


async def test_when_all_providers_were_attempted_the_next_round_is_scheduled(routing, settlements, providers):
    await route(
        routing,
        a_live_task(
            attempt=3,
            attempted_providers=tuple(one.id for one in providers),
            errors={providers[0].id: "503", providers[1].id: "550 no"},
            all_declined=False,
        ),
    )

    (settlement,) = settlements.settled
    assert settlement.resolution.transition.type is EventType.POSTPONED
    assert settlement.resolution.transition.detail == (
        f"all providers failed in retry round 1: {providers[0].id}: 503; {providers[1].id}: 550 no"
    )


async def test_f2_when_every_provider_declined_the_delivery_fails_with_every_reason(
    routing, settlements, bus, providers
):
    task = a_live_task(
        attempt=3,
        attempted_providers=tuple(one.id for one in providers),
        errors={providers[0].id: "552 too big", providers[1].id: "413 too large"},
        all_declined=True,
    )

    await route(routing, task)

    (letter,) = [json.loads(value) for value in bus.on("dead.letters")]
    assert settlements.kinds == [EventType.FAILED]
    assert "552 too big" in letter["reason"]
    assert "413 too large" in letter["reason"]


async def test_routing_fault_2_a_wait_does_not_outlive_a_round_that_could_start(
    routing, settlements, providers, health
):
    held, failed = providers
    health[held.id] = health_of(held, "healthy", suspended_until=utc_now() + seconds(3600))

    await route(routing, a_live_task(attempt=2, attempted_providers=(failed.id,), all_declined=False))

    (settlement,) = settlements.settled
    transition = settlement.resolution.transition
    assert (transition.type, transition.next_round) == (EventType.POSTPONED, True)
    assert transition.due_at < utc_now() + seconds(60)


@pytest.mark.parametrize("changes", [{"retry_round": 50}, {"all_declined": True}, {"attempted_providers": ()}])
async def test_a_delivery_waits_for_a_suspended_provider_that_alone_can_take_it(
    routing, settlements, providers, health, changes
):
    until = utc_now() + seconds(600)
    for one in providers if changes == {"attempted_providers": ()} else providers[:1]:
        health[one.id] = health_of(one, "healthy", suspended_until=until)

    await route(
        routing,
        a_live_task(**{"attempt": 2, "attempted_providers": (providers[1].id,), "all_declined": False} | changes),
    )

    (settlement,) = settlements.settled
    assert (settlement.resolution.transition.due_at, settlement.resolution.transition.next_round) == (until, False)


async def test_after_the_last_round_a_dead_letter_is_published(routing, settlements, bus, providers):
    providers.clear()
    task = a_live_task(retry_round=2)

    await route(routing, task)

    (letter,) = [json.loads(value) for value in bus.on("dead.letters")]
    assert settlements.kinds == [EventType.FAILED]
    assert (letter["delivery_id"], letter["reason"]) == (
        str(task.delivery_id),
        "the project has no enabled provider for email",
    )


async def test_a_failure_that_was_not_applied_is_no_dead_letter(routing, settlements, bus, providers):
    providers.clear()
    settlements.applied = False

    await route(routing, a_live_task(retry_round=2))

    assert bus.published == []


async def test_an_unhealthy_provider_receives_one_probe_at_a_time(routing, bus, providers, health):
    first, second = providers
    health[first.id] = health_of(first, "unhealthy", probe_at=utc_now())

    for _ in range(20):
        await route(routing, a_live_task())

    assigned = [Assignment.model_validate_json(value) for value in bus.on("deliveries.email")]
    assert Counter(one.provider_id for one in assigned) == {
        first.id: 1,
        second.id: 19,
    }
    assert json.loads(assigned[0].routing_decision)["reason"] == "probe"

    health[first.id] = health_of(first, "unhealthy", probe_at=utc_now(), probe_results=1)
    await route(routing, a_live_task())

    assert Assignment.model_validate_json(bus.on("deliveries.email")[-1]).provider_id == first.id


async def test_a_delivery_is_deferred_until_the_suspension_ends(routing, settlements, providers, health):
    until = utc_now() + seconds(60)
    health.update({one.id: health_of(one, "healthy", suspended_until=until) for one in providers})

    await route(routing, a_live_task())

    (settlement,) = settlements.settled
    assert (settlement.resolution.transition.type, settlement.resolution.transition.due_at) == (
        EventType.POSTPONED,
        until,
    )


async def test_a_delivery_waits_for_the_only_provider_until_the_time_that_it_named(routing, settlements, providers):
    until = utc_now() + seconds(600)
    del providers[1:]

    await route(routing, a_live_task(retry_round=2, attempt=2, not_before={providers[0].id: until}))

    (settlement,) = settlements.settled
    assert (settlement.resolution.transition.type, settlement.resolution.transition.due_at) == (
        EventType.POSTPONED,
        until,
    )


@pytest.mark.parametrize("value", [b"", None, b"{]", b"{}", b"[" * 100_000, b'{"delivery_id": 7}', b"\xff"])
async def test_an_unreadable_record_is_dead_lettered(routing, bus, value):
    await route(routing, value, offset=17)

    (letter,) = [json.loads(value) for value in bus.on("dead.letters")]
    assert (letter["topic"], letter["offset"]) == ("deliveries.accepted", 17)


async def test_an_unreadable_record_does_not_stop_the_records_beside_it(routing, bus):
    records = [FakeRecord(b"{]"), FakeRecord(a_live_task().encode()), FakeRecord(b"{]")]

    await routing.handle_batch(records)

    await wait_until(lambda: all(record.acked for record in records))
    assert len(bus.on("deliveries.email")) == 1


async def test_an_unknown_field_of_a_newer_writer_is_ignored(routing, bus):
    newer = json.loads(a_live_task().encode()) | {"of_a_newer_writer": True}

    await route(routing, json.dumps(newer).encode())

    assert len(bus.on("deliveries.email")) == 1


async def test_a_dead_letter_waits_for_kafka(routing, bus):
    bus.unavailable = True
    record = FakeRecord(b"{]")
    await routing.handle_batch([record])

    bus.unavailable = False

    await wait_until(lambda: record.acked)
    assert len(bus.on("dead.letters")) == 1


async def test_an_assignment_that_kafka_does_not_store_is_left_to_the_recovery_loop(routing, bus):
    bus.unavailable = True

    record = await route(routing, a_live_task())

    assert record.ack_count == 1


@pytest.mark.parametrize("fault", [ValueError("bad data"), RuntimeError("a bug")])
async def test_a_resolution_that_cannot_be_written_does_not_stop_its_partition(routing, settlements, fault):
    settlements.fault = fault

    record = await route(routing, a_task(expires_at=NOON))

    assert record.acked


async def test_a_task_survives_encoding_and_decoding():
    task = a_live_task(
        attempt=3,
        retry_round=2,
        attempted_providers=(a_candidate().id,),
        unknown_attempts=1,
        retry_handle=a_retry_handle(),
    )

    assert DeliveryTask.model_validate_json(task.encode()) == task
