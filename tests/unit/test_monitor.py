"""The health of all providers: whatever stands on the bus, counting goes on."""

import json
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from health.monitor import HealthMonitor
from sluice.bus.messages import DeliveryEvent, ProviderUnresponsive
from sluice.health.breaker import HealthThresholds
from sluice.runtime import metrics
from tests.examples import NOON, PROJECT, PROVIDER, after, an_id


def an_event(**changes):
    defaults = {
        "delivery_id": an_id(),
        "sequence": 3,
        "message_id": an_id(),
        "project_id": PROJECT,
        "channel": "email",
        "type": "attempt_failed",
        "occurred_at": NOON,
        "attempt": 1,
        "provider_id": PROVIDER,
        "outcome": "provider_fault",
    }
    return DeliveryEvent(**defaults | changes)


def a_watch(*events):
    watch = HealthMonitor(HealthThresholds())
    watch.record_attempts(events, NOON)
    return watch


def verdicts(watch, now=NOON):
    return {one.provider_id: one.status for one in watch.statuses(now)}


def test_attempts_are_counted_for_their_provider():
    other = uuid4()

    watch = a_watch(*[an_event()] * 5, an_event(provider_id=other))

    assert verdicts(watch) == {PROVIDER: "unhealthy", other: "healthy"}


@pytest.mark.parametrize(("scope", "status"), [("account", "unhealthy"), ("message", "healthy"), (None, "healthy")])
def test_an_account_that_declines_every_message_is_at_fault(scope, status):
    watch = a_watch(an_event(outcome="accepted"), *[an_event(outcome="declined", scope=scope)] * 9)

    assert verdicts(watch) == {PROVIDER: status}


def test_an_event_without_an_attempt_is_no_evidence():
    assert verdicts(a_watch(*[an_event(outcome=None)] * 50, *[an_event(provider_id=None)] * 50)) == {}


def test_silence_is_told_and_the_end_of_it_without_any_further_event():
    silent = ProviderUnresponsive(
        provider_id=PROVIDER,
        project_id=PROJECT,
        channel="sms",
        concurrency=256,
        unresponsive_for_s=2.0,
        occurred_at=NOON,
    )
    watch = a_watch(silent)

    told = [[one.status for one in watch.changed_statuses(after(time))] for time in (0, 6, 16)]

    assert told == [["degraded"], [], ["healthy"]]


def test_a_verdict_is_told_once():
    watch = a_watch(*[an_event()] * 5)

    assert [len(watch.changed_statuses(NOON)), len(watch.changed_statuses(NOON))] == [1, 0]


def test_a_changed_verdict_is_told():
    watch = a_watch(an_event())
    watch.changed_statuses(NOON)

    watch.record_attempts([an_event()] * 4, NOON)

    assert [one.status for one in watch.changed_statuses(NOON)] == ["unhealthy"]


def test_a_verdict_that_fades_with_time_is_told():
    outcomes = ["provider_fault", *["accepted"] * 4] * 8
    watch = a_watch(*[an_event(outcome=outcome) for outcome in outcomes])
    watch.changed_statuses(NOON)

    assert [one.status for one in watch.changed_statuses(after(601))] == ["healthy"]


def test_numbers_that_change_are_told_now_and_then():
    watch = a_watch(*[an_event(outcome="accepted")] * 2)
    watch.changed_statuses(NOON)
    watch.record_attempts([an_event()], after(1))

    assert [len(watch.changed_statuses(after(second))) for second in (1, 3, 6, 12)] == [0, 0, 1, 0]


def test_a_silent_provider_is_not_looked_at_once_its_evidence_is_forgotten(monkeypatch):
    watch = a_watch(*[an_event(provider_id=uuid4()) for _ in range(50)])
    watch.changed_statuses(NOON)
    watch.changed_statuses(after(601))
    watch.changed_statuses(after(610))
    looked = []
    monkeypatch.setattr("health.monitor.decay", lambda record, *_: looked.append(record) or record)

    watch.record_attempts([an_event()], after(700))
    watch.changed_statuses(after(700))

    assert len(looked) == 1


def test_an_event_from_the_future_wipes_nothing():
    watch = a_watch(*[an_event()] * 4, an_event(occurred_at=after(7 * 3600)))

    assert verdicts(watch) == {PROVIDER: "unhealthy"}


def test_an_event_from_long_ago_wipes_nothing():
    watch = a_watch(*[an_event(outcome="accepted")] * 10)

    watch.record_attempts([an_event(occurred_at=after(-7 * 3600))] * 200, NOON)
    watch.record_attempts([an_event()] * 4, NOON)

    assert [(one.status, one.effective_samples) for one in watch.statuses(NOON)] == [("healthy", 14)]


def test_attempts_count_in_the_order_of_their_times_however_they_are_read():
    outcomes = [*["provider_fault"] * 3, "accepted", *["provider_fault"] * 3]
    events = [an_event(outcome=outcome, occurred_at=after(-10 + n)) for n, outcome in enumerate(outcomes)]

    assert verdicts(a_watch(*events[::2], *events[1::2])) == {PROVIDER: "healthy"}


