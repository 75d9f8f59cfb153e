"""Silent loss: receipts that stop or fall are noticed, and nothing else is taken for it."""

from collections import Counter
from datetime import timedelta
from random import Random
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.bus.messages import DeliveryEvent
from sluice.health import receipts
from sluice.health.breaker import HealthThresholds, ProviderStats
from sluice.health.monitor import HealthMonitor
from sluice.health.receipts import Confirmation, ReceiptStats, overlay
from tests.examples import NOON, PROJECT

FIRST, SECOND = UUID(int=1), UUID(int=2)
THRESHOLDS = HealthThresholds()


def at(seconds):
    return NOON + timedelta(seconds=seconds)


class Traffic:
    """Messages at a rate through a monitor; each receipt comes after a delay, or never."""

    def __init__(self, seed=1, rate=2.0, monitor=None):
        self.dice = Random(seed)
        self.rate = rate
        self.monitor = monitor or HealthMonitor(THRESHOLDS)
        self.now = 0.0
        self.waiting = []
        self.seen = {}  # provider and destination: the first time at which it was not healthy
        self.reasons = {}

    def run(self, seconds, rules, step=0.5):
        """``rules``: provider, destination -> (share, delay) of the receipts, or a third value, their reason."""
        until = self.now + seconds
        due = {key: self.now + self.dice.expovariate(self.rate) for key in rules}
        while self.now < until:
            self.now += step
            events = []
            for key, rule in rules.items():
                while due[key] <= self.now:
                    due[key] += self.dice.expovariate(self.rate)
                    events.append(self._accepted(key, rule))
            events += [event for when, event in self.waiting if when <= self.now]
            self.waiting = [(when, event) for when, event in self.waiting if when > self.now]
            if events:
                self.monitor.record_attempts(events, at(self.now))
            for health in self.monitor.changed_statuses(at(self.now)):
                self._note(health)
        return self

    def _accepted(self, key, rule):
        delivery = uuid4()
        if self.dice.random() < rule[0]:
            delay = rule[1] * self.dice.lognormvariate(0, 0.5)
            self.waiting.append((self.now + delay, self._receipt(key, delivery, *rule[2:])))
        return self._event(key, delivery, type="sent", outcome="accepted", duration_ms=100, destination=key[1])

    def _receipt(self, key, delivery, reason=None):
        return self._event(key, delivery, type="delivered" if reason is None else "failed", reason=reason)

    def _event(self, key, delivery, **fields):
        return DeliveryEvent(
            delivery_id=delivery,
            sequence=1,
            message_id=delivery,
            project_id=PROJECT,
            channel="sms",
            occurred_at=at(self.now),
            attempt=1,
            provider_id=key[0],
            **fields,
        )

    def _note(self, health):
        states = {"": health} | health.destinations
        for destination, state in states.items():
            if state.status != "healthy":
                self.seen.setdefault((health.provider_id, destination), self.now)
                self.reasons[health.provider_id, destination] = state.reason

    def status(self, provider=FIRST, destination=""):
        (health,) = [one for one in self.monitor.statuses(at(self.now)) if one.provider_id == provider]
        return health.destinations[destination].status if destination in health.destinations else health.status


GOOD = (0.97, 0.5)
NEVER = (0.0, 1.0)
TO = "+1"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("before", [40.0, 600.0])
def test_receipts_that_stop_are_noticed_within_five_minutes_at_two_messages_a_second(seed, before):
    traffic = Traffic(seed).run(before, {(FIRST, TO): GOOD})
    assert not traffic.seen

    traffic.run(300, {(FIRST, TO): NEVER})

    assert 180 <= traffic.seen[FIRST, ""] - before < 300
    assert traffic.reasons[FIRST, ""].startswith("receipts have stopped: ")


def test_receipts_that_fall_are_noticed():
    traffic = Traffic().run(900, {(FIRST, TO): GOOD}).run(600, {(FIRST, TO): (0.4, 0.5)})

    assert traffic.reasons[FIRST, ""].startswith("receipts have fallen: ")


@pytest.mark.parametrize(
    ("share", "delay"),
    [(0.0, 1.0), (0.05, 1.0), (0.4, 1.0), (0.97, 90.0), (0.8, 900.0)],
)
@pytest.mark.parametrize("rate", [0.02, 1.0])
def test_no_alarm_where_receipts_are_missing_slow_or_few(share, delay, rate):
    assert not Traffic(rate=rate).run(2400, {(FIRST, TO): (share, delay)}, step=2.0).seen


def test_receipts_that_become_slower_raise_no_lasting_alarm():
    traffic = Traffic().run(600, {(FIRST, TO): GOOD}).run(1800, {(FIRST, TO): (0.97, 300.0)})

    assert traffic.status() == "healthy"


@pytest.mark.parametrize("seed", range(3))
def test_one_silent_country_is_degraded_alone(seed):
    traffic = Traffic(seed, rate=1.0).run(900, {(FIRST, "+1"): GOOD, (FIRST, "+420"): GOOD})

    traffic.run(600, {(FIRST, "+1"): GOOD, (FIRST, "+420"): NEVER})

    assert (FIRST, "+420") in traffic.seen
    assert (FIRST, "") not in traffic.seen


