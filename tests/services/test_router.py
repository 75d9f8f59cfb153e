"""The router's handler: every record ends in an assignment, a conclusion or a dead letter, and is finished."""

import dataclasses
import json
from collections import Counter
from types import SimpleNamespace

import asyncpg
import pytest

from router.handler import Routing
from sluice.bus.messages import Assignment, Drive
from sluice.delivery.sandbox import SANDBOX_ID
from sluice.model.ids import reference_of
from sluice.model.state import EventKind
from sluice.routing.probe_budget import AT_ONCE
from sluice.runtime.clock import utc_now
from tests.examples import NOON, a_drive, a_provider, a_repeat, an_id, health_of, seconds, timing
from tests.polling import until
from tests.services.fakes import FakeRecord, FakeSettler

LATER = utc_now() + seconds(3600)


@pytest.fixture
def providers():
    """The candidates of the only project, in order."""
    return [a_provider(1), a_provider(2)]


@pytest.fixture
def verdicts():
    return {}


@pytest.fixture
def settler():
    return FakeSettler()


@pytest.fixture
async def routing(bus, settler, providers, verdicts):
    routing = Routing(
        configuration=SimpleNamespace(candidates=lambda *_: tuple(providers)),
        health=verdicts,
        publisher=bus,
        settler=settler,
        timing=timing(retry_rounds=(5.0,)),
    )
    yield routing
    await routing.drained()


async def route(routing, drive, **fields):
    """The record of that drive once the router is done with it."""
    value = drive if isinstance(drive, bytes | None) else drive.encode()
    record = FakeRecord(value, topic="deliveries.accepted", **fields)
    await routing.take([record])
    await until(lambda: record.finished)
    return record


def a_live_drive(**changes):
    return a_drive(**{"expires_at": LATER} | changes)


async def test_a_drive_becomes_an_assignment_of_its_channel(routing, bus, providers):
    drive = a_live_drive()

    await route(routing, drive)

    (value,) = bus.on("deliveries.email")
    assignment = Assignment.model_validate_json(value)
    assert (assignment.drive, assignment.provider_id) == (drive, providers[0].id)
    assert assignment.reference == reference_of(drive.delivery_id, 1)


async def test_the_ids_of_a_decision_may_be_of_the_database_clients_own_kind(routing, bus, providers):
    providers[:] = [dataclasses.replace(row, id=asyncpg.pgproto.pgproto.UUID(row.id.bytes)) for row in providers]

    await route(routing, a_live_drive())

    assert Assignment.model_validate_json(bus.on("deliveries.email")[0]).provider_id == providers[0].id


async def test_a_bug_in_one_decision_stops_no_other(routing, bus, providers):
    bad = a_live_drive(project_id=an_id())
    candidates = routing._configuration.candidates
    routing._configuration.candidates = lambda project_id, channel: (
        1 / 0 if project_id == bad.project_id else candidates(project_id, channel)
    )

    await route(routing, bad)
    await route(routing, a_live_drive())

    (letter,) = bus.on("dead.letters")
    assert "ZeroDivisionError" in json.loads(letter)["reason"]
    assert len(bus.on("deliveries.email")) == 1


async def test_an_assignment_says_why(routing, bus, providers):
    await route(routing, a_live_drive(tried=(providers[0].id,), attempt=2))

    decision = json.loads(Assignment.model_validate_json(bus.on("deliveries.email")[0]).decision)
    assert decision["chosen"] == str(providers[1].id)
    assert decision["left_out"] == {str(providers[0].id): "tried in this round"}


async def test_a_repeat_keeps_its_reference(routing, bus, providers):
    await route(routing, a_live_drive(attempt=2, ambiguous=1, repeat=a_repeat(providers[0], "att_old_1")))

    assert Assignment.model_validate_json(bus.on("deliveries.email")[0]).reference == "att_old_1"


async def test_an_assignment_carries_the_drive_on_as_it_came(routing, bus, providers):
    drive = a_live_drive()
    newer = drive.encode()[:-1] + b',"of_a_newer_writer":[1]}'
    await routing.take([FakeRecord(newer)])

    (value,) = bus.on("deliveries.email")
    assert Assignment.model_validate_json(value).drive == drive
    assert json.loads(value)["drive"] == json.loads(newer)


async def test_a_drive_of_a_test_key_goes_to_the_sandbox(routing, bus, providers):
    providers.clear()

    await route(routing, a_live_drive(sandbox=True))

    assert Assignment.model_validate_json(bus.on("deliveries.email")[0]).provider_id == SANDBOX_ID


