"""Which provider carries a delivery next."""

from hypothesis import given
from hypothesis import strategies as st

from sluice.model.message import Class
from sluice.routing.selection import MOST_REPEATS, Exhausted, Route, Wait, choose
from tests.examples import NOON, a_drive, a_provider, a_repeat, after, health_of

FIRST, SECOND, THIRD = a_provider(1), a_provider(2), a_provider(3)
ALL = [FIRST, SECOND, THIRD]


def nobody(verdict, now):
    return False


def anybody(verdict, now):
    return True


def chosen(drive=None, candidates=ALL, *verdicts, may_probe=nobody):
    return choose(drive or a_drive(), candidates, {one.provider_id: one for one in verdicts}, NOON, may_probe)


def test_without_any_verdict_the_priority_decides():
    assert chosen().provider is FIRST


def test_a_degraded_provider_comes_after_every_healthy_one():
    assert chosen(None, ALL, health_of(FIRST, "degraded"), health_of(SECOND, "healthy")).provider is SECOND


def test_a_degraded_provider_comes_before_an_unhealthy_one():
    assert (
        chosen(None, [FIRST, SECOND], health_of(FIRST, "unhealthy"), health_of(SECOND, "degraded")).provider is SECOND
    )


def test_a_preferred_provider_comes_first():
    assert chosen(a_drive(preferred=THIRD.id)).provider is THIRD


def test_a_preferred_provider_comes_first_though_it_is_degraded():
    choice = chosen(a_drive(preferred=THIRD.id), ALL, health_of(THIRD, "degraded"))

    assert (choice.provider, choice.why) == (THIRD, "preferred")


def test_a_preferred_provider_that_is_out_is_passed_over():
    choice = chosen(a_drive(preferred=THIRD.id), ALL, health_of(THIRD, "unhealthy"))

    assert choice.provider is FIRST


def test_a_provider_is_tried_once_in_a_round():
    assert chosen(a_drive(tried=(FIRST.id, SECOND.id))).provider is THIRD


def test_when_all_were_tried_the_round_is_over():
    choice = chosen(a_drive(tried=tuple(provider.id for provider in ALL)))

    assert choice == Exhausted({provider.id: "tried in this round" for provider in ALL})


def test_without_providers_there_is_nothing_to_choose():
    assert chosen(None, []) == Exhausted({})


def test_a_held_provider_is_not_called():
    assert chosen(None, ALL, health_of(FIRST, "healthy", hold_until=after(30))).provider is SECOND


def test_a_hold_ends():
    assert chosen(None, ALL, health_of(FIRST, "healthy", hold_until=NOON)).provider is FIRST


def test_when_only_held_ones_are_left_the_earliest_end_is_waited_for():
    held = [health_of(one, "healthy", hold_until=after(30 - one.priority)) for one in ALL]

    choice = chosen(None, ALL, *held)

    assert isinstance(choice, Wait)
    assert choice.until == after(27)


def test_a_held_one_is_waited_for_though_the_others_were_tried():
    choice = chosen(a_drive(tried=(FIRST.id,)), [FIRST, SECOND], health_of(SECOND, "healthy", hold_until=after(9)))

    assert isinstance(choice, Wait)


def test_a_preferred_provider_is_not_called_before_its_hold_ends():
    drive = a_drive(preferred=FIRST.id)

    assert chosen(drive, ALL, health_of(FIRST, "healthy", hold_until=after(30))).provider is SECOND


def test_a_provider_that_is_out_is_tried_before_all_others_when_it_may_be_probed():
    choice = chosen(None, ALL, health_of(THIRD, "unhealthy"), may_probe=anybody)

    assert (choice.provider, choice.why, choice.probes) == (THIRD, "probe", True)


def test_a_provider_that_is_not_out_is_not_probed():
    choice = chosen(None, ALL, health_of(FIRST, "degraded"), may_probe=anybody)

    assert (choice.provider, choice.probes) == (SECOND, False)


def test_the_least_bad_one_is_no_probe():
    assert not chosen(None, [FIRST], health_of(FIRST, "unhealthy")).probes


def test_when_all_look_bad_the_least_bad_one_is_used():
    bad = [health_of(one, "unhealthy", error_rate=1 / one.priority) for one in ALL]

    assert chosen(None, ALL, *bad).provider is THIRD


def test_when_all_are_bad_or_held_the_bad_ones_are_used():
    bad, held = health_of(FIRST, "unhealthy"), health_of(SECOND, "healthy", hold_until=after(3600))

    assert chosen(None, [FIRST, SECOND], bad, held).provider is FIRST


