"""What follows from an outcome: arithmetic and rules only. The worker and the recovery loop both ask here."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, NamedTuple, assert_never

from pydantic import Field

from sluice.bus.messages import Drive, Repeat
from sluice.model.message import Class
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Outcome,
    ProviderFault,
    Rejected,
    Throttled,
    Unknown,
)
from sluice.model.state import EventKind
from sluice.routing.selection import MOST_REPEATS
from sluice.runtime.settings import Settings
from sluice.store.deliveries import Transition

LONGEST_HOLD = timedelta(hours=1)  # a Retry-After beyond it is taken for a mistake of the provider
_LONGEST_TEXT = 1000  # characters of what a provider said, or of its id, that are kept


class Timing(Settings):
    """How long things may take. Durations are seconds."""

    lease: float = Field(12.0, gt=1, description="an attempt whose worker shows no sign of life for so long is over")
    call_deadline: float = Field(10.0, gt=0, description="longest provider call; must be shorter than the lease")
    redrive: float = Field(8.0, gt=0, description="how long the conveyor may take before the recovery loop looks")
    receipt_wait: float = Field(60.0, ge=0, description="class standard: wait for a receipt before repeating")
    repeat_after: float = Field(2.0, ge=0, description="pause before a repeat under the same idempotency key")
    retry_rounds: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (5.0, 30.0, 120.0, 600.0), description="pauses between rounds over all providers; after the last: FAILED"
    )


class Conclusion(NamedTuple):
    """What to write, and the drive to publish at once (None: the recovery loop drives it when it falls due)."""

    step: Transition
    next: Drive | None = None


def outcome_name(outcome: Outcome) -> str:
    """The outcome's word in SQL, events and metrics."""
    match outcome:
        case Accepted():
            return "accepted"
        case Rejected():
            return "rejected"
        case Throttled():
            return "throttled"
        case AuthFailed():
            return "auth_failed"
        case ProviderFault():
            return "provider_fault"
        case Unknown():
            return "unknown"
        case _:
            assert_never(outcome)


def conclude(
    drive: Drive, repeat: Repeat, outcome: Outcome, *, idempotent: bool, at: datetime, timing: Timing
) -> Conclusion:
    """What follows when the attempt ``drive.attempt`` at ``repeat.provider_id`` ended in ``outcome``."""
    match outcome:
        case Accepted(provider_ref):
            return Conclusion(_step(drive, repeat, EventKind.SENT, outcome, at, provider_ref=provider_ref))
        case Rejected():
            return Conclusion(_step(drive, repeat, EventKind.FAILED, outcome, at))
        case Throttled() | AuthFailed() | ProviderFault():
            return _fail_over(drive, repeat, outcome, at, timing)
        case Unknown():
            return _after_unknown(drive, repeat, outcome, idempotent=idempotent, at=at, timing=timing)
        case _:
            assert_never(outcome)


def _step(
    drive: Drive,
    repeat: Repeat,
    kind: EventKind,
    outcome: Outcome,
    at: datetime,
    *,
    provider_ref: str | None = None,
    due_at: datetime | None = None,
    published_at: datetime | None = None,
) -> Transition:
    reason = "" if isinstance(outcome, Accepted) else outcome.reason
    return Transition(
        delivery_id=drive.delivery_id,
        attempt=drive.attempt,
        in_flight=True,
        kind=kind,
        at=at,
        detail=_fitting(_worded(outcome, reason)),
        provider_id=repeat.provider_id,
        due_at=due_at,
        published_at=published_at,
        outcome=outcome_name(outcome),
        provider_ref=None if provider_ref is None else _fitting(provider_ref),
        ambiguous=isinstance(outcome, Unknown),
    )


def _fitting(text: str) -> str:
    """What the record and an event can hold: an outcome must not be lost because of the words it comes in."""
    return text[:_LONGEST_TEXT].replace("\x00", "").encode("utf-8", "replace").decode()


def _worded(outcome: Outcome, reason: str) -> str:
    if isinstance(outcome, Unknown):
        return f"{reason}; the message may have been sent: a duplicate is possible"
    return reason


