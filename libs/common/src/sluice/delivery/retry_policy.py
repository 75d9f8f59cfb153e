"""The rules for outcomes: pure functions from an outcome to a resolution, for the worker, router and recovery loop."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, NamedTuple, assert_never

from pydantic import BaseModel, Field

from sluice.bus.messages import DeliveryTask, RetryHandle
from sluice.model.characters import as_storable
from sluice.model.message import DeliveryClass
from sluice.model.outcome import (
    MAX_PROVIDER_TEXT,
    Accepted,
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Scope,
    Throttled,
    Unknown,
    outcome_name,
)
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.routing.selection import MAX_SAME_KEY_RETRIES
from sluice.store.deliveries import Transition

MAX_THROTTLE = timedelta(hours=1)  # a longer Retry-After is considered a mistake of the provider
_AWAITED_PAUSE = timedelta(seconds=10)  # longest suspension of a provider that a waiting caller waits for
_LAST_PAUSE = timedelta(seconds=10)  # shortest pause that is cut short for the sake of one more round
_MAX_ERROR = 200  # characters of one provider's error in the reason of a failed delivery


class RetryPolicy(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Timeouts and pauses of attempts: a group of settings that a role combines with others. Durations are seconds."""

    attempt_lease: float = Field(
        12.0, gt=1, description="an attempt whose worker does not renew its lease for this long is settled as unknown"
    )
    requeue_after: float = Field(
        8.0, gt=0, description="time after which an enqueued delivery may be requeued if its record is lost"
    )
    unknown_outcome_wait: float = Field(60.0, ge=0, description="class standard: wait for a receipt before a retry")
    same_key_retry_delay: float = Field(2.0, ge=0, description="pause before a retry under the same idempotency key")
    retry_schedule: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (5.0, 30.0, 120.0, 600.0), description="pauses between retry rounds; after the last round a delivery fails"
    )
    throttled_retry_schedule: tuple[Annotated[float, Field(ge=1)], ...] = Field(
        (900.0, 1800.0, 3600.0),
        description="pauses after the retry schedule while a provider throttles (greylisting); the last one repeats "
        "until the delivery expires",
    )


class Resolution(NamedTuple):
    """The transition to write, and the task to publish (None: the recovery loop enqueues the delivery when due)."""

    transition: Transition
    next_task: DeliveryTask | None = None


def resolve(
    task: DeliveryTask, handle: RetryHandle, outcome: Outcome, *, idempotent: bool, at: datetime, policy: RetryPolicy
) -> Resolution:
    """The resolution of attempt ``task.attempt`` at ``handle.provider_id``, which ended in ``outcome``."""
    match outcome:
        case Accepted(provider_message_id):
            return Resolution(
                _attempt_transition(task, handle, EventType.SENT, outcome, at, provider_message_id=provider_message_id)
            )
        case RecipientRejected():
            return Resolution(_attempt_transition(task, handle, EventType.FAILED, outcome, at))
        case Declined() | Throttled() | AuthFailed() | ProviderFault():
            return _fail_over(task, handle, outcome, at, policy)
        case Unknown():
            return _after_unknown(task, handle, outcome, idempotent=idempotent, at=at, policy=policy)
        case _:
            assert_never(outcome)


def _attempt_transition(
    task: DeliveryTask,
    handle: RetryHandle,
    type_: EventType,
    outcome: Outcome,
    at: datetime,
    *,
    provider_message_id: str | None = None,
    due_at: datetime | None = None,
    enqueued_at: datetime | None = None,
) -> Transition:
    return Transition(
        delivery_id=task.delivery_id,
        project_id=task.project_id,
        attempt=task.attempt,
        in_flight=True,
        type=type_,
        occurred_at=at,
        detail=_truncate(_describe(outcome, outcome.detail)),
        provider_id=handle.provider_id,
        due_at=due_at,
        enqueued_at=enqueued_at,
        outcome=outcome_name(outcome),
        provider_message_id=None if provider_message_id is None else _truncate(provider_message_id),
        receipt_ids=tuple(map(_truncate, outcome.receipt_ids)) if isinstance(outcome, Accepted) else (),
        unknown=isinstance(outcome, Unknown),
        reason=outcome.reason if isinstance(outcome, RecipientRejected | Declined) else None,
        not_before=_next_call(outcome, at),
    )


