"""The figures of a run, and J, the score that policies are compared by (lower is better).

J = regret (points of first attempts that succeed less often than the oracle's) + 5 x late % + 50 x (lost % above the
oracle's) + 0.05 x false ejections an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.routing.world import BEGINS, DURATION, LATE, Message, World

_LEFT_SHARE, _RETURN_SHARE = 0.15, 0.8  # of the first provider's share before the fault
_SLICE = 10.0  # seconds over which a share is counted
_MIN_MESSAGES = 3  # in a slice


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run. ``first_ok``, ``late`` and ``lost`` are per cent of all messages; times are seconds."""

    first_ok: float
    late: float
    lost: float
    attempts: float  # a message
    false_ejections: int
    detected: float | None  # after the fault began
    returned: float | None  # after it ended; None: never within the run


@dataclass(frozen=True, slots=True)
class Score:
    """``j`` against the oracle. ``shares``: the first provider's share of first attempts, by slices of ten seconds."""

    figures: Figures
    j: float
    shares: tuple[float, ...]


def score_of(world: World, messages: Sequence[Message], ejections: Sequence[float], oracle: Figures | None) -> Score:
    """The score of a run; that of the oracle itself without one."""
    shares = _shares(messages)
    found = _figures(world, messages, ejections, shares)
    return Score(found, _j(found, oracle or found), tuple(round(share or 0.0, 3) for share in shares))


def _figures(
    world: World, messages: Sequence[Message], ejections: Sequence[float], shares: Sequence[float | None]
) -> Figures:
    judged = [message for message in messages if message.first_ok is not None]
    late = sum(m.ended_at is None or m.ended_at - m.at > LATE for m in messages if not m.lost)
    lost = sum(message.lost for message in messages)
    provider_fault = world.fault.name not in ("badlist", "none")
    false = [at for at in ejections if not (provider_fault and BEGINS <= at < world.ends + 30)]
    before = [share for share in shares[6 : int(BEGINS / _SLICE)] if share is not None]
    usual = sum(before) / max(1, len(before))
    return Figures(
        first_ok=100 * sum(bool(message.first_ok) for message in judged) / max(1, len(judged)),
        late=100 * late / len(messages),
        lost=100 * lost / len(messages),
        attempts=sum(len(message.tried) for message in messages) / len(messages),
        false_ejections=len(false),
        detected=_since(shares, BEGINS, world.ends, lambda share: share <= _LEFT_SHARE * usual),
        returned=_since(shares, world.ends, DURATION, lambda share: share >= _RETURN_SHARE * usual),
    )


def _shares(messages: Sequence[Message]) -> list[float | None]:
    """The first provider's share of first attempts; None in a slice with too few messages."""
    counts = [[0, 0] for _ in range(int(DURATION / _SLICE))]
    for message in messages:
        found = counts[int(message.at / _SLICE)]
        found[0] += message.first == "A"
        found[1] += 1
    return [first / all_ if all_ >= _MIN_MESSAGES else None for first, all_ in counts]


def _since(
    shares: Sequence[float | None], begins: float, ends: float, reached: Callable[[float], bool]
) -> float | None:
    """Seconds from ``begins`` to the end of the slice in which a share has reached a level."""
    for number in range(int(begins / _SLICE), int(ends / _SLICE)):
        share = shares[number]
        if share is not None and reached(share):
            return number * _SLICE - begins + _SLICE
    return None


def _j(found: Figures, oracle: Figures) -> float:
    hours = DURATION / 3600
    return (
        max(0.0, oracle.first_ok - found.first_ok)
        + 5 * found.late
        + 50 * max(0.0, found.lost - oracle.lost)
        + 0.05 * found.false_ejections / hours
    )
