"""Call rates: no second contains the start of more calls than allowed, however late the workers call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.delivery.bulkhead import Bulkhead
from sluice.delivery.call_window import CallWindow


def most_in_a_second(times):
    """The most of these in any half-open second."""
    return max((sum(start <= time < start + 1 for time in times) for start in times), default=0)


# In 1/64 s, which floats represent exactly: the pause before a request, what it wants, the validity, when it calls.
_REQUESTS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 8), st.integers(0, 90), st.floats(0, 1)), min_size=1, max_size=80
)


@given(limit=st.integers(1, 7), requests=_REQUESTS)
def test_no_second_contains_more_calls_than_the_limit(limit, requests):
    window, now, calls = CallWindow(), 0.0, []
    for pause, wanted, validity, late in requests:
        now += pause / 64
        granted = window.take(limit, wanted, now, validity / 64)
        assert 0 <= granted <= wanted
        calls += [now + int(late * validity) / 64] * granted

    assert most_in_a_second(calls) <= limit


@given(limit=st.integers(1, 50), pace=st.integers(1, 10), validity=st.integers(0, 20))
def test_a_worker_that_keeps_asking_gets_nearly_the_whole_rate(limit, pace, validity):
    window = CallWindow()
    granted = sum(window.take(limit, limit, step * pace / 64, validity / 64) for step in range(6400 // pace))

    assert granted >= 100 / (1 + (validity + pace) / 64) * limit - limit


def test_fewer_than_the_least_are_not_granted():
    window = CallWindow()

    assert window.take(5, 3, 0.0, 0.1) == 3
    assert window.take(5, 4, 0.0, 0.1, least=3) == 0
    assert window.take(5, 4, 0.0, 0.1, least=2) == 2


def test_what_was_granted_elsewhere_counts():
    window = CallWindow()
    window.note(3, 0.0, 0.5)

    assert window.take(5, 9, 1.0, 0.1) == 2
    assert window.take(5, 9, 1.5, 0.1) == 3


def test_noted_permits_do_not_accumulate():
    window = CallWindow()
    for second in range(10_000):
        window.note(1, float(second), 0.1)

    assert len(window._granted) <= 2


# -- bulkheads with a call rate --------------------------------------------------------------------------------------


@pytest.fixture
def bulkhead():
    bulkhead = Bulkhead(3, call_rate=20)
    for job in "abcde":
        bulkhead.enqueue(job, 0.0, urgent=False)
    return bulkhead


def acquired(bulkhead, now):
    return list(iter(lambda: bulkhead.acquire(now), None))


def test_a_job_gets_no_slot_without_a_permit(bulkhead):
    assert (acquired(bulkhead, 0.0), bulkhead.wanted(0.0)) == ([], 3)  # one for each slot

    bulkhead.grant(2, 1.0)

    assert (acquired(bulkhead, 0.5), bulkhead.wanted(0.5)) == (["a", "b"], 1)


def test_a_permit_that_has_ended_starts_nothing(bulkhead):
    bulkhead.grant(2, 1.0)

    assert (acquired(bulkhead, 1.1), bulkhead.wanted(1.1)) == ([], 3)


def test_a_call_whose_permit_has_ended_gets_the_next_one_before_others(bulkhead):
    bulkhead.grant(1, 1.0)
    assert acquired(bulkhead, 0.5) == ["a"]

    assert bulkhead.may_call("a", 1.0)
    assert not bulkhead.may_call("a", 1.1)
    assert bulkhead.wanted(1.1) == 3  # two slots, and the call
    bulkhead.grant(1, 2.0)
    assert acquired(bulkhead, 1.5) == []
    assert bulkhead.may_call("a", 1.5)


def test_a_job_that_ends_without_a_call_wants_no_permit_any_more(bulkhead):
    bulkhead.grant(1, 1.0)
    acquired(bulkhead, 0.5)
    assert not bulkhead.may_call("a", 1.1)

    bulkhead.release("a", 1.2)

    assert bulkhead.wanted(1.2) == 3
    bulkhead.grant(1, 2.0)
    assert acquired(bulkhead, 1.5) == ["b"]


def test_a_throttled_provider_wants_no_permits(bulkhead):
    bulkhead.throttle(5.0)

    assert (bulkhead.wanted(4.0), bulkhead.wanted(5.0)) == (0, 3)


def test_a_long_message_needs_a_permit_for_each_segment():
    bulkhead = Bulkhead(3, call_rate=20)
    bulkhead.enqueue("long", 0.0, urgent=False, permits=3)
    bulkhead.enqueue("short", 0.0, urgent=False)

    assert (bulkhead.wanted(0.0), bulkhead.least(0.0)) == (4, 3)
    bulkhead.grant(2, 1.0)
    assert (acquired(bulkhead, 0.5), bulkhead.least(0.5)) == ([], 1)  # the short one does not overtake it
    bulkhead.grant(1, 2.0)
    assert (acquired(bulkhead, 0.5), bulkhead.wanted(0.5)) == (["long"], 1)
    assert bulkhead.may_call("long", 1.0)
    assert not bulkhead.may_call("long", 1.1)  # two of the three have ended
    assert (bulkhead.wanted(1.1), bulkhead.least(1.1)) == (4, 3)
    bulkhead.grant(3, 3.0)
    assert acquired(bulkhead, 2.0) == []
    assert bulkhead.may_call("long", 2.0)
    assert bulkhead.least(2.0) == 1


def test_a_message_that_leaves_the_queue_needs_no_permits_any_more():
    bulkhead = Bulkhead(3, call_rate=20)
    bulkhead.enqueue("long", 0.0, urgent=False, permits=3)

    assert bulkhead.expired(9.0, 2.0) == ["long"]
    assert (bulkhead.wanted(9.0), bulkhead.least(9.0), bulkhead._needs) == (0, 0, {})


def test_a_message_of_more_segments_than_the_rate_needs_all_of_a_second():
    bulkhead = Bulkhead(3, call_rate=2)
    bulkhead.enqueue("long", 0.0, urgent=False, permits=9)

    assert bulkhead.least(0.0) == 2
    bulkhead.grant(2, 1.0)
    assert acquired(bulkhead, 0.5) == ["long"]


def test_without_a_call_rate_nothing_needs_a_permit(bulkhead):
    bulkhead.resize(5, version=2)

    assert bulkhead.wanted(0.0) == 0
    assert acquired(bulkhead, 0.0) == list("abcde")
    assert bulkhead.may_call("a", 99.0)


def test_calls_that_have_a_slot_when_the_rate_is_set_need_a_permit():
    bulkhead = Bulkhead(1)
    bulkhead.enqueue("a", 0.0, urgent=False)
    acquired(bulkhead, 0.0)

    bulkhead.resize(1, call_rate=5, version=2)

    assert not bulkhead.may_call("a", 0.0)
    bulkhead.grant(1, 1.0)
    assert bulkhead.may_call("a", 0.5)
