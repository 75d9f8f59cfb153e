"""Failover as properties: a round misses no provider, no wait outlives a round, hand-backs and probes are bounded."""

from types import SimpleNamespace
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from router.handler import RoutingHandler
from sluice.delivery.bulkhead_monitor import MAX_HOPS, BulkheadMonitor
from sluice.delivery.retry_policy import Resolution
from sluice.model.message import Channel
from sluice.model.state import EventType
from sluice.routing.decision import decide
from sluice.routing.selection import Selected, select_provider
from sluice.store.config_cache import ConfigCache
from tests.examples import (
    NOON,
    OTHER_PROJECT,
    PROJECT,
    a_candidate,
    a_config,
    a_policy,
    a_retry_handle,
    a_task,
    after,
    an_id,
    health_of,
    seconds,
)

FIRST_PAUSE = 5.0


def no_probe(target, now, urgent):
    return False


def any_probe(target, now, urgent):
    return True


def is_suspended(candidate, health):
    known = health.get(candidate.id)
    return known is not None and known.suspended_until is not None and known.suspended_until > NOON


@st.composite
def installations(draw, least=0):
    """Candidates, their health, and a task that some of them have attempted or handed back."""
    candidates = [a_candidate(draw(st.integers(1, 5))) for _ in range(draw(st.integers(least, 5)))]
    ids = st.sampled_from([*(one.id for one in candidates), an_id()])
    times = st.none() | st.integers(-60, 3600).map(after)
    health = {
        one.id: health_of(
            one,
            draw(st.sampled_from(["healthy", "degraded", "unhealthy"])),
            suspended_until=draw(times),
            probe_at=draw(times),
            error_rate=draw(st.floats(0, 1)),
        )
        for one in candidates
        if draw(st.booleans())
    }
    attempted = tuple(draw(st.lists(ids, unique=True)))
    task = a_task(
        attempt=len(attempted) + 1,
        attempted_providers=attempted,
        deprioritized=tuple(draw(st.lists(ids, unique=True))),
        preferred_provider_id=draw(st.none() | ids),
        retry_round=draw(st.integers(1, 3)),
        all_declined=draw(st.booleans()),
        throttled=draw(st.booleans()),
    )
    return task, candidates, health


# Fault 1: a round goes over every provider, also when all look bad.


@given(installations(), st.sampled_from([no_probe, any_probe]))
def test_a_round_attempts_each_provider_that_is_left_and_not_suspended_once(installation, allow_probe):
    task, candidates, health = installation
    left = [one.id for one in candidates if one.id not in task.attempted_providers and not is_suspended(one, health)]

    called = []
    while isinstance(selection := select_provider(task, candidates, health, NOON, allow_probe), Selected):
        called.append(selection.provider.id)
        task = task.model_copy(
            update={"attempted_providers": (*task.attempted_providers, selection.provider.id), "deprioritized": ()}
        )
        assert len(called) <= len(candidates)

    assert sorted(called) == sorted(left)


@given(installations(least=2))
def test_a_healthy_provider_is_attempted_before_an_unhealthy_one(installation):
    task, candidates, health = installation
    selection = select_provider(task, candidates, health, NOON, no_probe)

    if isinstance(selection, Selected) and selection.provider.id in health:
        others = [one for one in candidates if one.id not in (selection.provider.id, *task.attempted_providers)]
        better = [one for one in others if not is_suspended(one, health) and one.id not in health]
        assert health[selection.provider.id].status != "unhealthy" or not better


# Fault 2: no wait outlives a round that could start.


def a_router(candidates, health):
    return RoutingHandler(
        config=a_config(candidates),
        health=health,
        publisher=None,
        settlements=None,
        policy=a_policy(retry_schedule=(FIRST_PAUSE, 30.0, 120.0)),
    )


@given(installations(least=1))
def test_a_delivery_never_waits_longer_than_until_the_next_round(installation):
    task, candidates, health = installation
    pause = (FIRST_PAUSE, 30.0, 120.0)[task.retry_round - 1]

    result = a_router(candidates, health)._select(task, b"{}", NOON)

    if isinstance(result, Resolution) and result.transition.type is EventType.POSTPONED:
        wait = result.transition.due_at - NOON
        another_round = bool(task.attempted_providers) and not task.all_declined
        left = [one for one in candidates if one.id not in task.attempted_providers]
        ends = [health[one.id].suspended_until - NOON for one in left if is_suspended(one, health)]
        assert wait <= min([*ends, seconds(pause)] if another_round else ends)


