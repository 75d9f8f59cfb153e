"""The health monitor: no event on the bus stops the evaluation."""

import json
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.bus.messages import DeliveryEvent
from sluice.health.breaker import HealthThresholds
from sluice.health.monitor import HealthMonitor
from sluice.providers.adapters.sandbox import SANDBOX_PROVIDER_ID
from sluice.runtime import metrics
from tests.examples import NOON, PROJECT, PROVIDER, after, an_id, an_unresponsiveness


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


def a_monitor(*events):
    monitor = HealthMonitor(HealthThresholds())
    monitor.record_attempts(events, NOON)
    return monitor


def statuses(monitor, now=NOON):
    return {one.provider_id: one.status for one in monitor.statuses(now)}


def test_attempts_count_for_their_provider():
    other = uuid4()

    monitor = a_monitor(*[an_event()] * 5, an_event(provider_id=other))

    assert statuses(monitor) == {PROVIDER: "unhealthy", other: "healthy"}


@pytest.mark.parametrize(("scope", "status"), [("account", "unhealthy"), ("message", "healthy"), (None, "healthy")])
def test_an_account_that_declines_every_message_is_at_fault(scope, status):
    monitor = a_monitor(an_event(outcome="accepted"), *[an_event(outcome="declined", scope=scope)] * 9)

    assert statuses(monitor) == {PROVIDER: status}


@pytest.mark.parametrize("outcome", ["unknown", "provider_fault"])
@pytest.mark.parametrize(("scope", "status"), [(None, "unhealthy"), ("message", "healthy")])
def test_calls_that_a_lost_or_paused_worker_does_not_make_are_no_evidence(outcome, scope, status):
    monitor = a_monitor(*[an_event(outcome=outcome, scope=scope)] * 9)

    [health] = monitor.statuses(NOON)

    assert health.status == status
    assert health.evidence.not_counted == ({} if scope is None else {"worker_lost": 9})


def test_the_sandbox_of_test_messages_is_no_provider():
    before = metrics.PROVIDERS.labels("sms", "healthy")._value.get()
    monitor = a_monitor(*[an_event(provider_id=SANDBOX_PROVIDER_ID, channel="sms", outcome="accepted")] * 5)

    assert monitor.changed_statuses(NOON) == []
    assert metrics.PROVIDERS.labels("sms", "healthy")._value.get() == before


def test_an_event_without_an_attempt_is_no_evidence():
    assert statuses(a_monitor(*[an_event(outcome=None)] * 50, *[an_event(provider_id=None)] * 50)) == {}


def test_unresponsiveness_is_published_before_any_call_has_ended():
    monitor = a_monitor(an_unresponsiveness())

    published = [[one.status for one in monitor.changed_statuses(after(time))] for time in (0, 6, 16)]

    assert published == [["degraded"], [], []]


def test_the_return_of_a_provider_is_published_with_the_time_of_its_full_share():
    monitor = a_monitor(*[an_event()] * 5)
    monitor.changed_statuses(NOON)

    monitor.record_attempts([an_event(outcome="accepted", occurred_at=after(10))] * 3, after(10))
    (health,) = monitor.changed_statuses(after(10))

    assert (health.status, health.healthy_since, health.full_share_at) == ("healthy", after(10), after(30))


def test_a_destination_is_published_while_it_differs_from_the_provider():
    bad = {"outcome": "provider_fault", "destination": "+44"}
    good = {"outcome": "accepted", "destination": "+49"}
    monitor = a_monitor(*[an_event(**good)] * 20)
    monitor.changed_statuses(NOON)

    monitor.record_attempts([an_event(**one) for one in [bad, good] * 5], after(1))
    (health,) = monitor.changed_statuses(after(1))

    assert (health.status, {name: each.status for name, each in health.destinations.items()}) == (
        "healthy",
        {"+44": "unhealthy"},
    )


def test_a_status_is_published_once():
    monitor = a_monitor(*[an_event()] * 5)

    assert [len(monitor.changed_statuses(NOON)), len(monitor.changed_statuses(NOON))] == [1, 0]


def test_a_changed_status_is_published():
    monitor = a_monitor(an_event())
    monitor.changed_statuses(NOON)

    monitor.record_attempts([an_event()] * 4, NOON)

    assert [one.status for one in monitor.changed_statuses(NOON)] == ["unhealthy"]


def test_a_changed_status_by_the_seed_rule_is_published():
    monitor = a_monitor(*[an_event(outcome="accepted")] * 30)
    monitor.changed_statuses(NOON)

    monitor.record_attempts([an_event()] * 2, after(1))
    (health,) = monitor.changed_statuses(after(1))

    assert (health.status, health.seed.status, health.seed.reason) == ("healthy", "degraded", "2 of 32 attempts failed")
    monitor.record_attempts([an_event()] * 3, after(1))
    assert [one.seed.probe_at for one in monitor.changed_statuses(after(1))] == [after(60)]


