"""The states of a delivery and the events that move it.

A state is the fold of its events through one rank table: every event asserts a state (or none), and the highest
rank asserted so far wins. That makes the fold independent of order, so late, repeated and reordered receipts end in
the same state, and it can never go backwards. See docs/decisions/0003-state-is-the-highest-rank.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class State(StrEnum):
    """Where a delivery stands."""

    QUEUED = "QUEUED"
    SENDING = "SENDING"
    SENT = "SENT"
    UNCONFIRMED = "UNCONFIRMED"
    EXPIRED = "EXPIRED"
    SOFT_BOUNCE = "SOFT_BOUNCE"
    FAILED = "FAILED"
    DELIVERED = "DELIVERED"
    BOUNCED = "BOUNCED"
    COMPLAINED = "COMPLAINED"
    CANCELLED = "CANCELLED"


# A receipt is better evidence than our own conclusion, so it may lift UNCONFIRMED, EXPIRED and FAILED;
# after DELIVERED only a bounce and a complaint count. Nothing happens after a cancel: nothing was handed over.
RANK: dict[State, int] = {state: rank for rank, state in enumerate(State)}

SETTLED: frozenset[State] = frozenset(State) - {State.QUEUED, State.SENDING}
"""States of a delivery whose routing has ended: ``due_at`` is null."""

RANKED_STATES = [state.value for state in State]
"""All states in ascending rank, as SQL statements take them."""

SETTLED_STATES = [state.value for state in SETTLED]


class EventType(StrEnum):
    """What an event in a delivery's history says."""

    ACCEPTED = "accepted"  # recorded and queued
    SENDING = "sending"  # an attempt was claimed
    ATTEMPT_FAILED = "attempt_failed"  # the attempt ended without acceptance, or unknown; another will follow
    POSTPONED = "postponed"  # no provider now; tried again at the time named in the detail
    SENT = "sent"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNCONFIRMED = "unconfirmed"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    SOFT_BOUNCE = "soft_bounce"
    COMPLAINED = "complained"
    DEFERRED = "deferred"
    OPENED = "opened"
    CLICKED = "clicked"
    READ = "read"


STATE_ASSERTED_BY: dict[EventType, State | None] = {
    EventType.ACCEPTED: State.QUEUED,
    EventType.SENDING: State.SENDING,
    EventType.ATTEMPT_FAILED: None,
    EventType.POSTPONED: None,
    EventType.SENT: State.SENT,
    EventType.FAILED: State.FAILED,
    EventType.EXPIRED: State.EXPIRED,
    EventType.CANCELLED: State.CANCELLED,
    EventType.UNCONFIRMED: State.UNCONFIRMED,
    EventType.DELIVERED: State.DELIVERED,
    EventType.BOUNCED: State.BOUNCED,
    EventType.SOFT_BOUNCE: State.SOFT_BOUNCE,
    EventType.COMPLAINED: State.COMPLAINED,
    EventType.DEFERRED: None,
    EventType.OPENED: None,
    EventType.CLICKED: None,
    EventType.READ: None,
}


def apply_event(state: State, event_type: EventType) -> State:
    """The state after one more event."""
    asserted = STATE_ASSERTED_BY[event_type]
    return state if asserted is None or RANK[asserted] < RANK[state] else asserted


def fold(types: Iterable[EventType]) -> State:
    """The state of a history; the same for every order of it."""
    state = State.QUEUED
    for event_type in types:
        state = apply_event(state, event_type)
    return state


# What a message shows when its deliveries differ: the least finished one, then the worst ending.
_MESSAGE_ORDER = (
    State.QUEUED,
    State.SENDING,
    State.FAILED,
    State.UNCONFIRMED,
    State.EXPIRED,
    State.BOUNCED,
    State.SOFT_BOUNCE,
    State.COMPLAINED,
    State.CANCELLED,
    State.SENT,
    State.DELIVERED,
)


def message_state(states: Iterable[State]) -> State:
    """The status of a message: a pure function of its deliveries' states (at least one)."""
    return min(states, key=_MESSAGE_ORDER.index)
