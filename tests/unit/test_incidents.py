"""When an outage is an incident."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.model.incidents import ChannelState, Ended, Ending, Joined, Member, OpenIncident, ProviderStatus, plan
from tests.examples import NOON, PROJECT, after, an_id

A, B = an_id(), an_id()


def a_status(status="healthy", provider_id=A, **changes):
    return ProviderStatus(provider_id, PROJECT, "email", status, **changes)


def a_channel(*statuses, enabled=2, **changes):
    return ChannelState(PROJECT, "email", statuses, enabled, **changes)


def an_incident(*members, **changes):
    members = members or (Member(A, NOON),)
    return OpenIncident(an_id(), NOON, {one.provider_id: one for one in members}, **changes)


UNHEALTHY = a_status("unhealthy", reason="5 consecutive failures", since=NOON)


def test_a_provider_that_turns_unhealthy_opens_an_incident_from_that_time():
    found = plan(a_channel(UNHEALTHY), after(3))

    assert (found.opened_at, found.has_none, found.resolved_at) == (NOON, None, None)
    assert found.joined == (Joined(A, NOON, "unhealthy", "5 consecutive failures"),)


@pytest.mark.parametrize(
    "status",
    [
        a_status(),
        a_status("degraded"),
        replace(UNHEALTHY, enabled=False),
        replace(UNHEALTHY, removed=True),
        a_status(suspended_until=after(3600)),
    ],
)
def test_nothing_else_opens_one_while_another_provider_is_left(status):
    assert not plan(a_channel(status), after(3))


@pytest.mark.parametrize(("until", "opens"), [(3600, True), (33, False), (2, False)])
def test_a_channel_whose_only_provider_is_suspended_for_long_has_none_left(until, opens):
    found = plan(a_channel(a_status(suspended_until=after(until)), enabled=1), after(3))

    assert bool(found) is opens
    if opens:
        assert (found.opened_at, found.has_none) == (after(3), True)
        assert found.joined == (Joined(A, after(3), "suspended", "the provider asked for a pause"),)


def test_a_channel_without_any_provider_is_no_incident():
    assert not plan(a_channel(enabled=0), NOON)


def test_what_is_written_already_is_not_planned_again():
    assert not plan(a_channel(UNHEALTHY, incident=an_incident()), after(3))


def test_a_second_provider_joins_and_then_none_is_left():
    second = a_status("unhealthy", B, since=after(20))

    found = plan(a_channel(UNHEALTHY, second, incident=an_incident()), after(21))

    assert (found.opened_at, found.has_none, [one.provider_id for one in found.joined]) == (None, True, [B])


@pytest.mark.parametrize("healthy_for", [0, 19.9])
def test_it_lasts_until_the_full_share(healthy_for):
    returning = a_status(since=after(100), full_share_at=after(120))

    assert not plan(a_channel(returning, incident=an_incident()), after(100 + healthy_for))


def test_it_ends_with_the_full_share():
    returning = a_status(since=after(100), full_share_at=after(120))

    found = plan(a_channel(returning, incident=an_incident()), after(500))

    assert found.ended == (Ended(A, after(120), Ending.RECOVERED),)
    assert found.resolved_at == after(120)


@pytest.mark.parametrize(
    ("change", "ending"), [({"enabled": False}, Ending.DISABLED), ({"removed": True}, Ending.REMOVED)]
)
def test_it_ends_when_the_provider_is_not_used_any_more(change, ending):
    found = plan(a_channel(replace(UNHEALTHY, **change), enabled=1, incident=an_incident()), after(50))

    assert (found.ended, found.resolved_at) == ((Ended(A, after(50), ending),), after(50))


def test_a_provider_that_has_no_status_any_more_is_removed():
    found = plan(a_channel(incident=an_incident()), after(50))

    assert found.ended == (Ended(A, after(50), Ending.REMOVED),)


def test_one_of_two_that_recovers_does_not_end_it():
    incident = an_incident(Member(A, NOON), Member(B, NOON))
    state = a_channel(a_status(since=after(10)), a_status("unhealthy", B, since=NOON), enabled=3, incident=incident)

    found = plan(state, after(50))

    assert ([one.provider_id for one in found.ended], found.resolved_at) == ([A], None)


def test_a_provider_that_relapses_joins_again_from_then_on():
    incident = an_incident(Member(A, NOON, ended_at=after(30)), Member(B, NOON))
    state = a_channel(replace(UNHEALTHY, since=after(40)), a_status("unhealthy", B), enabled=3, incident=incident)

    assert [(one.provider_id, one.began_at) for one in plan(state, after(41)).joined] == [(A, after(40))]


def test_a_provider_that_was_disabled_meanwhile_begins_after_the_incident_before():
    found = plan(a_channel(UNHEALTHY, resolved_at=after(60)), after(90))

    assert found.opened_at == after(60)


def test_a_degraded_provider_has_not_recovered():
    assert not plan(a_channel(a_status("degraded", since=after(50)), incident=an_incident()), after(500))


times = st.none() | st.integers(-100, 100).map(after)
statuses = st.builds(
    ProviderStatus,
    *(st.sampled_from([A, B]), st.just(PROJECT), st.just("email")),
    *(st.sampled_from(["healthy", "degraded", "unhealthy"]), st.text(max_size=3)),
    since=times,
    full_share_at=times,
    suspended_until=times,
    enabled=st.booleans(),
    removed=st.booleans(),
)


def applied(state, found):
    """The channel after the changes are written."""
    before = state.incident
    members = dict(before.members) if before else {}
    members |= {one.provider_id: Member(one.provider_id, one.began_at) for one in found.joined}
    members |= {one.provider_id: replace(members[one.provider_id], ended_at=one.at) for one in found.ended}
    has_none = found.has_none if found.has_none is not None else bool(before and before.has_none)
    incident = OpenIncident(A, found.opened_at or (before and before.opened_at), members, has_none)
    if found.resolved_at is not None:
        return replace(state, incident=None, resolved_at=found.resolved_at)
    return replace(state, incident=incident if before or found.opened_at else None)


@given(st.lists(statuses, max_size=2, unique_by=lambda one: one.provider_id), st.integers(0, 3))
def test_a_repeat_plans_nothing_and_no_time_lies_in_the_future(found, extra):
    state = a_channel(*found, enabled=extra + sum(one.enabled and not one.removed for one in found))

    first = plan(state, NOON)

    assert not plan(applied(state, first), NOON)
    times = [
        first.opened_at,
        first.resolved_at,
        *(one.began_at for one in first.joined),
        *(one.at for one in first.ended),
    ]
    assert all(time <= NOON for time in times if time is not None)


@given(st.lists(statuses, min_size=1, max_size=2, unique_by=lambda one: one.provider_id))
def test_an_incident_is_open_exactly_while_a_provider_is_not_back(found):
    opened = applied(a_channel(replace(UNHEALTHY), enabled=3), plan(a_channel(UNHEALTHY, enabled=3), NOON))

    after_it = plan(replace(opened, statuses=tuple(found)), after(10))

    bad = [one for one in found if one.is_unhealthy]
    assert not (bad and after_it.resolved_at)
