"""The health of all providers: whatever stands on the bus, counting goes on."""

import json
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from health.verdict import Thresholds
from health.watching import Watch
from sluice.bus.events import DeliveryEvent
from tests.examples import NOON, PROJECT, PROVIDER, after, an_id


def an_event(**changes):
    defaults = {
        "delivery_id": an_id(),
        "number": 3,
        "message_id": an_id(),
        "project_id": PROJECT,
        "channel": "email",
        "kind": "attempt_failed",
        "at": NOON,
        "attempt": 1,
        "provider_id": PROVIDER,
        "outcome": "provider_fault",
    }
    return DeliveryEvent(**defaults | changes)


def a_watch(*events):
    watch = Watch(Thresholds())
    watch.take(events)
    return watch


def verdicts(watch, now=NOON):
    return {one.provider_id: one.verdict for one in watch.verdicts(now)}


def test_attempts_are_counted_for_their_provider():
    other = uuid4()

    watch = a_watch(*[an_event()] * 5, an_event(provider_id=other))

    assert verdicts(watch) == {PROVIDER: "unhealthy", other: "healthy"}


def test_an_event_without_an_attempt_is_no_evidence():
    assert verdicts(a_watch(*[an_event(outcome=None)] * 50, *[an_event(provider_id=None)] * 50)) == {}


def test_a_verdict_is_told_once():
    watch = a_watch(*[an_event()] * 5)

    assert [len(watch.news(NOON)), len(watch.news(NOON))] == [1, 0]


def test_a_changed_verdict_is_told():
    watch = a_watch(an_event())
    watch.news(NOON)

    watch.take([an_event()] * 4)

    assert [one.verdict for one in watch.news(NOON)] == ["unhealthy"]


def test_a_verdict_that_fades_with_time_is_told():
    outcomes = ["provider_fault", *["accepted"] * 4] * 8
    watch = a_watch(*[an_event(outcome=outcome) for outcome in outcomes])
    watch.news(NOON)

    assert [one.verdict for one in watch.news(after(601))] == ["healthy"]


def test_what_is_known_survives_a_restart():
    watch, restored = a_watch(*[an_event()] * 5), a_watch()

    restored.restore(watch.snapshot())

    assert restored.verdicts(NOON) == watch.verdicts(NOON)


def test_a_snapshot_of_another_version_is_refused():
    with pytest.raises(ValidationError):
        a_watch().restore(b'[{"provider_id": 1}]')


HOSTILE = [
    {"retry_after_s": 1e300, "outcome": "throttled"},
    {"retry_after_s": float("inf"), "outcome": "throttled"},
    {"retry_after_s": float("nan"), "outcome": "throttled"},
    {"retry_after_s": -1e300, "outcome": "throttled"},
    {"retry_after_s": -3600.0, "outcome": "throttled"},
    {"at": "0001-01-01T00:00:00Z"},
    {"at": "9999-12-31T23:59:59Z"},
    {"at": "9999-12-31T23:59:59Z", "outcome": "auth_failed"},
    {"at": "0001-01-01T00:00:00+14:00"},
]


@pytest.mark.parametrize("oddity", HOSTILE, ids=json.dumps)
def test_an_odd_event_spoils_none_of_those_around_it(oddity):
    events = [an_event(), an_event(), an_event(**{"provider_id": uuid4()} | oddity), an_event(), an_event(), an_event()]

    watch = a_watch(*events)

    assert verdicts(watch)[PROVIDER] == "unhealthy"


@pytest.mark.parametrize("oddity", HOSTILE, ids=json.dumps)
def test_after_an_odd_event_verdicts_can_still_be_told(oddity):
    watch = a_watch(*[an_event(**oddity)] * 6)

    watch.news(NOON)

    assert watch.snapshot()


@given(st.lists(st.sampled_from(HOSTILE), max_size=6))
def test_odd_events_of_one_provider_do_not_stop_its_counting(oddities):
    watch = a_watch(*[an_event(**oddity) for oddity in oddities])

    watch.take([an_event(at=after(n)) for n in range(5)])

    assert PROVIDER in verdicts(watch, after(5))
