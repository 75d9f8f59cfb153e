"""What follows from an outcome: arithmetic and rules only. The worker and the recovery loop both ask here."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, NamedTuple, assert_never

from pydantic import BaseModel, Field

from sluice.bus.messages import DeliveryTask, RetryHandle
from sluice.model.message import DeliveryClass
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Throttled,
    Unknown,
    outcome_name,
)
from sluice.model.state import EventType
from sluice.routing.selection import MAX_SAME_KEY_RETRIES
from sluice.store.deliveries import Transition

MAX_THROTTLE = timedelta(hours=1)  # a Retry-After beyond it is taken for a mistake of the provider
_MAX_TEXT = 1000  # characters of what a provider said, or of its id, that are kept


class RetryPolicy(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Timeouts and pauses of attempts: a group of settings that a role combines with others. Durations are seconds."""

    attempt_lease: float = Field(
        12.0, gt=1, description="an attempt whose worker does not renew its lease for this long is settled as unknown"
    )
    provider_timeout: float = Field(
        10.0, gt=0, description="longest provider call; must be shorter than the attempt lease"
    )
    requeue_after: float = Field(
        8.0, gt=0, description="time after which an enqueued delivery may be requeued if its record is lost"
    )
    unknown_outcome_wait: float = Field(60.0, ge=0, description="class standard: wait for a receipt before a retry")
    same_key_retry_delay: float = Field(2.0, ge=0, description="pause before a retry under the same idempotency key")
    retry_schedule: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (5.0, 30.0, 120.0, 600.0), description="pauses between retry rounds; after the last round a delivery fails"
    )


class Resolution(NamedTuple):
    """What to write, and the drive to publish at once (None: the recovery loop drives it when it falls due)."""

    transition: Transition
    next_task: DeliveryTask | None = None


def resolve(
    task: DeliveryTask, handle: RetryHandle, outcome: Outcome, *, idempotent: bool, at: datetime, policy: RetryPolicy
) -> Resolution:
    """What follows when the attempt ``drive.attempt`` at ``repeat.provider_id`` ended in ``outcome``."""
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
    detail = "" if isinstance(outcome, Accepted) else outcome.detail
    return Transition(
        delivery_id=task.delivery_id,
        attempt=task.attempt,
        in_flight=True,
        type=type_,
        occurred_at=at,
        detail=_truncate(_describe(outcome, detail)),
        provider_id=handle.provider_id,
        due_at=due_at,
        enqueued_at=enqueued_at,
        outcome=outcome_name(outcome),
        provider_message_id=None if provider_message_id is None else _truncate(provider_message_id),
        receipt_ids=tuple(map(_truncate, outcome.receipt_ids)) if isinstance(outcome, Accepted) else (),
        unknown=isinstance(outcome, Unknown),
        reason=outcome.reason if isinstance(outcome, RecipientRejected | Declined) else None,
    )


def _truncate(text: str) -> str:
    """What the record and an event can hold: an outcome must not be lost because of the words it comes in."""
    return text[:_MAX_TEXT].replace("\x00", "").encode("utf-8", "replace").decode()


def _describe(outcome: Outcome, detail: str) -> str:
    if isinstance(outcome, Unknown):
        return f"{detail}; the message may have been sent: a duplicate is possible"
    return detail


def next_task(
    task: DeliveryTask,
    *,
    attempted_providers: tuple[object, ...],
    reason: str,
    at: datetime,
    unknown_attempts: int = 0,
) -> DeliveryTask:
    """The drive for the attempt after this one, put on the conveyor ``at``."""
    return task.model_copy(
        update={
            "attempt": task.attempt + 1,
            "attempted_providers": attempted_providers,
            "deprioritized": (),
            "enqueued_at": at,
            "last_error": reason[:200],
            "unknown_attempts": task.unknown_attempts + unknown_attempts,
            "retry_handle": None,
        }
    )