def _next_call(outcome: Outcome, at: datetime) -> datetime | None:
    """When this delivery may call the provider again, if that named a time for less than the account.

    The account's own pause is the suspension of its provider, which all deliveries see.
    """
    if not isinstance(outcome, Throttled) or outcome.scope is Scope.ACCOUNT:
        return None
    pause = throttle_duration(outcome)
    return None if pause is None else at + pause


def _truncate(text: str) -> str:
    return as_storable(text, MAX_PROVIDER_TEXT)


def _describe(outcome: Outcome, detail: str) -> str:
    if isinstance(outcome, Unknown):
        return f"{detail}; the message may have been sent: a duplicate is possible"
    return detail


def _fail_over(
    task: DeliveryTask,
    handle: RetryHandle,
    outcome: Declined | Throttled | AuthFailed | ProviderFault | Unknown,
    at: datetime,
    policy: RetryPolicy,
    *,
    retry_handle: RetryHandle | None = None,
) -> Resolution:
    """The next attempt at once, at another provider; ``retry_handle`` allows a retry at this one under the same key."""
    transition = _attempt_transition(
        task,
        handle,
        EventType.ATTEMPT_FAILED,
        outcome,
        at,
        due_at=at + timedelta(seconds=policy.requeue_after),
        enqueued_at=at,
    )
    next_task = task.model_copy(
        update={
            "attempt": task.attempt + 1,
            "attempted_providers": (*task.attempted_providers, handle.provider_id),
            "deprioritized": (),
            "hops": 0,
            "enqueued_at": at,
            "errors": {**task.errors, handle.provider_id: outcome.detail[:_MAX_ERROR]},
            "all_declined": task.all_declined and isinstance(outcome, Declined),
            "unknown_attempts": task.unknown_attempts + isinstance(outcome, Unknown),
            "throttled": task.throttled or isinstance(outcome, Throttled),
            "retry_handle": retry_handle,
        }
    )
    return Resolution(transition, next_task)


def _after_unknown(
    task: DeliveryTask, handle: RetryHandle, outcome: Unknown, *, idempotent: bool, at: datetime, policy: RetryPolicy
) -> Resolution:
    match task.delivery_class:
        case DeliveryClass.ONCE:
            return Resolution(_attempt_transition(task, handle, EventType.UNCONFIRMED, outcome, at))
        case DeliveryClass.URGENT:
            return _fail_over(task, handle, outcome, at, policy, retry_handle=handle if idempotent else None)
        case DeliveryClass.STANDARD:
            # A same-key retry cannot cause a duplicate, so it waits for the provider's recovery only.
            pause = (
                policy.same_key_retry_delay
                if idempotent and task.unknown_attempts < MAX_SAME_KEY_RETRIES
                else policy.unknown_outcome_wait
            )
            return Resolution(
                _attempt_transition(
                    task, handle, EventType.ATTEMPT_FAILED, outcome, at, due_at=at + timedelta(seconds=pause)
                )
            )
        case _:
            assert_never(task.delivery_class)


def exhaust_round(task: DeliveryTask, *, reason: str, at: datetime, policy: RetryPolicy) -> Resolution:
    """All providers were attempted in this round: schedule the next round, or settle after the last one.

    When every one of them declined the message, another round would meet the same refusals: the delivery fails at once.
    So it does while a caller waits for it, who gets the failure as the answer and decides what to do.
    The schedule goes on until the expiry while a provider throttles: a greylisting server takes after an hour what it
    refuses now (RFC 6647), and RFC 5321, 4.5.4.1 asks for tries over days. A delivery with an unknown attempt ends
    UNCONFIRMED instead of FAILED, because it may have been sent.
    """
    pause = _pause_after(task.retry_round, throttled=task.throttled, policy=policy)
    declined = task.all_declined and bool(task.attempted_providers)
    if pause is not None and not declined and not task.awaited:
        due_at = at + _within_life(timedelta(seconds=pause), task.expires_at - at)
        return Resolution(_idle_transition(task, EventType.POSTPONED, reason, at, due_at=due_at, next_round=True))
    event_type = EventType.UNCONFIRMED if task.unknown_attempts else EventType.FAILED
    return Resolution(_idle_transition(task, event_type, reason, at))