async def test_a_drive_that_comes_too_late_expires(routing, settler, bus):
    await route(routing, a_drive(expires_at=NOON))

    assert (settler.kinds, bus.taken) == ([EventKind.EXPIRED], [])


async def test_when_all_were_tried_another_round_follows(routing, settler, providers):
    await route(routing, a_live_drive(attempt=3, tried=tuple(one.id for one in providers), last_reason="503"))

    (settlement,) = settler.settled
    assert settlement.conclusion.step.kind is EventKind.POSTPONED
    assert settlement.conclusion.step.detail == "every provider was tried in round 1; the last said: 503"


async def test_after_the_last_round_it_is_a_dead_letter(routing, settler, bus, providers):
    providers.clear()
    drive = a_live_drive(round=2)

    await route(routing, drive)

    (letter,) = [json.loads(value) for value in bus.on("dead.letters")]
    assert settler.kinds == [EventKind.FAILED]
    assert (letter["delivery_id"], letter["reason"]) == (
        str(drive.delivery_id),
        "the project has no enabled provider for email",
    )


async def test_a_failure_that_somebody_else_had_settled_is_no_dead_letter(routing, settler, bus, providers):
    providers.clear()
    settler.applied = False

    await route(routing, a_live_drive(round=2))

    assert bus.taken == []


async def test_a_provider_that_is_out_is_tried_by_a_few_and_not_by_all_that_come(routing, bus, providers, verdicts):
    first, second = providers
    verdicts[first.id] = health_of(first, "unhealthy", probe_at=utc_now())

    for _ in range(20):
        await route(routing, a_live_drive())

    assigned = [Assignment.model_validate_json(value) for value in bus.on("deliveries.email")]
    assert Counter(one.provider_id for one in assigned) == {first.id: AT_ONCE, second.id: 20 - AT_ONCE}
    assert {json.loads(one.decision)["why"] for one in assigned[:AT_ONCE]} == {"probe"}


async def test_what_is_held_waits_for_the_end_of_the_hold(routing, settler, providers, verdicts):
    held = utc_now() + seconds(60)
    verdicts.update({one.id: health_of(one, "healthy", hold_until=held) for one in providers})

    await route(routing, a_live_drive())

    (settlement,) = settler.settled
    assert (settlement.conclusion.step.kind, settlement.conclusion.step.due_at) == (EventKind.POSTPONED, held)


@pytest.mark.parametrize("value", [b"", None, b"{]", b"{}", b"[" * 100_000, b'{"delivery_id": 7}', b"\xff"])
async def test_what_is_no_drive_is_parked(routing, bus, value):
    await route(routing, value, offset=17)

    (letter,) = [json.loads(value) for value in bus.on("dead.letters")]
    assert (letter["topic"], letter["offset"]) == ("deliveries.accepted", 17)


async def test_a_bad_record_does_not_hold_up_the_good_ones_beside_it(routing, bus):
    records = [FakeRecord(b"{]"), FakeRecord(a_live_drive().encode()), FakeRecord(b"{]")]

    await routing.take(records)

    await until(lambda: all(record.finished for record in records))
    assert len(bus.on("deliveries.email")) == 1


async def test_a_field_of_a_newer_writer_is_news_not_an_error(routing, bus):
    newer = json.loads(a_live_drive().encode()) | {"priority_lane": True}

    await route(routing, json.dumps(newer).encode())

    assert len(bus.on("deliveries.email")) == 1


async def test_parking_waits_for_kafka(routing, bus):
    bus.away = True
    record = FakeRecord(b"{]")
    await routing.take([record])

    bus.away = False

    await until(lambda: record.finished)
    assert len(bus.on("dead.letters")) == 1


async def test_an_assignment_that_kafka_does_not_take_is_left_to_the_recovery(routing, bus):
    bus.away = True

    record = await route(routing, a_live_drive())

    assert record.times_done == 1


@pytest.mark.parametrize("fault", [ValueError("bad data"), RuntimeError("a bug")])
async def test_a_conclusion_that_cannot_be_written_does_not_hold_up_its_partition(routing, settler, fault):
    settler.fault = fault

    record = await route(routing, a_drive(expires_at=NOON))

    assert record.finished


async def test_a_drive_survives_its_way_over_the_bus():
    drive = a_live_drive(attempt=3, round=2, tried=(a_provider().id,), ambiguous=1, repeat=a_repeat())

    assert Drive.model_validate_json(drive.encode()) == drive