def _fail_over(
    task: DeliveryTask,
    handle: RetryHandle,
    outcome: Declined | Throttled | AuthFailed | ProviderFault,
    at: datetime,
    policy: RetryPolicy,
) -> Resolution:
    step = _attempt_transition(
        task,
        handle,
        EventType.ATTEMPT_FAILED,
        outcome,
        at,
        due_at=at + timedelta(seconds=policy.requeue_after),
        enqueued_at=at,
    )
    return Resolution(
        step,
        next_task(
            task, attempted_providers=(*task.attempted_providers, handle.provider_id), reason=outcome.detail, at=at
        ),
    )


def _after_unknown(
    task: DeliveryTask, handle: RetryHandle, outcome: Unknown, *, idempotent: bool, at: datetime, policy: RetryPolicy
) -> Resolution:
    match task.delivery_class:
        case DeliveryClass.ONCE:
            return Resolution(_attempt_transition(task, handle, EventType.UNCONFIRMED, outcome, at))
        case DeliveryClass.URGENT:
            step = _attempt_transition(
                task,
                handle,
                EventType.ATTEMPT_FAILED,
                outcome,
                at,
                due_at=at + timedelta(seconds=policy.requeue_after),
                enqueued_at=at,
            )
            tried = (*task.attempted_providers, handle.provider_id)
            after = next_task(task, attempted_providers=tried, reason=outcome.detail, at=at, unknown_attempts=1)
            return Resolution(step, after.model_copy(update={"retry_handle": handle}) if idempotent else after)
        case DeliveryClass.STANDARD:
            # Under the same key a repeat cannot double, so there is nothing to wait for but the provider's recovery.
            wait = (
                policy.same_key_retry_delay
                if idempotent and task.unknown_attempts < MAX_SAME_KEY_RETRIES
                else policy.unknown_outcome_wait
            )
            return Resolution(
                _attempt_transition(
                    task, handle, EventType.ATTEMPT_FAILED, outcome, at, due_at=at + timedelta(seconds=wait)
                )
            )
        case _:
            assert_never(task.delivery_class)


def exhaust_round(task: DeliveryTask, *, reason: str, at: datetime, policy: RetryPolicy) -> Resolution:
    """No provider is left in this round: the next round is scheduled, or it is over.

    A delivery with an ambiguous attempt does not end FAILED: it may have been sent.
    """
    if task.retry_round <= len(policy.retry_schedule):
        due_at = at + timedelta(seconds=policy.retry_schedule[task.retry_round - 1])
        return Resolution(_idle_transition(task, EventType.POSTPONED, reason, at, due_at=due_at, next_round=True))
    kind = EventType.UNCONFIRMED if task.unknown_attempts else EventType.FAILED
    return Resolution(_idle_transition(task, kind, reason, at))


def defer(task: DeliveryTask, *, until: datetime, reason: str, at: datetime) -> Resolution:
    """Nobody may be called now: look again at ``until``."""
    return Resolution(_idle_transition(task, EventType.POSTPONED, reason, at, due_at=until))


def expire(task: DeliveryTask, *, at: datetime) -> Resolution:
    """Not sent by its ``expires_at``."""
    kind = EventType.UNCONFIRMED if task.unknown_attempts else EventType.EXPIRED
    return Resolution(_idle_transition(task, kind, "not sent before expires_at", at))


def _idle_transition(
    task: DeliveryTask,
    type_: EventType,
    reason: str,
    at: datetime,
    *,
    due_at: datetime | None = None,
    next_round: bool = False,
) -> Transition:
    return Transition(
        delivery_id=task.delivery_id,
        attempt=task.attempt - 1,
        in_flight=False,
        type=type_,
        occurred_at=at,
        detail=_truncate(reason),
        due_at=due_at,
        next_round=next_round,
    )


def throttle_duration(outcome: Throttled) -> timedelta | None:
    """How long the provider asks not to be called, clamped to one second … one hour; None when it did not say."""
    if outcome.retry_after is None:
        return None
    return min(max(outcome.retry_after, timedelta(seconds=1)), MAX_THROTTLE)