def following(drive: Drive, *, tried: tuple[object, ...], reason: str, at: datetime, ambiguous: int = 0) -> Drive:
    """The drive for the attempt after this one, put on the conveyor ``at``."""
    return drive.model_copy(
        update={
            "attempt": drive.attempt + 1,
            "tried": tried,
            "avoid": (),
            "driven_at": at,
            "last_reason": reason[:200],
            "ambiguous": drive.ambiguous + ambiguous,
            "repeat": None,
        }
    )


def _fail_over(
    drive: Drive, repeat: Repeat, outcome: Throttled | AuthFailed | ProviderFault, at: datetime, timing: Timing
) -> Conclusion:
    step = _step(
        drive,
        repeat,
        EventKind.ATTEMPT_FAILED,
        outcome,
        at,
        due_at=at + timedelta(seconds=timing.redrive),
        published_at=at,
    )
    return Conclusion(step, following(drive, tried=(*drive.tried, repeat.provider_id), reason=outcome.reason, at=at))


def _after_unknown(
    drive: Drive, repeat: Repeat, outcome: Unknown, *, idempotent: bool, at: datetime, timing: Timing
) -> Conclusion:
    match drive.class_:
        case Class.ONCE:
            return Conclusion(_step(drive, repeat, EventKind.UNCONFIRMED, outcome, at))
        case Class.URGENT:
            step = _step(
                drive,
                repeat,
                EventKind.ATTEMPT_FAILED,
                outcome,
                at,
                due_at=at + timedelta(seconds=timing.redrive),
                published_at=at,
            )
            tried = (*drive.tried, repeat.provider_id)
            after = following(drive, tried=tried, reason=outcome.reason, at=at, ambiguous=1)
            return Conclusion(step, after.model_copy(update={"repeat": repeat}) if idempotent else after)
        case Class.STANDARD:
            # Under the same key a repeat cannot double, so there is nothing to wait for but the provider's recovery.
            wait = timing.repeat_after if idempotent and drive.ambiguous < MOST_REPEATS else timing.receipt_wait
            return Conclusion(
                _step(drive, repeat, EventKind.ATTEMPT_FAILED, outcome, at, due_at=at + timedelta(seconds=wait))
            )
        case _:
            assert_never(drive.class_)


def give_up(drive: Drive, *, reason: str, at: datetime, timing: Timing) -> Conclusion:
    """No provider is left in this round: the next round is scheduled, or it is over.

    A delivery with an ambiguous attempt does not end FAILED: it may have been sent.
    """
    if drive.round <= len(timing.retry_rounds):
        due_at = at + timedelta(seconds=timing.retry_rounds[drive.round - 1])
        return Conclusion(_between_attempts(drive, EventKind.POSTPONED, reason, at, due_at=due_at, next_round=True))
    kind = EventKind.UNCONFIRMED if drive.ambiguous else EventKind.FAILED
    return Conclusion(_between_attempts(drive, kind, reason, at))


def wait(drive: Drive, *, until: datetime, reason: str, at: datetime) -> Conclusion:
    """Nobody may be called now: look again at ``until``."""
    return Conclusion(_between_attempts(drive, EventKind.POSTPONED, reason, at, due_at=until))


def expire(drive: Drive, *, at: datetime) -> Conclusion:
    """Not sent by its ``expires_at``."""
    kind = EventKind.UNCONFIRMED if drive.ambiguous else EventKind.EXPIRED
    return Conclusion(_between_attempts(drive, kind, "not sent before expires_at", at))


def _between_attempts(
    drive: Drive,
    kind: EventKind,
    reason: str,
    at: datetime,
    *,
    due_at: datetime | None = None,
    next_round: bool = False,
) -> Transition:
    return Transition(
        delivery_id=drive.delivery_id,
        attempt=drive.attempt - 1,
        in_flight=False,
        kind=kind,
        at=at,
        detail=_fitting(reason),
        due_at=due_at,
        next_round=next_round,
    )


def held_for(outcome: Throttled) -> timedelta | None:
    """How long the provider asks not to be called, clamped to one second … one hour; None when it did not say."""
    if outcome.retry_after is None:
        return None
    return min(max(outcome.retry_after, timedelta(seconds=1)), LONGEST_HOLD)
