"""The selection of the provider for the next attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.bus.messages import HealthState
from sluice.model.message import DeliveryClass
from sluice.model.routing_policy import RoutingPolicy
from sluice.routing.probe_budget import ProbeTarget
from sluice.routing.selection import MAX_SAME_KEY_RETRIES, Deferred, Exhausted, Selected, select_provider
from tests.examples import NOON, a_candidate, a_retry_handle, a_task, after, an_id, health_of

FIRST, SECOND, THIRD = a_candidate(1), a_candidate(2), a_candidate(3)
ALL = [FIRST, SECOND, THIRD]


def no_probe(target, now, urgent):
    return False


def any_probe(target, now, urgent):
    return True


def selected(task=None, candidates=ALL, *health, allow_probe=no_probe, policy=RoutingPolicy.ADAPTIVE):
    known = {one.provider_id: one for one in health}
    return select_provider(task or a_task(), candidates, known, NOON, allow_probe, policy)


def test_without_health_the_priority_decides():
    assert selected().provider is FIRST


def test_a_degraded_provider_comes_after_every_healthy_one():
    assert selected(None, ALL, health_of(FIRST, "degraded"), health_of(SECOND, "healthy")).provider is SECOND


def test_a_degraded_provider_comes_before_an_unhealthy_one():
    assert (
        selected(None, [FIRST, SECOND], health_of(FIRST, "unhealthy"), health_of(SECOND, "degraded")).provider is SECOND
    )


def test_a_preferred_provider_comes_first():
    assert selected(a_task(preferred_provider_id=THIRD.id)).provider is THIRD


def test_a_degraded_preferred_provider_comes_first():
    selection = selected(a_task(preferred_provider_id=THIRD.id), ALL, health_of(THIRD, "degraded"))

    assert (selection.provider, selection.reason) == (THIRD, "preferred")


def test_an_unhealthy_preferred_provider_is_not_selected():
    selection = selected(a_task(preferred_provider_id=THIRD.id), ALL, health_of(THIRD, "unhealthy"))

    assert selection.provider is FIRST


def test_a_provider_is_attempted_once_in_a_retry_round():
    assert selected(a_task(attempted_providers=(FIRST.id, SECOND.id))).provider is THIRD


def test_when_all_providers_were_attempted_the_round_is_exhausted():
    selection = selected(a_task(attempted_providers=tuple(provider.id for provider in ALL)))

    assert isinstance(selection, Exhausted)
    assert selection.excluded == {provider.id: "attempted in this retry round" for provider in ALL}


def test_without_candidates_the_round_is_exhausted():
    assert selected(None, []) == Exhausted(())


def test_a_suspended_provider_is_not_selected():
    assert selected(None, ALL, health_of(FIRST, "healthy", suspended_until=after(30))).provider is SECOND


def test_a_suspension_ends():
    assert selected(None, ALL, health_of(FIRST, "healthy", suspended_until=NOON)).provider is FIRST


def test_when_all_are_suspended_the_delivery_is_deferred_to_the_earliest_end():
    suspended = [health_of(one, "healthy", suspended_until=after(30 - one.priority)) for one in ALL]

    selection = selected(None, ALL, *suspended)

    assert isinstance(selection, Deferred)
    assert selection.until == after(27)


def test_a_suspended_provider_defers_when_the_others_were_attempted():
    selection = selected(
        a_task(attempted_providers=(FIRST.id,)), [FIRST, SECOND], health_of(SECOND, "healthy", suspended_until=after(9))
    )

    assert isinstance(selection, Deferred)


def test_a_provider_that_named_a_time_for_this_delivery_is_not_called_before_and_the_others_are():
    task = a_task(not_before={FIRST.id: after(3600)})

    assert selected(task).provider is SECOND
    assert selected(a_task(not_before={FIRST.id: NOON})).provider is FIRST
    assert selected(a_task(preferred_provider_id=FIRST.id, not_before={FIRST.id: after(1)})).provider is SECOND


@pytest.mark.parametrize(("suspended_until", "until"), [(None, 60), (30, 60), (90, 90)])
def test_a_delivery_waits_for_the_only_provider_until_its_time_and_the_end_of_its_suspension(suspended_until, until):
    health = health_of(FIRST, "healthy", suspended_until=suspended_until and after(suspended_until))

    selection = selected(a_task(not_before={FIRST.id: after(60)}), [FIRST], health)

    assert selection.until == after(until)


def test_a_same_key_retry_waits_for_the_time_too():
    task = a_task(retry_handle=a_retry_handle(FIRST), not_before={FIRST.id: after(60)})

    assert selected(task).provider is SECOND


def test_a_suspended_preferred_provider_is_not_selected():
    task = a_task(preferred_provider_id=FIRST.id)

    assert selected(task, ALL, health_of(FIRST, "healthy", suspended_until=after(30))).provider is SECOND


def test_an_unhealthy_provider_comes_first_when_a_probe_is_allowed():
    selection = selected(None, ALL, health_of(THIRD, "unhealthy"), allow_probe=any_probe)

    assert (selection.provider, selection.reason) == (THIRD, "probe")
    assert selection.probe == ProbeTarget(THIRD.id, "", None, 0.0)


def test_a_degraded_provider_is_probed_now_and_then():
    assert selected(None, ALL, health_of(FIRST, "degraded"), allow_probe=any_probe).provider == FIRST
    selection = selected(None, ALL, health_of(FIRST, "degraded"))

    assert (selection.provider, selection.probe) == (SECOND, None)


def test_the_least_unhealthy_provider_is_no_probe():
    assert selected(None, [FIRST], health_of(FIRST, "unhealthy")).probe is None


def test_an_unhealthy_destination_is_avoided_there_and_nowhere_else():
    health = health_of(FIRST, "healthy", destinations={"+44": HealthState(status="unhealthy", probe_at=NOON)})

    found = [selected(a_task(destination=name), ALL, health).provider for name in ("+44", "+49", "")]

    assert found == [SECOND, FIRST, FIRST]


def test_a_probe_of_a_destination_is_its_own():
    health = health_of(FIRST, "healthy", destinations={"+44": HealthState(status="unhealthy", probe_at=NOON)})

    selection = selected(a_task(destination="+44"), ALL, health, allow_probe=any_probe)

    assert (selection.provider, selection.probe) == (FIRST, ProbeTarget(FIRST.id, "+44", NOON))


def test_an_unhealthy_provider_is_unhealthy_at_every_destination():
    health = health_of(FIRST, "unhealthy", destinations={"+44": HealthState(status="healthy")})

    assert selected(a_task(destination="+44"), ALL, health).provider == SECOND


@pytest.mark.parametrize(("age", "least", "most"), [(0, 0, 0), (5, 0.15, 0.35), (15, 0.65, 0.85), (20, 1, 1)])
def test_the_share_of_a_provider_that_returns_grows(age, least, most):
    health = health_of(FIRST, "healthy", healthy_since=after(-age), full_share_at=after(20 - age))

    first = sum(selected(a_task(delivery_id=an_id()), ALL, health).provider == FIRST for _ in range(1000)) / 1000

    assert least <= first <= most


def test_when_all_are_unhealthy_the_least_unhealthy_one_is_selected():
    unhealthy = [health_of(one, "unhealthy", error_rate=1 / one.priority) for one in ALL]

    assert selected(None, ALL, *unhealthy).provider is THIRD


def test_when_all_are_unhealthy_or_suspended_an_unhealthy_one_is_selected():
    unhealthy, suspended = health_of(FIRST, "unhealthy"), health_of(SECOND, "healthy", suspended_until=after(3600))

    assert selected(None, [FIRST, SECOND], unhealthy, suspended).provider is FIRST


def test_each_other_candidate_is_excluded_with_a_reason():
    task = a_task(attempted_providers=(FIRST.id,))
    fourth = a_candidate(4)

    selection = selected(task, [*ALL, fourth], health_of(SECOND, "unhealthy", reason="5 failures in a row"))

    assert (selection.provider, selection.reason) == (THIRD, "priority 3")
    assert selection.excluded == {
        FIRST.id: "attempted in this retry round",
        SECOND.id: "unhealthy: 5 failures in a row",
        fourth.id: "lower priority",
    }


def test_an_unknown_attempt_is_retried_under_its_reference():
    selection = selected(
        a_task(retry_handle=a_retry_handle(SECOND), unknown_attempts=1, attempted_providers=(SECOND.id,))
    )

    assert (selection.provider, selection.same_key) == (SECOND, True)


def test_same_key_retries_are_bounded():
    task = a_task(
        retry_handle=a_retry_handle(SECOND), unknown_attempts=MAX_SAME_KEY_RETRIES + 1, attempted_providers=(SECOND.id,)
    )

    assert selected(task).provider is FIRST


def test_an_unknown_attempt_is_not_retried_during_a_suspension():
    task = a_task(retry_handle=a_retry_handle(SECOND), unknown_attempts=1, attempted_providers=(SECOND.id,))

    selection = selected(task, ALL, health_of(SECOND, "healthy", suspended_until=after(30)))

    assert (selection.provider, selection.same_key) == (FIRST, False)


def test_class_urgent_selects_another_provider_instead_of_a_same_key_retry():
    task = a_task(
        delivery_class=DeliveryClass.URGENT,
        retry_handle=a_retry_handle(FIRST),
        unknown_attempts=1,
        attempted_providers=(FIRST.id,),
    )

    selection = selected(task)

    assert (selection.provider, selection.same_key) == (SECOND, False)


def test_class_urgent_uses_the_old_reference_at_the_same_provider():
    task = a_task(delivery_class=DeliveryClass.URGENT, retry_handle=a_retry_handle(FIRST), unknown_attempts=1)

    selection = selected(task)

    assert (selection.provider, selection.same_key) == (FIRST, True)


def out(until):
    return HealthState(status="unhealthy", probe_at=after(until), reason="5 consecutive failures")


def test_the_static_policy_knows_priorities_only():
    health = health_of(FIRST, "unhealthy", seed=out(60), destinations={"+44": out(60)})
    task = a_task(destination="+44")

    assert selected(task, ALL, health, policy=RoutingPolicy.STATIC).provider is FIRST
    assert selected(task, ALL, health, allow_probe=any_probe, policy=RoutingPolicy.STATIC).probe is None


@pytest.mark.parametrize("policy", RoutingPolicy)
def test_a_suspension_holds_under_every_policy(policy):
    health = health_of(FIRST, "healthy", suspended_until=after(30))

    assert selected(None, ALL, health, policy=policy).provider is SECOND


def test_the_seed_policy_goes_by_the_seed_rules_status():
    by_breaker, by_rule = health_of(FIRST, "unhealthy"), health_of(FIRST, "healthy", seed=out(60))

    assert selected(None, ALL, by_breaker, policy=RoutingPolicy.SEED).provider is FIRST
    assert selected(None, ALL, by_rule, policy=RoutingPolicy.SEED).provider is SECOND
    assert selected(None, ALL, by_rule).provider is FIRST


def test_under_the_seed_policy_a_provider_begins_again_when_its_pause_is_over():
    assert selected(None, ALL, health_of(FIRST, "healthy", seed=out(0)), policy=RoutingPolicy.SEED).provider is FIRST


def test_under_the_seed_policy_a_degraded_provider_comes_after_every_healthy_one():
    health = health_of(FIRST, "healthy", seed=HealthState(status="degraded"))

    assert selected(None, ALL, health, policy=RoutingPolicy.SEED, allow_probe=any_probe).provider is SECOND
    assert selected(None, [FIRST], health, policy=RoutingPolicy.SEED).provider is FIRST


PROVIDERS = st.lists(st.integers(1, 5).map(a_candidate), max_size=6, unique_by=lambda provider: provider.id)


STATES = st.builds(
    HealthState,
    status=st.sampled_from(["healthy", "degraded", "unhealthy"]),
    probe_at=st.none() | st.integers(-60, 60).map(after),
    error_rate=st.floats(0, 1),
)


@st.composite
def situations(draw):
    """Any task among any candidates with any health; probes and suspensions around noon."""
    candidates = draw(PROVIDERS)
    strangers = [a_candidate(9)]
    any_provider = st.sampled_from([*candidates, *strangers])
    times = st.none() | st.integers(-60, 60).map(after)
    health = {
        provider.id: health_of(
            provider,
            draw(st.sampled_from(["healthy", "degraded", "unhealthy", "of a newer version"])),
            suspended_until=draw(times),
            probe_at=draw(times),
            error_rate=draw(st.floats(0, 1)),
            destinations=draw(st.dictionaries(st.sampled_from(["+44", "+49"]), STATES)),
            seed=draw(st.none() | STATES),
            healthy_since=draw(times),
            full_share_at=draw(times),
        )
        for provider in draw(st.lists(any_provider, unique_by=lambda provider: provider.id))
    }
    task = a_task(
        delivery_class=draw(st.sampled_from(DeliveryClass)),
        attempted_providers=tuple(provider.id for provider in draw(st.lists(any_provider))),
        preferred_provider_id=draw(st.none() | any_provider.map(lambda provider: provider.id)),
        retry_handle=draw(st.none() | any_provider.map(a_retry_handle)),
        unknown_attempts=draw(st.integers(0, MAX_SAME_KEY_RETRIES + 1)),
        deprioritized=tuple(provider.id for provider in draw(st.lists(any_provider))),
        destination=draw(st.sampled_from(["", "+44", "+7"])),
        not_before={provider.id: after(draw(st.integers(-60, 60))) for provider in draw(st.lists(any_provider))},
    )
    allow_probe, policy = draw(st.sampled_from([no_probe, any_probe])), draw(st.sampled_from(RoutingPolicy))
    return task, candidates, health, NOON, allow_probe, policy


def is_suspended(provider, task, health):
    """For all deliveries, or for this one alone."""
    known = health.get(provider.id)
    ends = (known.suspended_until if known else None, task.not_before.get(provider.id))
    return any(end is not None and end > NOON for end in ends)


@given(situations())
def test_only_a_candidate_that_is_not_suspended_is_ever_selected(situation):
    task, candidates, health, *_ = situation

    selection = select_provider(*situation)

    if isinstance(selection, Selected):
        assert selection.provider in candidates
        assert not is_suspended(selection.provider, task, health)


@given(situations())
def test_a_second_attempt_in_a_round_is_a_same_key_retry(situation):
    task, *_ = situation

    selection = select_provider(*situation)

    assert (
        not isinstance(selection, Selected)
        or selection.same_key
        or selection.provider.id not in task.attempted_providers
    )


@given(situations())
def test_an_old_reference_is_used_only_at_its_provider(situation):
    task, *_ = situation

    selection = select_provider(*situation)

    same_provider = (
        isinstance(selection, Selected) and task.retry_handle and selection.provider.id == task.retry_handle.provider_id
    )
    assert not isinstance(selection, Selected) or selection.same_key == bool(same_provider)


@given(situations())
def test_a_deferral_ends_in_the_future(situation):
    selection = select_provider(*situation)

    assert not isinstance(selection, Deferred) or selection.until > NOON


@given(situations())
def test_a_provider_is_selected_whenever_one_is_usable(situation):
    task, candidates, health, *_ = situation
    usable = [
        provider
        for provider in candidates
        if provider.id not in task.attempted_providers
        and (provider.id not in health or health[provider.id].status in ("healthy", "degraded"))
        and not is_suspended(provider, task, health)
    ]

    selection = select_provider(*situation)

    assert isinstance(selection, Selected) or not usable


@given(situations())
def test_every_other_candidate_is_excluded(situation):
    _, candidates, *_ = situation

    selection = select_provider(*situation)

    others = {one.id for one in candidates} - ({selection.provider.id} if isinstance(selection, Selected) else set())
    assert set(selection.excluded) == others or (isinstance(selection, Selected) and selection.same_key)


@given(situations())
def test_routing_fault_1_a_round_goes_over_every_provider_that_may_be_called(situation):
    """Also when all that is left looks bad."""
    task, candidates, health, *_ = situation
    left = [
        provider
        for provider in candidates
        if provider.id not in task.attempted_providers and not is_suspended(provider, task, health)
    ]

    selection = select_provider(*situation)

    assert isinstance(selection, Selected) or not left


@given(situations())
def test_routing_fault_1_a_round_ends_when_every_provider_was_called(situation):
    task, candidates, health, *how = situation
    task = task.model_copy(update={"retry_handle": None, "attempted_providers": ()})
    called = []
    while isinstance(
        selection := select_provider(
            task.model_copy(update={"attempted_providers": tuple(called)}), candidates, health, *how
        ),
        Selected,
    ):
        called.append(selection.provider.id)

    suspended = {one.id for one in candidates if is_suspended(one, task, health)}
    assert sorted(called) == sorted({one.id for one in candidates} - suspended)


@given(situations())
def test_equal_arguments_give_equal_decisions(situation):
    task, candidates, health, *how = situation
    again = task.model_copy(), list(candidates), dict(reversed(health.items())), *how

    assert select_provider(*situation) == select_provider(*again)


@given(situations())
def test_an_excluded_provider_is_called_only_as_a_probe_or_for_lack_of_another(situation):
    selection = select_provider(*situation)

    if isinstance(selection, Selected):
        chosen = next(one for one in selection.assessments if one.candidate is selection.provider)
        if chosen.unhealthy:
            assert selection.same_key or all(one.exclusion != "lower priority" for one in selection.assessments)
        elif chosen.state is not None and chosen.state.status == "unhealthy":
            assert selection.same_key or selection.probe is not None
