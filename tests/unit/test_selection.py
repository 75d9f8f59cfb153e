"""Which provider carries a delivery next."""

from hypothesis import given
from hypothesis import strategies as st

from sluice.model.message import DeliveryClass
from sluice.routing.selection import MAX_SAME_KEY_RETRIES, Deferred, Exhausted, Selected, select_provider
from tests.examples import NOON, a_provider, a_retry_handle, a_task, after, health_of

FIRST, SECOND, THIRD = a_provider(1), a_provider(2), a_provider(3)
ALL = [FIRST, SECOND, THIRD]


def nobody(verdict, now):
    return False


def anybody(verdict, now):
    return True


def chosen(task=None, candidates=ALL, *verdicts, may_probe=nobody):
    return select_provider(task or a_task(), candidates, {one.provider_id: one for one in verdicts}, NOON, may_probe)


def test_without_any_verdict_the_priority_decides():
    assert chosen().provider is FIRST


def test_a_degraded_provider_comes_after_every_healthy_one():
    assert chosen(None, ALL, health_of(FIRST, "degraded"), health_of(SECOND, "healthy")).provider is SECOND


def test_a_degraded_provider_comes_before_an_unhealthy_one():
    assert (
        chosen(None, [FIRST, SECOND], health_of(FIRST, "unhealthy"), health_of(SECOND, "degraded")).provider is SECOND
    )


def test_a_preferred_provider_comes_first():
    assert chosen(a_task(preferred_provider_id=THIRD.id)).provider is THIRD


def test_a_preferred_provider_comes_first_though_it_is_degraded():
    choice = chosen(a_task(preferred_provider_id=THIRD.id), ALL, health_of(THIRD, "degraded"))

    assert (choice.provider, choice.reason) == (THIRD, "preferred")


def test_a_preferred_provider_that_is_out_is_passed_over():
    choice = chosen(a_task(preferred_provider_id=THIRD.id), ALL, health_of(THIRD, "unhealthy"))

    assert choice.provider is FIRST


def test_a_provider_is_tried_once_in_a_round():
    assert chosen(a_task(attempted_providers=(FIRST.id, SECOND.id))).provider is THIRD


def test_when_all_were_tried_the_round_is_over():
    choice = chosen(a_task(attempted_providers=tuple(provider.id for provider in ALL)))

    assert choice == Exhausted({provider.id: "tried in this round" for provider in ALL})


def test_without_providers_there_is_nothing_to_choose():
    assert chosen(None, []) == Exhausted({})


def test_a_held_provider_is_not_called():
    assert chosen(None, ALL, health_of(FIRST, "healthy", suspended_until=after(30))).provider is SECOND


def test_a_hold_ends():
    assert chosen(None, ALL, health_of(FIRST, "healthy", suspended_until=NOON)).provider is FIRST


def test_when_only_held_ones_are_left_the_earliest_end_is_waited_for():
    held = [health_of(one, "healthy", suspended_until=after(30 - one.priority)) for one in ALL]

    choice = chosen(None, ALL, *held)

    assert isinstance(choice, Deferred)
    assert choice.until == after(27)


def test_a_held_one_is_waited_for_though_the_others_were_tried():
    choice = chosen(
        a_task(attempted_providers=(FIRST.id,)), [FIRST, SECOND], health_of(SECOND, "healthy", suspended_until=after(9))
    )

    assert isinstance(choice, Deferred)


def test_a_preferred_provider_is_not_called_before_its_hold_ends():
    task = a_task(preferred_provider_id=FIRST.id)

    assert chosen(task, ALL, health_of(FIRST, "healthy", suspended_until=after(30))).provider is SECOND


def test_a_provider_that_is_out_is_tried_before_all_others_when_it_may_be_probed():
    choice = chosen(None, ALL, health_of(THIRD, "unhealthy"), may_probe=anybody)

    assert (choice.provider, choice.reason, choice.is_probe) == (THIRD, "probe", True)


def test_a_provider_that_is_not_out_is_not_probed():
    choice = chosen(None, ALL, health_of(FIRST, "degraded"), may_probe=anybody)

    assert (choice.provider, choice.is_probe) == (SECOND, False)


def test_the_least_bad_one_is_no_probe():
    assert not chosen(None, [FIRST], health_of(FIRST, "unhealthy")).is_probe


def test_when_all_look_bad_the_least_bad_one_is_used():
    bad = [health_of(one, "unhealthy", error_rate=1 / one.priority) for one in ALL]

    assert chosen(None, ALL, *bad).provider is THIRD


def test_when_all_are_bad_or_held_the_bad_ones_are_used():
    bad, held = health_of(FIRST, "unhealthy"), health_of(SECOND, "healthy", suspended_until=after(3600))

    assert chosen(None, [FIRST, SECOND], bad, held).provider is FIRST


def test_the_choice_says_of_each_other_candidate_why_not():
    task = a_task(attempted_providers=(FIRST.id,))
    fourth = a_provider(4)

    choice = chosen(task, [*ALL, fourth], health_of(SECOND, "unhealthy", reason="5 failures in a row"))

    assert choice == Selected(
        THIRD,
        "priority 3",
        {
            FIRST.id: "tried in this round",
            SECOND.id: "unhealthy: 5 failures in a row",
            fourth.id: "after the chosen one",
        },
    )


