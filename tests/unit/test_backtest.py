"""`sluice backtest`: a recording, its replay, and the report."""

import argparse
from datetime import timedelta
from uuid import UUID

import pytest

from sluice.delivery.replay import TICK, ReplayedRouting
from sluice.health.settings import HealthRuleSettings
from sluice.model import ids
from sluice.model.message import Channel
from sluice.model.routing_policy import RoutingPolicy
from sluice.store.routing_traffic import RecordedAttempt, RecordedDelivery
from sluice_cli.arguments import past_argument, time_argument
from sluice_cli.backtest.command import format_report
from sluice_cli.backtest.figures import Price, figures_of
from sluice_cli.backtest.recording import Recording
from sluice_cli.backtest.run import replay
from tests.examples import NOON, a_candidate, a_task, after

FIRST, SECOND = a_candidate(1), a_candidate(2)
PROJECT = UUID(int=1)


def an_attempt(provider, at, outcome="accepted", took=0.2, retry_round=1):
    finished = None if outcome is None else after(at + took)
    return RecordedAttempt(provider.id, retry_round, after(at), finished, outcome)


def a_delivery(*attempts, recipient="+4915112345678", at=0.0, expires=86_400, **changes):
    id_ = ids.uuid7(round(after(at).timestamp() * 1000))
    return RecordedDelivery(id_, id_, recipient, "standard", None, after(at + expires), 1, attempts)._replace(**changes)


def a_recording(*deliveries):
    return Recording.of(deliveries, project_id=PROJECT, channel=Channel.SMS)


def replayed(recording, policy=RoutingPolicy.STATIC, candidates=(FIRST, SECOND)):
    return replay(recording, candidates, policy, HealthRuleSettings())


def an_outage():
    """Two deliveries a second for 15 minutes in static order, the first provider dead in the middle third."""
    deliveries = []
    for at in (number / 2 for number in range(1800)):
        if 300 <= at < 600:
            attempts = an_attempt(FIRST, at, "provider_fault", 1.0), an_attempt(SECOND, at + 1.0)
        else:
            attempts = (an_attempt(FIRST, at),)
        deliveries.append(a_delivery(*attempts, at=at))
    return a_recording(*deliveries)


def test_the_policy_of_the_record_gives_the_record():
    recording = an_outage()

    found = replayed(recording)

    assert [(one.tried, one.outcomes) for one in found.journeys] == [
        (one.tried, one.outcomes) for one in recording.recorded
    ]
    assert [one.ended_at for one in found.journeys] == pytest.approx([one.ended_at for one in recording.recorded])
    assert (found.own_answers, found.borrowed) == (2400, [])


def test_a_replayed_hang_is_noticed_while_calls_go_on_to_begin_as_in_a_worker():
    routing = ReplayedRouting((FIRST,), RoutingPolicy.ADAPTIVE, after)
    routing.select(a_task(channel=Channel.SMS), 0.0)
    routing.started(FIRST.id, UUID(int=1), 0.0)
    routing.ended(FIRST.id, UUID(int=1), "accepted", 0.05, 0.05, "")

    for number in range(2, 100):  # less than the ten seconds of the first time limit: no call ends
        routing.started(FIRST.id, UUID(int=number), number * TICK)
        routing.tick(number * TICK)

    [seen] = routing.select(a_task(channel=Channel.SMS), 10.0).assessments
    assert seen.state is not None
    assert seen.state.status == "degraded"


@pytest.mark.parametrize("policy", [RoutingPolicy.ADAPTIVE, RoutingPolicy.SEED])
def test_another_policy_leaves_the_dead_provider_of_the_record(policy):
    recording = an_outage()

    found = replayed(recording, policy)

    figures = figures_of(found.journeys, {}, 5.0, found.ejections)
    record = figures_of(recording.recorded, {}, 5.0, None)
    assert record.first_accepted == pytest.approx(66.667)
    assert figures.first_accepted > 95
    assert figures.attempts < record.attempts
    assert figures.not_accepted == record.not_accepted == 0
    assert figures.ejections >= 1


def test_the_answer_is_that_to_the_delivery_itself_or_the_nearest_in_time():
    recording = a_recording(
        a_delivery(an_attempt(FIRST, 0, took=0.1)),
        a_delivery(an_attempt(SECOND, 50, took=0.2)),
        a_delivery(an_attempt(FIRST, 100, "unknown", took=10.0)),
    )
    own, none, last = recording.journeys

    assert recording.answer(own, FIRST.id, 90.0) == (("accepted", 0.1), None)
    assert recording.answer(none, FIRST.id, 60.0) == (("unknown", 10.0), 40.0)
    assert recording.answer(none, FIRST.id, 40.0) == (("accepted", 0.1), 40.0)
    assert recording.answer(last, SECOND.id, 100.0) == (("accepted", 0.2), 50.0)