def test_receipts_of_all_providers_that_stop_together_blame_none():
    good = {(FIRST, TO): GOOD, (SECOND, TO): GOOD}

    traffic = Traffic().run(600, good).run(900, dict.fromkeys(good, NEVER))

    assert not traffic.seen


def test_a_peer_whose_receipts_come_shows_that_the_provider_is_silent():
    traffic = Traffic().run(600, {(FIRST, TO): GOOD, (SECOND, TO): GOOD})

    traffic.run(300, {(FIRST, TO): NEVER, (SECOND, TO): GOOD})

    assert [key[0] for key in traffic.seen] == [FIRST]


def test_late_failures_that_blame_the_provider_degrade_it_and_those_of_recipients_do_not():
    by_network, by_recipient = (0.97, 0.5, "network"), (0.97, 0.5, "unknown_recipient")
    good = {(FIRST, TO): GOOD, (SECOND, TO): GOOD}

    traffic = Traffic().run(600, good).run(400, {(FIRST, TO): by_network, (SECOND, TO): by_recipient})

    assert [key[0] for key in traffic.seen] == [FIRST]
    assert traffic.reasons[FIRST, ""].startswith("late failures: ")


@pytest.mark.parametrize("destination", ["", "+420"])
def test_a_provider_whose_receipts_come_again_is_healthy_again(destination):
    good = {(FIRST, "+1"): GOOD, (FIRST, "+420"): GOOD}
    silent = {key: NEVER for key in good if destination in ("", key[1])}
    traffic = Traffic().run(900, good).run(500, good | silent)
    assert traffic.status(destination=destination) == "degraded"

    traffic.run(180, good)

    assert traffic.status(destination=destination) == "healthy"


def test_a_silent_provider_stays_degraded_while_its_calls_succeed():
    traffic = Traffic().run(300, {(FIRST, TO): GOOD}).run(900, {(FIRST, TO): NEVER})

    (health,) = traffic.monitor.statuses(at(traffic.now))
    assert (health.status, health.evidence.cause) == ("degraded", "receipts")
    assert health.evidence.receipts.recent_share < 0.05
    assert health.evidence.receipts.usual_share > 0.5
    assert health.probe_results > 0


def test_time_in_which_no_event_is_read_is_no_silence():
    traffic = Traffic().run(600, {(FIRST, TO): GOOD})
    traffic.now += 3600

    assert not traffic.run(600, {(FIRST, TO): GOOD}).seen


def test_a_snapshot_has_the_usual_share_and_no_waiting_attempts():
    traffic = Traffic().run(600, {(FIRST, TO): GOOD})
    kept = traffic.monitor.pending_snapshots(10)[FIRST]
    monitor = HealthMonitor(THRESHOLDS)
    assert monitor.restore({b"1": kept}, at(traffic.now)) == []

    later = Traffic(monitor=monitor)
    later.now = traffic.now + 3600
    later.run(300, {(FIRST, TO): NEVER})

    assert len(kept) < 10_000
    assert later.reasons[FIRST, ""].startswith("receipts have stopped: ")


def test_an_unhealthy_provider_that_is_silent_says_both():
    silent = ReceiptStats(overall=Confirmation(silent_since=NOON, reason="receipts have stopped"))
    bad = ProviderStats(status="unhealthy", reason="5 consecutive failures")

    assert overlay(bad, silent, THRESHOLDS).reason == "5 consecutive failures; receipts have stopped"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["accept", "confirm", "fail", "evaluate"]),
        st.integers(0, 20),
        st.floats(0, 400),
        st.sampled_from(["", "+1", "+420"]),
    ),
    max_size=120,
)


@settings(deadline=None, max_examples=60)
@given(STEPS)
def test_whatever_is_observed_the_state_is_bounded_and_without_a_past_there_is_no_alarm(steps):
    stats, clock, accepted, confirmed = ReceiptStats(), NOON, Counter(), 0
    for kind, number, pause, destination in steps:
        clock += timedelta(seconds=pause)
        key = UUID(int=number)
        if kind == "accept":
            stats = receipts.accept(stats, key, destination, clock)
            accepted[key] += 1
        elif kind == "evaluate":
            stats = receipts.evaluate(stats, clock, clock)
        else:
            confirmed += 1
            stats = receipts.confirm(stats, key, clock, failed=kind == "fail")
        for one in (stats.overall, *stats.destinations.values()):
            assert 0 <= one.suspicion <= receipts.ALARM
            assert 0 <= one.usual_good <= one.samples + 1e-9
            assert 0 <= one.recent_good <= one.recent + 1e-9
            assert 0 < one.usual < 1
    if confirmed < 3:
        assert not stats.silent


def test_the_number_of_waiting_attempts_is_bounded_at_any_rate():
    stats = ReceiptStats()
    for number in range(40_000):
        clock = NOON + timedelta(seconds=number / 100)
        stats = receipts.accept(stats, UUID(int=number), "", clock)
        if number % 200 == 0:
            stats = receipts.evaluate(stats, clock, clock)

    assert len(stats.waiting) <= 520
