"""Who may go straight on to the conveyor: a share each, and nobody waits behind somebody else's pile."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest.dispatch_quota import DispatchQuota
from sluice.model.message import Channel, DeliveryClass
from tests.examples import an_id

LOUD, QUIET = an_id(), an_id()


def put(room, project, count=1, *, channel=Channel.EMAIL, delivery_class=DeliveryClass.STANDARD):
    """How many of ``count`` single deliveries go."""
    return sum(room.try_reserve(project, channel, delivery_class, 1) for _ in range(count))


def test_a_project_alone_has_the_whole_conveyor():
    assert put(DispatchQuota(100), LOUD, 150) == 100


def test_a_second_project_finds_its_share_however_full_the_conveyor_is():
    room = DispatchQuota(100)
    put(room, LOUD, 150)

    assert put(room, QUIET, 80) == 50


def test_a_project_within_its_share_is_not_held_up_by_one_above_it():
    room = DispatchQuota(100)
    put(room, QUIET, 10)

    assert put(room, LOUD, 150) == 50
    assert put(room, QUIET, 10) == 10


def test_channels_have_conveyors_of_their_own():
    room = DispatchQuota(100)
    put(room, LOUD, 150)

    assert put(room, LOUD, 150, channel=Channel.SMS) == 100


def test_the_urgent_ones_of_a_project_do_not_wait_behind_its_pile():
    room = DispatchQuota(100)
    put(room, LOUD, 150)

    assert put(room, LOUD, 150, delivery_class=DeliveryClass.URGENT) == 100


def test_a_project_that_found_no_room_piles_up_for_a_while():
    now = [100.0]
    room = DispatchQuota(10, clock=lambda: now[0])
    put(room, LOUD, 10)
    before = room.is_backlogged(LOUD)

    put(room, LOUD)

    assert (before, room.is_backlogged(LOUD), room.is_backlogged(QUIET)) == (False, True, False)
    now[0] += 0.3
    assert not room.is_backlogged(LOUD)


def test_urgent_messages_without_room_say_nothing_about_the_others():
    room = DispatchQuota(10)
    put(room, LOUD, 20, delivery_class=DeliveryClass.URGENT)

    assert not room.is_backlogged(LOUD)


def test_a_message_to_more_recipients_than_there_is_room_for_goes_when_it_is_alone():
    room = DispatchQuota(10)

    assert room.try_reserve(LOUD, Channel.EMAIL, DeliveryClass.STANDARD, 500)
    assert not room.try_reserve(LOUD, Channel.EMAIL, DeliveryClass.STANDARD, 1)
    assert room.try_reserve(QUIET, Channel.EMAIL, DeliveryClass.STANDARD, 500)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30)), max_size=200))
def test_nobody_who_is_on_the_conveyor_goes_beyond_his_share(asked):
    room, projects = DispatchQuota(100), [an_id() for _ in range(10)]
    held = dict.fromkeys(projects, 0)

    for number, count in asked:
        project = projects[number]
        if room.try_reserve(project, Channel.EMAIL, DeliveryClass.STANDARD, count):
            on_it = sum(map(bool, held.values())) + (not held[project])
            assert not held[project] or held[project] + count <= 100 // on_it
            held[project] += count