def test_changed_numbers_are_published_at_most_every_five_seconds():
    monitor = a_monitor(*[an_event(outcome="accepted")] * 30)
    monitor.changed_statuses(NOON)
    monitor.record_attempts([an_event()], after(1))

    assert [len(monitor.changed_statuses(after(second))) for second in (1, 3, 6, 8)] == [0, 0, 1, 0]


def test_a_provider_without_evidence_is_not_evaluated(monkeypatch):
    monitor = a_monitor(*[an_event(provider_id=uuid4()) for _ in range(50)])
    monitor.changed_statuses(NOON)
    monitor.changed_statuses(after(601))
    monitor.changed_statuses(after(610))
    evaluated = []
    monkeypatch.setattr("sluice.health.monitor.decay", lambda record, *_: evaluated.append(record) or record)

    monitor.record_attempts([an_event()], after(700))
    monitor.changed_statuses(after(700))

    assert len(evaluated) == 1


def test_an_event_from_the_future_expires_no_evidence():
    monitor = a_monitor(*[an_event()] * 4, an_event(occurred_at=after(7 * 3600)))

    assert statuses(monitor) == {PROVIDER: "unhealthy"}


def test_an_event_from_long_ago_expires_no_evidence():
    monitor = a_monitor(*[an_event(outcome="accepted")] * 10)

    monitor.record_attempts([an_event(occurred_at=after(-7 * 3600))] * 200, NOON)
    monitor.record_attempts([an_event()] * 4, NOON)

    assert [(one.status, one.effective_samples) for one in monitor.statuses(NOON)] == [("healthy", 14)]


def test_attempts_count_in_the_order_of_their_times():
    outcomes = [*["provider_fault"] * 3, "accepted", *["provider_fault"] * 3]
    events = [an_event(outcome=outcome, occurred_at=after(-10 + n)) for n, outcome in enumerate(outcomes)]

    assert statuses(a_monitor(*events[::2], *events[1::2])) == {PROVIDER: "healthy"}


def snapshots(monitor, limit=100):
    return {str(key).encode(): value for key, value in monitor.pending_snapshots(limit).items()}


def test_a_snapshot_restores_statistics_and_published_statuses():
    monitor, restored = a_monitor(*[an_event()] * 5, an_event(provider_id=uuid4(), outcome="accepted")), a_monitor()
    monitor.changed_statuses(NOON)

    assert restored.restore(snapshots(monitor), NOON) == []

    assert restored.statuses(NOON) == monitor.statuses(NOON)
    assert restored.changed_statuses(NOON) == []


def test_a_snapshot_keeps_the_newest_attempts_for_the_seed_rule():
    monitor, restored = a_monitor(*[an_event(outcome="accepted")] * 200, *[an_event()] * 4), a_monitor()
    restored.restore(snapshots(monitor), NOON)

    for each in (monitor, restored):
        each.record_attempts([an_event(outcome="accepted"), an_event()], after(1))

    (health,) = restored.statuses(after(1))
    assert (health.seed.status, health.seed.reason) == ("degraded", "5 of 100 attempts failed")
    assert [health] == monitor.statuses(after(1))


def test_restored_evidence_loses_its_weight():
    monitor, restored = a_monitor(*[an_event()] * 3, an_event(outcome="accepted")), a_monitor()
    monitor.changed_statuses(NOON)
    restored.restore(snapshots(monitor), NOON)

    (health,) = restored.changed_statuses(after(600))

    assert (health.status, health.effective_samples) == ("healthy", 0)


def test_a_snapshot_of_another_version_is_not_restored():
    monitor, restored = a_monitor(an_event()), a_monitor()

    unreadable = restored.restore({b"1": b'{"provider_id": 1}', b"2": b"[", **snapshots(monitor)}, NOON)

    assert (unreadable, list(statuses(restored))) == ([b"1", b"2"], [PROVIDER])


def test_a_snapshot_of_the_sandbox_is_not_restored():
    monitor, restored = a_monitor(an_event(), an_event(provider_id=(other := uuid4()))), a_monitor()
    kept = snapshots(monitor)
    key = str(other).encode()
    kept[key] = kept[key].replace(key, str(SANDBOX_PROVIDER_ID).encode())  # as a version that counted it wrote it

    unusable = restored.restore(kept, NOON)

    assert (unusable, list(statuses(restored))) == ([key], [PROVIDER])