def next_round_before(
    until: datetime, task: DeliveryTask, *, reason: str, at: datetime, policy: RetryPolicy
) -> Resolution | None:
    """The next retry round, if it can begin before ``until``, when a suspended provider may be called again.

    None when the delivery has to wait for that provider: it is the only one, the others declined the message, or no
    round is left. While a caller waits, the round ends the delivery unless ``until`` is near.
    """
    if task.awaited:
        return exhaust_round(task, reason=reason, at=at, policy=policy) if until > at + _AWAITED_PAUSE else None
    pause = _pause_after(task.retry_round, throttled=task.throttled, policy=policy)
    if not task.attempted_providers or task.all_declined or pause is None or at + timedelta(seconds=pause) >= until:
        return None
    return exhaust_round(task, reason=reason, at=at, policy=policy)


def _pause_after(retry_round: int, *, throttled: bool, policy: RetryPolicy) -> float | None:
    """Seconds until the next round; None after the last one."""
    usual, longer = policy.retry_schedule, policy.throttled_retry_schedule
    if retry_round <= len(usual):
        return usual[retry_round - 1]
    if not throttled or not longer:
        return None
    return longer[min(retry_round - len(usual), len(longer)) - 1]


def _within_life(pause: timedelta, left: timedelta) -> timedelta:
    """The pause, cut to half of the time that is left where it would outlast the delivery; at its end, all of that."""
    if pause < left:
        return pause
    return left / 2 if left > 2 * _LAST_PAUSE else left


def defer(task: DeliveryTask, *, until: datetime, reason: str, at: datetime) -> Resolution:
    """No provider can be called now: retry at ``until``, at the latest when the delivery expires."""
    due_at = min(until, task.expires_at)
    return Resolution(_idle_transition(task, EventType.POSTPONED, reason, at, due_at=due_at))


def end_unconfirmed(task: DeliveryTask, *, reason: str, at: datetime) -> Resolution:
    """The delivery may have been sent, and another attempt would not show whether it was."""
    return Resolution(_idle_transition(task, EventType.UNCONFIRMED, reason, at))


def expire(task: DeliveryTask, *, at: datetime) -> Resolution:
    """The delivery was not sent before its ``expires_at``."""
    event_type = EventType.UNCONFIRMED if task.unknown_attempts else EventType.EXPIRED
    return Resolution(_idle_transition(task, event_type, "not sent before expires_at", at, expires=True))


def suppress(task: DeliveryTask, *, detail: str, at: datetime) -> Resolution:
    """The recipient is suppressed: no provider is called. Only without an unknown attempt, which may have sent it."""
    return Resolution(_idle_transition(task, EventType.FAILED, detail, at)._replace(reason=Reason.SUPPRESSED))


def _idle_transition(
    task: DeliveryTask,
    type_: EventType,
    reason: str,
    at: datetime,
    *,
    due_at: datetime | None = None,
    next_round: bool = False,
    expires: bool = False,
) -> Transition:
    return Transition(
        delivery_id=task.delivery_id,
        project_id=task.project_id,
        attempt=task.attempt - 1,
        in_flight=False,
        type=type_,
        occurred_at=at,
        detail=_truncate(reason),
        due_at=due_at,
        next_round=next_round,
        expires=expires,
    )


def throttle_duration(outcome: Throttled) -> timedelta | None:
    """The pause that a provider requests, clamped to one second … one hour; None if it names none."""
    if outcome.retry_after is None:
        return None
    return min(max(outcome.retry_after, timedelta(seconds=1)), MAX_THROTTLE)
