"""The figures of a run, and J, the score that policies are compared by (lower is better).

J = regret (points of first attempts that succeed less often than the oracle's) + 5 x late % + 50 x (lost % above the
oracle's) + 0.05 x false ejections an hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.routing.world import BEGINS, DURATION, LATE, Message, World

_RETURN_SHARE = 0.8  # of the first provider's share before the fault
_SLICE = 10.0  # seconds over which a share is counted


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


def figures(world: World, messages: Sequence[Message], ejections: Sequence[float]) -> Figures:
    """The figures of a run."""
    judged = [message for message in messages if message.first_ok is not None]
    late = sum(m.sent_at is None or m.sent_at - m.at > LATE for m in messages if not m.lost)
    lost = sum(message.lost for message in messages)
    provider_fault = world.fault.name not in ("badlist", "none")
    false = [at for at in ejections if not (provider_fault and BEGINS <= at < world.ends + 30)]
    return Figures(
        first_ok=100 * sum(bool(message.first_ok) for message in judged) / max(1, len(judged)),
        late=100 * late / len(messages),
        lost=100 * lost / len(messages),
        attempts=sum(message.attempts for message in messages) / len(messages),
        false_ejections=len(false),
        detected=_since(messages, BEGINS, world.ends, lambda share, usual: share <= 0.15 * usual),
        returned=_since(messages, world.ends, DURATION, lambda share, usual: share >= _RETURN_SHARE * usual),
    )


def _since(messages: Sequence[Message], begins: float, ends: float, reached) -> float | None:  # type: ignore[no-untyped-def]
    """Seconds from ``begins`` until the first provider's share of first attempts has reached a level."""
    shares: dict[int, list[int]] = {}
    for message in messages:
        found = shares.setdefault(int(message.at / _SLICE), [0, 0])
        found[0] += message.first == "A"
        found[1] += 1
    before = [shares[number] for number in range(6, int(BEGINS / _SLICE)) if number in shares]
    usual = sum(a for a, _ in before) / max(1, sum(n for _, n in before))
    for number in range(int(begins / _SLICE), int(ends / _SLICE)):
        a, n = shares.get(number, (0, 0))
        if n >= 3 and reached(a / n, usual):
            return number * _SLICE - begins + _SLICE
    return None


def j(found: Figures, oracle: Figures) -> float:
    """The score of a run."""
    hours = DURATION / 3600
    return (
        max(0.0, oracle.first_ok - found.first_ok)
        + 5 * found.late
        + 50 * max(0.0, found.lost - oracle.lost)
        + 0.05 * found.false_ejections / hours
    )