def test_only_changed_providers_are_in_the_next_snapshot():
    other = uuid4()
    monitor = a_monitor(an_event(), an_event(provider_id=other))
    monitor.changed_statuses(NOON)
    monitor.pending_snapshots(100)

    monitor.record_attempts([an_event()], NOON)

    assert [set(monitor.pending_snapshots(100)), set(monitor.pending_snapshots(100))] == [{PROVIDER}, set()]


def test_snapshots_are_limited_and_repeated_if_they_were_not_written():
    monitor = a_monitor(*[an_event(provider_id=uuid4()) for _ in range(5)])

    first = monitor.pending_snapshots(3)
    monitor.restore_pending(first)

    assert [len(first), len(monitor.pending_snapshots(4)), len(monitor.pending_snapshots(4))] == [3, 4, 1]


def test_a_provider_without_attempts_for_a_day_is_dropped():
    monitor, a_day = a_monitor(an_event()), 24 * 3600
    monitor.pending_snapshots(100)
    monitor.record_attempts([an_event(provider_id=(other := uuid4()))], after(10))

    monitor.changed_statuses(after(a_day))

    assert (list(statuses(monitor)), monitor.pending_snapshots(100)[PROVIDER]) == ([other], None)


def test_the_gauge_counts_providers_by_status():
    def count(status):
        return metrics.PROVIDERS.labels("email", status)._value.get()

    before = (count("healthy"), count("unhealthy"))
    monitor = a_monitor(an_event())
    monitor.changed_statuses(NOON)
    monitor.record_attempts([an_event()] * 4, NOON)
    monitor.changed_statuses(NOON)

    assert (count("healthy"), count("unhealthy")) == (before[0], before[1] + 1)

    monitor.changed_statuses(after(25 * 3600))

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
def test_an_odd_event_affects_no_other_event(oddity):
    events = [an_event(), an_event(), an_event(**{"provider_id": uuid4()} | oddity), an_event(), an_event(), an_event()]

    monitor = a_monitor(*events)

    assert statuses(monitor)[PROVIDER] == "unhealthy"


@pytest.mark.parametrize("oddity", HOSTILE, ids=json.dumps)
def test_statuses_are_published_after_an_odd_event(oddity):
    monitor = a_monitor(*[an_event(**oddity)] * 6)

    monitor.changed_statuses(NOON)

    assert len(snapshots(monitor)) == 1


@given(st.lists(st.sampled_from(HOSTILE), max_size=6))
def test_attempts_count_after_odd_events_of_the_same_provider(oddities):
    monitor = a_monitor(*[an_event(**oddity) for oddity in oddities])

    monitor.record_attempts([an_event(occurred_at=after(n)) for n in range(5)], after(5))

    assert PROVIDER in statuses(monitor, after(5))


def test_attempts_that_are_no_fault_of_the_provider_are_counted_apart_and_lose_their_weight():
    monitor = a_monitor(
        *[an_event(outcome="recipient_rejected")] * 4,
        an_event(outcome="declined", scope="message"),
        an_event(outcome="throttled", scope="account"),
        *[an_event(outcome="accepted")] * 2,
    )

    [now] = monitor.changed_statuses(NOON)
    [later] = monitor.statuses(NOON)

    assert now.evidence.not_counted == {"recipient_rejected": 4, "declined": 1, "throttled": 1}
    assert now.effective_samples == later.effective_samples == 2
    monitor.record_attempts([an_event(occurred_at=after(30))], after(30))
    monitor.changed_statuses(after(30))
    [decayed] = monitor.statuses(after(30))
    assert decayed.evidence.not_counted == {"recipient_rejected": 2, "declined": 0.5, "throttled": 0.5}


def test_a_status_says_since_when_it_lasts_and_what_it_rests_on():
    monitor = a_monitor(*[an_event(duration_ms=200, outcome="accepted")] * 5, *[an_event()] * 5)

    [health] = monitor.changed_statuses(NOON)

    assert (health.status, health.since) == ("unhealthy", NOON)
    evidence = health.evidence
    assert (evidence.failures, evidence.consecutive_failures, evidence.usual_latency) == (5, 5, 0.2)
    assert (evidence.probe_successes, evidence.probes_needed) == (0, 3)
    assert (evidence.degraded_error_rate, evidence.unhealthy_error_rate) == (0.06, 0.25)


def test_numbers_behind_an_unchanged_rate_are_published_twice_a_minute():
    monitor = a_monitor(*[an_event(outcome="accepted")] * 5)
    monitor.changed_statuses(NOON)
    published = []
    for time in range(5, 65, 5):
        monitor.record_attempts([an_event(outcome="accepted", occurred_at=after(time))] * 100, after(time))
        published += [(time, one.effective_samples > 100) for one in monitor.changed_statuses(after(time))]

    assert [time for time, _ in published if time >= 30] in ([35], [30, 60], [35, 65], [30], [40])
    assert all(many for time, many in published if time >= 30)