def kept(watch, most=100):
    return {str(key).encode(): value for key, value in watch.pending_snapshots(most).items()}


def test_what_is_known_survives_a_restart():
    watch, restored = a_watch(*[an_event()] * 5, an_event(provider_id=uuid4(), outcome="accepted")), a_watch()
    watch.changed_statuses(NOON)

    assert restored.restore(kept(watch), NOON) == []

    assert restored.statuses(NOON) == watch.statuses(NOON)
    assert restored.changed_statuses(NOON) == []


def test_what_was_restored_fades_with_time():
    watch, restored = a_watch(*[an_event(outcome=o) for o in ["provider_fault", *["accepted"] * 4] * 8]), a_watch()
    watch.changed_statuses(NOON)
    restored.restore(kept(watch), NOON)

    assert [one.status for one in restored.changed_statuses(after(601))] == ["healthy"]


def test_of_another_version_nothing_is_restored():
    watch, restored = a_watch(an_event()), a_watch()

    unreadable = restored.restore({b"1": b'{"provider_id": 1}', b"2": b"[", **kept(watch)}, NOON)

    assert (unreadable, list(verdicts(restored))) == ([b"1", b"2"], [PROVIDER])


def test_only_what_changed_is_handed_out():
    other = uuid4()
    watch = a_watch(an_event(), an_event(provider_id=other))
    watch.changed_statuses(NOON)
    watch.pending_snapshots(100)

    watch.record_attempts([an_event()], NOON)

    assert [set(watch.pending_snapshots(100)), set(watch.pending_snapshots(100))] == [{PROVIDER}, set()]


def test_changes_are_handed_out_a_few_at_a_time_and_again_if_they_were_not_kept():
    watch = a_watch(*[an_event(provider_id=uuid4()) for _ in range(5)])

    first = watch.pending_snapshots(3)
    watch.restore_pending(first)

    assert [len(first), len(watch.pending_snapshots(4)), len(watch.pending_snapshots(4))] == [3, 4, 1]


def test_a_provider_that_is_silent_for_a_day_is_forgotten():
    watch, a_day = a_watch(an_event()), 24 * 3600
    watch.pending_snapshots(100)
    watch.record_attempts([an_event(provider_id=(other := uuid4()))], after(10))

    watch.changed_statuses(after(a_day))

    assert (list(verdicts(watch)), watch.pending_snapshots(100)[PROVIDER]) == ([other], None)


def test_the_gauge_follows_the_verdicts():
    def count(verdict):
        return metrics.PROVIDERS.labels("email", verdict)._value.get()

    before = (count("healthy"), count("unhealthy"))
    watch = a_watch(an_event())
    watch.changed_statuses(NOON)
    watch.record_attempts([an_event()] * 4, NOON)
    watch.changed_statuses(NOON)

    assert (count("healthy"), count("unhealthy")) == (before[0], before[1] + 1)

    watch.changed_statuses(after(25 * 3600))

    assert (count("healthy"), count("unhealthy")) == before


HOSTILE = [
    {"retry_after_s": 1e300, "outcome": "throttled"},
    {"retry_after_s": float("inf"), "outcome": "throttled"},
    {"retry_after_s": float("nan"), "outcome": "throttled"},
    {"retry_after_s": -1e300, "outcome": "throttled"},
    {"retry_after_s": -3600.0, "outcome": "throttled"},
    {"occurred_at": "0001-01-01T00:00:00Z"},
    {"occurred_at": "9999-12-31T23:59:59Z"},
    {"occurred_at": "9999-12-31T23:59:59Z", "outcome": "auth_failed"},
    {"occurred_at": "0001-01-01T00:00:00+14:00"},
]


@pytest.mark.parametrize("oddity", HOSTILE, ids=json.dumps)
def test_an_odd_event_spoils_none_of_those_around_it(oddity):
    events = [an_event(), an_event(), an_event(**{"provider_id": uuid4()} | oddity), an_event(), an_event(), an_event()]

    watch = a_watch(*events)

    assert verdicts(watch)[PROVIDER] == "unhealthy"


@pytest.mark.parametrize("oddity", HOSTILE, ids=json.dumps)
def test_after_an_odd_event_verdicts_can_still_be_told(oddity):
    watch = a_watch(*[an_event(**oddity)] * 6)

    watch.changed_statuses(NOON)

    assert len(kept(watch)) == 1


@given(st.lists(st.sampled_from(HOSTILE), max_size=6))
def test_odd_events_of_one_provider_do_not_stop_its_counting(oddities):
    watch = a_watch(*[an_event(**oddity) for oddity in oddities])

    watch.record_attempts([an_event(occurred_at=after(n)) for n in range(5)], after(5))

    assert PROVIDER in verdicts(watch, after(5))
