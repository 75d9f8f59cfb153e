"""The state of a delivery is the fold of its events, in any order."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.model.state import RANK, SETTLED, STATE_ASSERTED_BY, EventType, State, apply_event, fold, message_state

EVENT_TYPES = st.sampled_from(EventType)
RECEIPTS = [EventType.SENT, EventType.DELIVERED, EventType.BOUNCED, EventType.COMPLAINED, EventType.OPENED]


def test_every_event_type_asserts_a_state_or_none():
    assert set(STATE_ASSERTED_BY) == set(EventType)


def test_a_delivery_starts_queued():
    assert fold([]) is State.QUEUED


def test_the_usual_events_of_a_mail_lead_to_delivered():
    history = [EventType.ACCEPTED, EventType.SENDING, EventType.SENT, EventType.DELIVERED]

    assert [fold(history[:length]) for length in range(1, 5)] == [
        State.QUEUED,
        State.SENDING,
        State.SENT,
        State.DELIVERED,
    ]


@pytest.mark.parametrize("length", range(2, 6))
def test_receipts_in_any_order_lead_to_one_state(length):
    ends = {fold([EventType.SENDING, *order]) for order in permutations(RECEIPTS[:length])}

    assert len(ends) == 1


@given(st.lists(EVENT_TYPES, max_size=8), st.randoms())
def test_any_history_in_any_order_leads_to_one_state(types, random):
    shuffled = random.sample(types, len(types))

    assert fold(shuffled) == fold(types)


@given(st.lists(EVENT_TYPES, max_size=8))
def test_a_repeated_history_leads_to_the_same_state(types):
    assert fold([*types, *types]) == fold(types)


@given(st.sampled_from(State), EVENT_TYPES)
def test_no_event_lowers_the_rank_of_a_state(state, event_type):
    assert RANK[apply_event(state, event_type)] >= RANK[state]


@pytest.mark.parametrize("correction", [EventType.BOUNCED, EventType.COMPLAINED])
def test_a_delivered_mail_can_be_corrected(correction):
    assert apply_event(State.DELIVERED, correction) is STATE_ASSERTED_BY[correction]


@pytest.mark.parametrize(
    "event_type", sorted(set(EventType) - {EventType.BOUNCED, EventType.COMPLAINED, EventType.CANCELLED})
)
def test_no_other_event_changes_a_delivered_mail(event_type):
    assert apply_event(State.DELIVERED, event_type) is State.DELIVERED


@given(EVENT_TYPES)
def test_no_event_changes_a_cancelled_delivery(event_type):
    assert apply_event(State.CANCELLED, event_type) is State.CANCELLED


@pytest.mark.parametrize("concluded", [State.UNCONFIRMED, State.EXPIRED, State.FAILED, State.SOFT_BOUNCE])
def test_a_receipt_replaces_a_conclusion_without_evidence(concluded):
    assert apply_event(concluded, EventType.DELIVERED) is State.DELIVERED


@pytest.mark.parametrize("event_type", [event_type for event_type, state in STATE_ASSERTED_BY.items() if state is None])
def test_an_event_without_a_state_changes_nothing(event_type):
    assert [apply_event(state, event_type) for state in State] == list(State)


def test_only_queued_and_sending_are_not_settled():
    assert set(State) - SETTLED == {State.QUEUED, State.SENDING}


@given(st.lists(st.sampled_from(State), min_size=1))
def test_the_status_of_a_message_is_the_state_of_one_of_its_deliveries(states):
    assert message_state(states) in states


def test_a_message_is_sending_while_one_delivery_is():
    assert message_state([State.DELIVERED, State.SENDING, State.FAILED]) is State.SENDING


def test_the_status_of_a_settled_message_is_its_worst_state():
    assert message_state([State.DELIVERED, State.FAILED, State.SENT]) is State.FAILED


def test_a_cancelled_message_is_cancelled_beside_what_had_ended_before():
    assert message_state([State.FAILED, State.CANCELLED, State.EXPIRED]) is State.CANCELLED
