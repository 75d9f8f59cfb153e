"""The state of a delivery is the fold of its events, in whatever order they come."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.model.state import RANK, SETTLED, STATE_ASSERTED_BY, EventType, State, apply_event, fold, message_state

KINDS = st.sampled_from(EventType)
RECEIPTS = [EventType.SENT, EventType.DELIVERED, EventType.BOUNCED, EventType.COMPLAINED, EventType.OPENED]


def test_every_kind_of_event_says_which_state_it_asserts():
    assert set(STATE_ASSERTED_BY) == set(EventType)


def test_a_delivery_begins_queued():
    assert fold([]) is State.QUEUED


def test_a_mail_on_its_usual_road_ends_delivered():
    road = [EventType.ACCEPTED, EventType.SENDING, EventType.SENT, EventType.DELIVERED]

    assert [fold(road[:length]) for length in range(1, 5)] == [
        State.QUEUED,
        State.SENDING,
        State.SENT,
        State.DELIVERED,
    ]


@pytest.mark.parametrize("length", range(2, 6))
def test_receipts_in_any_order_end_in_one_state(length):
    ends = {fold([EventType.SENDING, *order]) for order in permutations(RECEIPTS[:length])}

    assert len(ends) == 1


@given(st.lists(KINDS, max_size=8), st.randoms())
def test_any_history_in_any_order_ends_in_one_state(kinds, random):
    shuffled = random.sample(kinds, len(kinds))

    assert fold(shuffled) == fold(kinds)


@given(st.lists(KINDS, max_size=8))
def test_a_repeated_history_ends_in_the_same_state(kinds):
    assert fold([*kinds, *kinds]) == fold(kinds)


@given(st.sampled_from(State), KINDS)
def test_no_event_moves_a_state_backwards(state, kind):
    assert RANK[apply_event(state, kind)] >= RANK[state]


@pytest.mark.parametrize("correction", [EventType.BOUNCED, EventType.COMPLAINED])
def test_a_delivered_mail_may_still_be_corrected(correction):
    assert apply_event(State.DELIVERED, correction) is STATE_ASSERTED_BY[correction]


@pytest.mark.parametrize(
    "kind", sorted(set(EventType) - {EventType.BOUNCED, EventType.COMPLAINED, EventType.CANCELLED})
)
def test_nothing_else_moves_a_delivered_mail(kind):
    assert apply_event(State.DELIVERED, kind) is State.DELIVERED


@given(KINDS)
def test_nothing_happens_after_a_cancel(kind):
    assert apply_event(State.CANCELLED, kind) is State.CANCELLED


@pytest.mark.parametrize("concluded", [State.UNCONFIRMED, State.EXPIRED, State.FAILED, State.SOFT_BOUNCE])
def test_a_receipt_is_better_evidence_than_our_own_conclusion(concluded):
    assert apply_event(concluded, EventType.DELIVERED) is State.DELIVERED


@pytest.mark.parametrize("kind", [kind for kind, state in STATE_ASSERTED_BY.items() if state is None])
def test_a_note_moves_nothing(kind):
    assert [apply_event(state, kind) for state in State] == list(State)


def test_only_a_delivery_on_its_way_waits_for_somebody():
    assert set(State) - SETTLED == {State.QUEUED, State.SENDING}


@given(st.lists(st.sampled_from(State), min_size=1))
def test_every_mixture_of_deliveries_gives_the_message_one_of_their_states(states):
    assert message_state(states) in states


def test_a_message_is_on_its_way_while_one_delivery_is():
    assert message_state([State.DELIVERED, State.SENDING, State.FAILED]) is State.SENDING


def test_a_message_shows_its_worst_ending():
    assert message_state([State.DELIVERED, State.FAILED, State.SENT]) is State.FAILED
