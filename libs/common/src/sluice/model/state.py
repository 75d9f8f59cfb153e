"""The states of a delivery and the events that change them.

A state is the fold of its events through one rank table: every event asserts a state or none, and the highest asserted
rank is the state. The fold is independent of order, so that late, repeated and reordered receipts lead to the same
state, and a state never goes backwards. See docs/decisions/0003-state-is-the-highest-rank.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class State(StrEnum):
    """The state of a delivery, in ascending rank."""

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


# A receipt is better evidence than a conclusion of Sluice: it may change UNCONFIRMED, EXPIRED and FAILED. After
# DELIVERED only a bounce and a complaint count. Nothing follows CANCELLED, because no provider was called.
RANK: dict[State, int] = {state: rank for rank, state in enumerate(State)}

SETTLED: frozenset[State] = frozenset(State) - {State.QUEUED, State.SENDING}
"""States in which no attempt is due: ``due_at`` is null."""

NOT_SENT: frozenset[State] = frozenset({State.UNCONFIRMED, State.EXPIRED, State.FAILED, State.CANCELLED})
"""Settled states in which no provider is known to have taken the message."""

RANKED_STATES = [state.value for state in State]
"""All states in ascending rank, as SQL statements take them."""

SETTLED_STATES = [state.value for state in SETTLED]


class EventType(StrEnum):
    """The type of an event in a delivery's history."""

    ACCEPTED = "accepted"  # stored and queued
    SENDING = "sending"  # an attempt was claimed
    ATTEMPT_FAILED = "attempt_failed"  # the attempt failed or is unknown; another may follow
    POSTPONED = "postponed"  # no provider can be called now; the next try is at due_at
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


TAKEN_TYPES: frozenset[EventType] = frozenset(
    {
        *(EventType.SENT, EventType.DELIVERED, EventType.BOUNCED, EventType.SOFT_BOUNCE, EventType.COMPLAINED),
        *(EventType.DEFERRED, EventType.OPENED, EventType.CLICKED, EventType.READ),
    }
)
"""What only a provider causes that has taken the message, by its response or by a receipt."""


def apply_event(state: State, event_type: EventType) -> State:
    """The state after one more event."""
    asserted = STATE_ASSERTED_BY[event_type]
    return state if asserted is None or RANK[asserted] < RANK[state] else asserted


def fold(types: Iterable[EventType]) -> State:
    """The state of a history, for any order of its events."""
    state = State.QUEUED
    for event_type in types:
        state = apply_event(state, event_type)
    return state


# The status of a message whose deliveries differ: the least finished state first, then the worst result. Also for SQL.
# A cancellation is of the whole message: the deliveries beside a cancelled one had ended before, without a provider.
MESSAGE_ORDER = (
    State.QUEUED,
    State.SENDING,
    State.CANCELLED,
    State.FAILED,
    State.UNCONFIRMED,
    State.EXPIRED,
    State.BOUNCED,
    State.SOFT_BOUNCE,
    State.COMPLAINED,
    State.SENT,
    State.DELIVERED,
)


def message_state(states: Iterable[State]) -> State:
    """The status of a message with these delivery states (at least one)."""
    return min(states, key=MESSAGE_ORDER.index)
