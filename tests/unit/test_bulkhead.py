"""The bulkhead of one provider: slots, wait queue, throttling, and the finding that a provider is unresponsive."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sluice.delivery.bulkhead import Bulkhead

LIMIT = 2.0  # seconds; the queue timeout


def a_bulkhead(concurrency=2, *, standard=(), urgent=(), at=0.0):
    """A bulkhead in whose queue these jobs wait."""
    bulkhead = Bulkhead(concurrency)
    for job in standard:
        bulkhead.enqueue(job, at, urgent=False)
    for job in urgent:
        bulkhead.enqueue(job, at, urgent=True)
    return bulkhead


def acquired(bulkhead, now=0.0):
    """All jobs that acquire a slot now."""
    return list(iter(lambda: bulkhead.acquire(now), None))


def a_saturated_bulkhead(concurrency=2, *, latency=None, at=0.0):
    """A bulkhead with a call on every slot since ``at``, after answers of this average latency."""
    bulkhead = a_bulkhead(concurrency, standard=range(concurrency), at=at)
    if latency is not None:
        bulkhead.record_latency(latency)
    for job in acquired(bulkhead, at):
        bulkhead.start_call(job, at)
    return bulkhead


def unresponsive(bulkhead, now):
    bulkhead.check(now, LIMIT)
    return bulkhead.unresponsive


# -- slots and order -------------------------------------------------------------------------------------------------


def test_no_more_jobs_acquire_a_slot_than_there_are_slots():
    bulkhead = a_bulkhead(2, standard="abc")

    assert (acquired(bulkhead), bulkhead.saturated) == (["a", "b"], True)


def test_a_released_slot_goes_to_the_next_job():
    bulkhead = a_bulkhead(1, standard="ab")
    acquired(bulkhead)

    bulkhead.release("a", 1.0)

    assert acquired(bulkhead) == ["b"]


def test_urgent_jobs_acquire_slots_first_and_keep_their_order():
    assert acquired(a_bulkhead(4, standard="ab", urgent="xy")) == ["x", "y", "a", "b"]


def test_without_jobs_no_slot_is_taken():
    bulkhead = a_bulkhead(1)

    assert (bulkhead.acquire(0.0), bulkhead.saturated, bulkhead.idle) == (None, False, True)


def test_a_bulkhead_in_which_a_job_waits_is_not_idle():
    assert not a_bulkhead(1, standard="a").idle


def test_more_slots_are_available_at_once():
    bulkhead = a_bulkhead(1, standard="abc")
    acquired(bulkhead)

    bulkhead.resize(3, version=2)

    assert (acquired(bulkhead), bulkhead.concurrency, bulkhead.version) == (["b", "c"], 3, 2)


def test_with_fewer_slots_the_calls_beyond_them_end_first():
    bulkhead = a_bulkhead(2, standard="abc")
    acquired(bulkhead)

    bulkhead.resize(1, version=2)
    bulkhead.release("a", 1.0)
    assert (acquired(bulkhead), bulkhead.saturated) == ([], True)

    bulkhead.release("b", 2.0)
    assert acquired(bulkhead) == ["c"]


# -- throttling ------------------------------------------------------------------------------------------------------


def test_a_throttled_bulkhead_starts_nothing_before_its_time():
    bulkhead = a_bulkhead(2, standard="ab")
    bulkhead.throttle(10.0)

    assert (acquired(bulkhead, 9.9), acquired(bulkhead, 10.0)) == ([], ["a", "b"])


def test_an_earlier_end_does_not_shorten_a_throttle():
    bulkhead = a_bulkhead()
    bulkhead.throttle(10.0)
    bulkhead.throttle(5.0)

    assert (bulkhead.throttled_for(4.0), bulkhead.throttled_for(12.0)) == (6.0, -2.0)


# -- queue timeout ---------------------------------------------------------------------------------------------------


def test_jobs_that_wait_longer_than_the_timeout_are_returned_once():
    bulkhead = a_bulkhead(1, standard="a", urgent="x")
    bulkhead.enqueue("late", 1.5, urgent=False)

    assert bulkhead.expired(LIMIT, LIMIT) == []
    assert bulkhead.expired(LIMIT + 0.1, LIMIT) == ["x", "a"]
    assert bulkhead.expired(LIMIT + 0.1, LIMIT) == []
    assert acquired(bulkhead) == ["late"]


def test_a_job_that_is_enqueued_again_begins_a_new_wait():
    bulkhead = a_bulkhead(1, standard="a")
    [job] = bulkhead.expired(3.0, LIMIT)

    bulkhead.enqueue(job, 3.0, urgent=False)

    assert (bulkhead.expired(4.9, LIMIT), bulkhead.expired(5.1, LIMIT)) == ([], ["a"])


def test_behind_an_unresponsive_provider_jobs_wait_for_a_shorter_time():
    bulkhead = a_saturated_bulkhead(10, latency=0.1)
    bulkhead.enqueue("waiting", 0.0, urgent=False)
    assert bulkhead.expired(0.6, LIMIT) == []

    bulkhead.check(0.6, LIMIT)

    assert bulkhead.expired(0.6, LIMIT) == ["waiting"]


# -- unresponsive providers ------------------------------------------------------------------------------------------


def test_a_provider_is_unresponsive_when_all_slots_have_been_taken_for_the_timeout():
    bulkhead = a_saturated_bulkhead()

    assert (unresponsive(bulkhead, LIMIT), unresponsive(bulkhead, LIMIT + 0.1)) == (False, True)


@pytest.mark.parametrize(("latency", "after"), [(0.1, 0.5), (0.01, 0.25), (5.0, LIMIT), (None, LIMIT)])
def test_with_many_calls_a_multiple_of_the_latency_is_enough(latency, after):
    bulkhead = a_saturated_bulkhead(10, latency=latency)

    assert (unresponsive(bulkhead, after - 0.01), unresponsive(bulkhead, after + 0.01)) == (False, True)


def test_two_calls_are_too_few_to_compare_with_the_latency():
    assert not unresponsive(a_saturated_bulkhead(2, latency=0.01), LIMIT)


def test_a_few_overdue_calls_are_enough_although_slots_are_free():
    bulkhead = a_bulkhead(50, standard="abc")
    bulkhead.record_latency(0.2)
    for job in acquired(bulkhead):
        bulkhead.start_call(job, 1.0)

    assert (unresponsive(bulkhead, 1.9), unresponsive(bulkhead, 2.1)) == (False, True)
    assert bulkhead.report(2.1, LIMIT) == pytest.approx(1.1)


def test_a_call_that_ended_after_the_overdue_ones_began_excuses_them():
    bulkhead = a_bulkhead(50, standard="abcd")
    bulkhead.record_latency(0.2)
    for job in acquired(bulkhead):
        bulkhead.start_call(job, 1.0)

    bulkhead.release("d", 1.1)

    assert not unresponsive(bulkhead, 9.0)


def test_the_average_follows_the_newest_latencies():
    bulkhead = a_saturated_bulkhead(10, latency=0.1)
    for _ in range(50):
        bulkhead.record_latency(0.3)

    assert not unresponsive(bulkhead, 1.4)
    assert unresponsive(bulkhead, 1.6)


def test_a_provider_with_a_free_slot_is_not_unresponsive():
    bulkhead = a_bulkhead(2, standard="a")
    bulkhead.start_call(bulkhead.acquire(0.0), 0.0)

    assert not unresponsive(bulkhead, 60.0)


def test_a_slot_without_a_call_is_no_evidence():
    bulkhead = a_bulkhead(2, standard="ab")
    bulkhead.start_call(acquired(bulkhead)[0], 0.0)

    assert not unresponsive(bulkhead, 60.0)


def test_the_start_of_the_newest_call_counts():
    bulkhead = a_bulkhead(1, standard="a")
    bulkhead.start_call(bulkhead.acquire(0.0), 5.0)

    assert (unresponsive(bulkhead, 6.9), unresponsive(bulkhead, 7.1)) == (False, True)


def test_an_answer_ends_the_finding():
    bulkhead = a_saturated_bulkhead()
    assert unresponsive(bulkhead, 3.0)

    bulkhead.release(0, 3.0)

    assert not bulkhead.unresponsive


def test_more_slots_end_the_finding():
    bulkhead = a_saturated_bulkhead()
    assert unresponsive(bulkhead, 3.0)

    bulkhead.resize(3, version=2)

    assert not bulkhead.unresponsive


def test_after_a_resize_to_fewer_slots_a_provider_can_become_unresponsive():
    bulkhead = a_saturated_bulkhead(2)
    bulkhead.resize(1, version=2)
    bulkhead.release(0, 1.0)

    assert (unresponsive(bulkhead, 2.9), unresponsive(bulkhead, 3.1)) == (False, True)


def test_an_unresponsive_provider_is_reported_in_intervals():
    bulkhead = a_saturated_bulkhead(at=1.0)
    assert bulkhead.report(3.5, LIMIT) is None
    assert unresponsive(bulkhead, 3.5)

    assert [bulkhead.report(now, LIMIT) for now in (3.5, 4.0, 5.5, 5.6)] == [2.5, None, None, pytest.approx(4.6)]


def test_a_provider_that_answers_again_is_not_reported():
    bulkhead = a_saturated_bulkhead()
    assert unresponsive(bulkhead, 3.0)
    bulkhead.release(0, 3.0)

    assert bulkhead.report(3.0, LIMIT) is None


# -- any history -----------------------------------------------------------------------------------------------------


class AnyHistory(RuleBasedStateMachine):
    """Compares a bulkhead with a list of waiting jobs and a set of slots, over any sequence of calls."""

    def __init__(self):
        super().__init__()
        self.bulkhead = Bulkhead(2)
        self.concurrency = 2
        self.now = 0.0
        self.made = 0
        self.waiting = []  # (job, enqueued at, urgent)
        self.slots = []

    @rule(urgent=st.booleans())
    def enqueue(self, urgent):
        self.made += 1
        self.bulkhead.enqueue(self.made, self.now, urgent=urgent)
        self.waiting.append((self.made, self.now, urgent))

    @rule()
    def acquire(self):
        order = sorted(self.waiting, key=lambda entry: not entry[2])
        expected = order[0] if order and len(self.slots) < self.concurrency else None
        job = self.bulkhead.acquire(self.now)
        assert job == (expected[0] if expected else None)
        if expected:
            self.waiting.remove(expected)
            self.slots.append(job)

    @rule(started=st.booleans(), data=st.data())
    def release(self, started, data):
        if self.slots:
            job = data.draw(st.sampled_from(self.slots))
            if started:
                self.bulkhead.start_call(job, self.now)
            self.bulkhead.release(job, self.now)
            self.slots.remove(job)

    @rule(concurrency=st.integers(1, 4))
    def resize(self, concurrency):
        self.bulkhead.resize(concurrency, version=1)
        self.concurrency = concurrency

    @rule(seconds=st.floats(0.1, 3.0))
    def expire(self, seconds):
        self.now += seconds
        expected = {job for job, since, _ in self.waiting if self.now - since > LIMIT}
        assert set(self.bulkhead.expired(self.now, LIMIT)) == expected
        self.waiting = [entry for entry in self.waiting if entry[0] not in expected]

    @invariant()
    def the_slots_agree(self):
        assert self.bulkhead.saturated == (len(self.slots) >= self.concurrency)
        assert self.bulkhead.idle == (not self.bulkhead.saturated and not self.waiting)


TestAnyHistory = AnyHistory.TestCase


# -- steps of calls --------------------------------------------------------------------------------------------------


def test_a_call_whose_steps_end_is_no_evidence_against_the_provider():
    bulkhead = a_saturated_bulkhead(2)
    bulkhead.begin_step(0, 1.5)

    assert not unresponsive(bulkhead, 3.0)
    assert unresponsive(bulkhead, 3.6)


def test_a_provider_that_ends_a_step_is_responsive_again():
    bulkhead = a_saturated_bulkhead(2)
    assert unresponsive(bulkhead, 3.0)

    bulkhead.begin_step(1, 3.1)

    assert not unresponsive(bulkhead, 3.2)


def test_the_first_step_of_a_new_call_does_not_excuse_the_overdue_ones():
    bulkhead = a_bulkhead(50, standard="abc")
    bulkhead.record_latency(0.2)
    for job in acquired(bulkhead):
        bulkhead.start_call(job, 1.0)
    assert unresponsive(bulkhead, 2.1)
    bulkhead.enqueue("new", 2.1, urgent=False)

    bulkhead.start_call(bulkhead.acquire(2.1), 2.1)
    bulkhead.begin_step("new", 2.1)

    assert bulkhead.unresponsive
    assert unresponsive(bulkhead, 2.2)


def test_a_step_of_a_call_that_has_ended_means_nothing():
    bulkhead = a_saturated_bulkhead(2)
    bulkhead.release(0, 0.5)
    bulkhead.begin_step(0, 0.6)
    bulkhead.enqueue("new", 0.6, urgent=False)
    assert acquired(bulkhead, 0.6) == ["new"]

    assert not unresponsive(bulkhead, 10.0)  # the new one has a slot and no call