def test_an_ambiguous_attempt_is_repeated_under_its_reference():
    choice = chosen(a_task(retry_handle=a_retry_handle(SECOND), unknown_attempts=1, attempted_providers=(SECOND.id,)))

    assert (choice.provider, choice.same_key) == (SECOND, True)


def test_an_ambiguous_attempt_is_not_repeated_for_ever():
    task = a_task(
        retry_handle=a_retry_handle(SECOND), unknown_attempts=MAX_SAME_KEY_RETRIES + 1, attempted_providers=(SECOND.id,)
    )

    assert chosen(task).provider is FIRST


def test_an_ambiguous_attempt_is_not_repeated_during_a_hold():
    task = a_task(retry_handle=a_retry_handle(SECOND), unknown_attempts=1, attempted_providers=(SECOND.id,))

    choice = chosen(task, ALL, health_of(SECOND, "healthy", suspended_until=after(30)))

    assert (choice.provider, choice.same_key) == (FIRST, False)


def test_class_urgent_goes_elsewhere_instead_of_repeating():
    task = a_task(
        delivery_class=DeliveryClass.URGENT,
        retry_handle=a_retry_handle(FIRST),
        unknown_attempts=1,
        attempted_providers=(FIRST.id,),
    )

    choice = chosen(task)

    assert (choice.provider, choice.same_key) == (SECOND, False)


def test_class_urgent_that_is_led_back_uses_the_old_reference():
    task = a_task(delivery_class=DeliveryClass.URGENT, retry_handle=a_retry_handle(FIRST), unknown_attempts=1)

    choice = chosen(task)

    assert (choice.provider, choice.same_key) == (FIRST, True)


PROVIDERS = st.lists(st.integers(1, 5).map(a_provider), max_size=6, unique_by=lambda provider: provider.id)


@st.composite
def situations(draw):
    """Any drive among any candidates with any health; time-outs and holds around noon."""
    candidates = draw(PROVIDERS)
    strangers = [a_provider(9)]
    known = st.sampled_from([*candidates, *strangers])
    times = st.none() | st.integers(-60, 60).map(after)
    verdicts = {
        provider.id: health_of(
            provider,
            draw(st.sampled_from(["healthy", "degraded", "unhealthy", "of a newer version"])),
            suspended_until=draw(times),
            probe_at=draw(times),
            error_rate=draw(st.floats(0, 1)),
        )
        for provider in draw(st.lists(known, unique_by=lambda provider: provider.id))
    }
    task = a_task(
        delivery_class=draw(st.sampled_from(DeliveryClass)),
        attempted_providers=tuple(provider.id for provider in draw(st.lists(known))),
        preferred_provider_id=draw(st.none() | known.map(lambda provider: provider.id)),
        retry_handle=draw(st.none() | known.map(a_retry_handle)),
        unknown_attempts=draw(st.integers(0, MAX_SAME_KEY_RETRIES + 1)),
    )
    return task, candidates, verdicts, NOON, draw(st.sampled_from([nobody, anybody]))


@given(situations())
def test_only_a_candidate_that_is_not_held_is_ever_chosen(situation):
    _, candidates, verdicts, *_ = situation

    choice = select_provider(*situation)

    if isinstance(choice, Selected):
        verdict = verdicts.get(choice.provider.id)
        assert choice.provider in candidates
        assert verdict is None or verdict.suspended_until is None or verdict.suspended_until <= NOON


@given(situations())
def test_a_provider_is_tried_twice_in_a_round_only_as_a_repeat(situation):
    task, *_ = situation

    choice = select_provider(*situation)

    assert not isinstance(choice, Selected) or choice.same_key or choice.provider.id not in task.attempted_providers


@given(situations())
def test_an_old_reference_is_used_only_where_it_is_known(situation):
    task, *_ = situation

    choice = select_provider(*situation)

    led_back = (
        isinstance(choice, Selected) and task.retry_handle and choice.provider.id == task.retry_handle.provider_id
    )
    assert not isinstance(choice, Selected) or choice.same_key == bool(led_back)


@given(situations())
def test_a_wait_ends_in_the_future(situation):
    choice = select_provider(*situation)

    assert not isinstance(choice, Deferred) or choice.until > NOON


@given(situations())
def test_a_provider_in_order_that_was_not_tried_is_never_passed_by_in_vain(situation):
    task, candidates, verdicts, *_ = situation
    usable = [
        provider
        for provider in candidates
        if provider.id not in task.attempted_providers
        and (provider.id not in verdicts or verdicts[provider.id].status in ("healthy", "degraded"))
        and (provider.id not in verdicts or (verdicts[provider.id].suspended_until or NOON) <= NOON)
    ]

    choice = select_provider(*situation)

    assert isinstance(choice, Selected) or not usable


@given(situations())
def test_everybody_but_the_chosen_one_is_accounted_for(situation):
    _, candidates, *_ = situation

    choice = select_provider(*situation)

    others = {one.id for one in candidates} - ({choice.provider.id} if isinstance(choice, Selected) else set())
    assert set(choice.excluded) == others or (isinstance(choice, Selected) and choice.same_key)
