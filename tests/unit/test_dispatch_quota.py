"""Quotas of the dispatch queue: a fair share each, so that no project waits behind the backlog of another."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest.dispatch_quota import DispatchQuota
from sluice.model.message import Channel, DeliveryClass
from tests.examples import an_id

LOUD, QUIET = an_id(), an_id()


def reserve(quota, project, count=1, *, channel=Channel.EMAIL, delivery_class=DeliveryClass.STANDARD):
    """The number of reservations that succeed, of ``count`` for one delivery each."""
    return sum(quota.try_reserve(project, channel, delivery_class, 1) for _ in range(count))


def test_a_project_alone_has_the_whole_queue():
    assert reserve(DispatchQuota(100), LOUD, 150) == 100


def test_a_second_project_has_its_share_of_a_full_queue():
    quota = DispatchQuota(100)
    reserve(quota, LOUD, 150)

    assert reserve(quota, QUIET, 80) == 50


def test_a_project_within_its_quota_is_not_delayed_by_one_above_it():
    quota = DispatchQuota(100)
    reserve(quota, QUIET, 10)

    assert reserve(quota, LOUD, 150) == 50
    assert reserve(quota, QUIET, 10) == 10


def test_each_channel_has_a_queue_of_its_own():
    quota = DispatchQuota(100)
    reserve(quota, LOUD, 150)

    assert reserve(quota, LOUD, 150, channel=Channel.SMS) == 100


def test_urgent_deliveries_of_a_project_do_not_wait_behind_its_backlog():
    quota = DispatchQuota(100)
    reserve(quota, LOUD, 150)

    assert reserve(quota, LOUD, 150, delivery_class=DeliveryClass.URGENT) == 100


def test_a_project_with_an_exhausted_quota_is_backlogged_for_one_refresh_interval():
    now = [100.0]
    quota = DispatchQuota(10, clock=lambda: now[0])
    reserve(quota, LOUD, 10)
    before = quota.is_backlogged(LOUD)

    reserve(quota, LOUD)

    assert (before, quota.is_backlogged(LOUD), quota.is_backlogged(QUIET)) == (False, True, False)
    now[0] += 0.3
    assert not quota.is_backlogged(LOUD)


def test_an_exhausted_urgent_quota_does_not_make_the_project_backlogged():
    quota = DispatchQuota(10)
    reserve(quota, LOUD, 20, delivery_class=DeliveryClass.URGENT)

    assert not quota.is_backlogged(LOUD)


def test_a_message_with_more_recipients_than_the_limit_is_admitted_when_the_quota_is_empty():
    quota = DispatchQuota(10)

    assert quota.try_reserve(LOUD, Channel.EMAIL, DeliveryClass.STANDARD, 500)
    assert not quota.try_reserve(LOUD, Channel.EMAIL, DeliveryClass.STANDARD, 1)
    assert quota.try_reserve(QUIET, Channel.EMAIL, DeliveryClass.STANDARD, 500)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30)), max_size=200))
def test_no_project_with_enqueued_deliveries_exceeds_its_share(reservations):
    quota, projects = DispatchQuota(100), [an_id() for _ in range(10)]
    held = dict.fromkeys(projects, 0)

    for number, count in reservations:
        project = projects[number]
        if quota.try_reserve(project, Channel.EMAIL, DeliveryClass.STANDARD, count):
            active = sum(map(bool, held.values())) + (not held[project])
            assert not held[project] or held[project] + count <= 100 // active
            held[project] += count