def test_an_answer_to_the_same_destination_comes_before_a_nearer_one_to_another():
    recording = a_recording(
        a_delivery(an_attempt(FIRST, 0, "provider_fault"), recipient="+4479460000"),
        a_delivery(an_attempt(FIRST, 29)),
        a_delivery(an_attempt(SECOND, 30), recipient="+4479460001"),
        a_delivery(an_attempt(SECOND, 100), recipient="+4479460002"),
    )

    assert recording.answer(recording.journeys[2], FIRST.id, 30.0)[0].outcome == "provider_fault"
    assert recording.answer(recording.journeys[3], FIRST.id, 100.0)[0].outcome == "accepted"


def test_a_rejected_recipient_is_rejected_by_every_provider_and_stands_for_no_other_delivery():
    recording = a_recording(
        a_delivery(an_attempt(FIRST, 0, "recipient_rejected")),
        a_delivery(an_attempt(SECOND, 1)),
        a_delivery(an_attempt(FIRST, 60)),
    )

    assert recording.answer(recording.journeys[0], SECOND.id, 0.0)[0].outcome == "recipient_rejected"
    assert recording.answer(recording.journeys[1], FIRST.id, 1.0) == (("accepted", 0.2), 59.0)


def test_deliveries_without_an_attempt_and_in_flight_are_counted_and_excluded():
    recording = a_recording(
        a_delivery(), a_delivery(an_attempt(FIRST, 0, None)), a_delivery(an_attempt(FIRST, 1, "accepted"))
    )

    assert (len(recording.journeys), recording.never_attempted, recording.in_flight) == (1, 1, 1)
    assert a_recording(a_delivery()) is None
    assert a_recording(a_delivery(an_attempt(FIRST, 0, None))) is None


def test_later_rounds_are_evidence_but_not_what_became_of_the_first():
    recording = a_recording(
        a_delivery(an_attempt(FIRST, 0, "provider_fault"), an_attempt(FIRST, 60, retry_round=2)),
        a_delivery(an_attempt(SECOND, 59)),
    )

    assert recording.recorded[0].lost
    assert recording.answer(recording.journeys[1], FIRST.id, 60.0) == (("accepted", 0.2), 0.0)


def test_a_suspended_channel_is_waited_for_until_the_delivery_expires():
    attempts = an_attempt(FIRST, 0, "throttled"), an_attempt(FIRST, 6, retry_round=2)
    recording = a_recording(
        a_delivery(*attempts), a_delivery(an_attempt(FIRST, 2)), a_delivery(an_attempt(FIRST, 2), expires=3)
    )

    throttled, waited, expired = replayed(recording, candidates=[FIRST]).journeys

    assert throttled.lost  # every provider was tried in this round
    assert waited.ended_at > 5
    assert expired.lost
    assert expired.tried == []


def test_figures_count_doubles_and_cost():
    recording = a_recording(
        a_delivery(an_attempt(FIRST, 0, "unknown", took=10.0), an_attempt(SECOND, 10)),
        a_delivery(an_attempt(FIRST, 1), segments=3),
    )

    found = figures_of(recording.recorded, {FIRST.id: Price(0.01, True), SECOND.id: Price(0.05, False)}, 5.0, None)

    assert (found.maybe_twice, found.late, found.attempts, found.cost) == (1, 50, 1.5, 40.0)
    assert found.shares == {FIRST.id: 100}
    assert figures_of(recording.recorded, {FIRST.id: Price(0.01, True)}, 5.0, None).cost is None


def a_report(**changes):
    figures = {
        **dict.fromkeys(("late", "not_accepted", "maybe_twice"), 0),
        **{"first_accepted": 99.5, "attempts": 1.01, "p50": 0.2, "p99": 1.5, "ejections": 0, "cost": None},
        "shares": {"north": 60, "south\x1b": 40},
    }
    return {
        **{"project": "acme", "channel": "sms", "deliveries": 1200, "never_attempted": 0, "in_flight": 0},
        **{"from": NOON.isoformat(), "until": (NOON + timedelta(hours=1)).isoformat(), "limited": False},
        **{"without_answers": [], "late_after_s": 5.0, "own_policy": "adaptive"},
        "policies": {"recorded": {**figures, "ejections": None}, "adaptive": figures},
        "answers": {"adaptive": {"own": 900, "of_others": 300, "median_distance_s": 0.5, "largest_distance_s": 30}},
        **changes,
    }


def test_the_report_has_the_figures_and_what_limits_them():
    text = format_report(a_report(in_flight=3, limited=True, without_answers=["west"]))

    assert "acme, sms: 1,200 deliveries, 2026-" in text
    assert "adaptive *" in text
    assert "cost of 1,000" not in text  # no provider has a price
    assert "south\\x1b" in text
    assert "25.0 % of the answers are those to other deliveries, half of them within 0.5 s, all within 30 s" in text
    assert "excluded: 0 without an attempt, 3 in flight" in text
    assert "no attempt says how they answer: west" in text
    assert "--limit" in text


def test_a_span_or_a_time_before_now():
    assert past_argument("90m") == timedelta(minutes=90)
    assert past_argument("7d") == timedelta(days=7)
    assert past_argument("2026-11-01") == time_argument("2026-11-01T00:00:00Z")
    for text in ("", "7", "d", "-1d", "7w", "1000000d", "yesterday", "0001-01-01"):
        with pytest.raises(argparse.ArgumentTypeError, match="no span such as 24h and no time"):
            past_argument(text)