@given(installations())
def test_a_delivery_fails_only_when_no_provider_is_left(installation):
    task, candidates, health = installation

    result = a_router(candidates, health)._select(task, b"{}", NOON)

    if isinstance(result, Resolution) and result.transition.type is EventType.FAILED:
        assert {one.id for one in candidates} <= set(task.attempted_providers)


# Fault 3: a delivery is handed back only where the router selects another provider, and a few times at most.


def a_monitor(candidates, health, saturated, handed_back):
    return BulkheadMonitor(
        SimpleNamespace(get=lambda id_: SimpleNamespace(saturated=id_ in saturated), permits_of=lambda _job: 1),
        config=a_config(candidates),
        health=health,
        publisher=None,
        queue_timeout=2.0,
        reroute=lambda job, _: handed_back.append(job),
        dispatch=lambda _id, _bulkhead: None,
    )


def after_hand_back(task, provider_id):
    """As sluice.delivery.job.reroute publishes it."""
    return task.model_copy(
        update={
            "deprioritized": tuple(dict.fromkeys((*task.deprioritized, provider_id))),
            "hops": task.hops + 1,
        }
    )


@given(installations(least=1), st.sampled_from([no_probe, any_probe]), st.data())
def test_a_delivery_is_handed_back_to_another_provider_and_three_times_at_most(installation, allow_probe, data):
    task, candidates, health = installation
    task = task.model_copy(update={"deprioritized": ()})
    hops = 0
    while isinstance(selection := select_provider(task, candidates, health, NOON, allow_probe), Selected):
        provider_id, queued, handed_back = selection.provider.id, [], []
        saturated = data.draw(st.sets(st.sampled_from([one.id for one in candidates])))
        bulkhead = SimpleNamespace(enqueue=lambda job, now, *, urgent, permits, queued=queued: queued.append(job))
        job = SimpleNamespace(task=task, provider_id=provider_id, urgent=False)

        with patch("sluice.delivery.bulkhead_monitor.utc_now", lambda: NOON):
            a_monitor(candidates, health, saturated, handed_back).on_queue_timeout(bulkhead, job, 0.0)

        assert len(queued) + len(handed_back) == 1
        if queued:
            break
        hops += 1
        task = after_hand_back(task, provider_id)
        if allow_probe is no_probe:
            then = select_provider(task, candidates, health, NOON, no_probe)
            assert not isinstance(then, Selected) or then.provider.id != provider_id
            assert not isinstance(then, Selected) or then.provider.id not in saturated
    assert hops <= MAX_HOPS
    assert len(set(task.deprioritized)) == len(task.deprioritized)


# Isolation: the decision is among the candidates of the task's own project and channel.


@given(st.data())
def test_no_decision_crosses_projects_or_channels(data):
    scopes = [(project, channel) for project in (PROJECT, OTHER_PROJECT) for channel in (Channel.EMAIL, Channel.SMS)]
    config = ConfigCache()
    config._enabled_providers = {
        scope: tuple(a_candidate(number) for number in range(data.draw(st.integers(0, 3)))) for scope in scopes
    }
    everyone = [one for candidates in config._enabled_providers.values() for one in candidates]
    health = {one.id: health_of(one, data.draw(st.sampled_from(["healthy", "unhealthy"]))) for one in everyone}
    own = data.draw(st.sampled_from(scopes))
    ids = st.sampled_from([one.id for one in everyone]) if everyone else st.none()
    task = a_task(
        project_id=own[0],
        channel=own[1],
        preferred_provider_id=data.draw(st.none() | ids),
        retry_handle=data.draw(st.none() | st.sampled_from(everyone).map(a_retry_handle)) if everyone else None,
        unknown_attempts=1,
    )

    selection, _ = decide(task, config, health, NOON, data.draw(st.sampled_from([no_probe, any_probe])))

    assert {one.candidate for one in selection.assessments} == set(config.candidates(*own))
    assert not isinstance(selection, Selected) or selection.provider in config.candidates(*own)