def test_the_choice_says_of_each_other_candidate_why_not():
    drive = a_drive(tried=(FIRST.id,))
    fourth = a_provider(4)

    choice = chosen(drive, [*ALL, fourth], health_of(SECOND, "unhealthy", reason="5 failures in a row"))

    assert choice == Route(
        THIRD,
        "priority 3",
        {
            FIRST.id: "tried in this round",
            SECOND.id: "unhealthy: 5 failures in a row",
            fourth.id: "after the chosen one",
        },
    )


def test_an_ambiguous_attempt_is_repeated_under_its_reference():
    choice = chosen(a_drive(repeat=a_repeat(SECOND), ambiguous=1, tried=(SECOND.id,)))

    assert (choice.provider, choice.repeats) == (SECOND, True)


def test_an_ambiguous_attempt_is_not_repeated_for_ever():
    drive = a_drive(repeat=a_repeat(SECOND), ambiguous=MOST_REPEATS + 1, tried=(SECOND.id,))

    assert chosen(drive).provider is FIRST


def test_an_ambiguous_attempt_is_not_repeated_during_a_hold():
    drive = a_drive(repeat=a_repeat(SECOND), ambiguous=1, tried=(SECOND.id,))

    choice = chosen(drive, ALL, health_of(SECOND, "healthy", hold_until=after(30)))

    assert (choice.provider, choice.repeats) == (FIRST, False)


def test_class_urgent_goes_elsewhere_instead_of_repeating():
    drive = a_drive(class_=Class.URGENT, repeat=a_repeat(FIRST), ambiguous=1, tried=(FIRST.id,))

    choice = chosen(drive)

    assert (choice.provider, choice.repeats) == (SECOND, False)


def test_class_urgent_that_is_led_back_uses_the_old_reference():
    drive = a_drive(class_=Class.URGENT, repeat=a_repeat(FIRST), ambiguous=1)

    choice = chosen(drive)

    assert (choice.provider, choice.repeats) == (FIRST, True)


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
            hold_until=draw(times),
            probe_at=draw(times),
            error_rate=draw(st.floats(0, 1)),
        )
        for provider in draw(st.lists(known, unique_by=lambda provider: provider.id))
    }
    drive = a_drive(
        class_=draw(st.sampled_from(Class)),
        tried=tuple(provider.id for provider in draw(st.lists(known))),
        preferred=draw(st.none() | known.map(lambda provider: provider.id)),
        repeat=draw(st.none() | known.map(a_repeat)),
        ambiguous=draw(st.integers(0, MOST_REPEATS + 1)),
    )
    return drive, candidates, verdicts, NOON, draw(st.sampled_from([nobody, anybody]))


@given(situations())
def test_only_a_candidate_that_is_not_held_is_ever_chosen(situation):
    _, candidates, verdicts, *_ = situation

    choice = choose(*situation)

    if isinstance(choice, Route):
        verdict = verdicts.get(choice.provider.id)
        assert choice.provider in candidates
        assert verdict is None or verdict.hold_until is None or verdict.hold_until <= NOON


@given(situations())
def test_a_provider_is_tried_twice_in_a_round_only_as_a_repeat(situation):
    drive, *_ = situation

    choice = choose(*situation)

    assert not isinstance(choice, Route) or choice.repeats or choice.provider.id not in drive.tried


@given(situations())
def test_an_old_reference_is_used_only_where_it_is_known(situation):
    drive, *_ = situation

    choice = choose(*situation)

    led_back = isinstance(choice, Route) and drive.repeat and choice.provider.id == drive.repeat.provider_id
    assert not isinstance(choice, Route) or choice.repeats == bool(led_back)


@given(situations())
def test_a_wait_ends_in_the_future(situation):
    choice = choose(*situation)

    assert not isinstance(choice, Wait) or choice.until > NOON


@given(situations())
def test_a_provider_in_order_that_was_not_tried_is_never_passed_by_in_vain(situation):
    drive, candidates, verdicts, *_ = situation
    usable = [
        provider
        for provider in candidates
        if provider.id not in drive.tried
        and (provider.id not in verdicts or verdicts[provider.id].verdict in ("healthy", "degraded"))
        and (provider.id not in verdicts or (verdicts[provider.id].hold_until or NOON) <= NOON)
    ]

    choice = choose(*situation)

    assert isinstance(choice, Route) or not usable


@given(situations())
def test_everybody_but_the_chosen_one_is_accounted_for(situation):
    _, candidates, *_ = situation

    choice = choose(*situation)

    others = {one.id for one in candidates} - ({choice.provider.id} if isinstance(choice, Route) else set())
    assert set(choice.left_out) == others or (isinstance(choice, Route) and choice.repeats)
