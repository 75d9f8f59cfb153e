"""Whether a run is valid, and whether a system sustained its load. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

LARGEST_LAG = 0.002  # seconds, p99 of the generator's own lag
RATE_TOLERANCE = 0.01
KEPT_UP = 0.99  # share of what was offered
LARGEST_GROWTH = 0.5  # seconds that messages may take longer at the end of a run than at its start
LONGEST_REST = 2.0  # seconds after the last arrival until nothing is left to do


def invalid_reasons(lag_p99: float | None, drawn: int, sent: int) -> list[str]:
    """The reasons why no percentile of this run is valid; empty if all are."""
    reasons = []
    if lag_p99 is None:
        reasons.append("nothing was sent")
    elif lag_p99 > LARGEST_LAG:
        reasons.append(f"the generator was {lag_p99 * 1000:.1f} ms late (p99)")
    if drawn and abs(sent - drawn) > RATE_TOLERANCE * drawn:
        reasons.append(f"{sent} of {drawn} requests were sent")
    return reasons


def lag_reasons(offered: float, delivered: float, latencies: Sequence[float], rest: float) -> list[str]:
    """The reasons why a system did not sustain the offered load; empty if it did.

    ``offered`` and ``delivered`` are counts of the same span, ``latencies`` in the order of sending (intended send to
    delivery, seconds), ``rest`` is how long the system went on after the last arrival.
    """
    reasons = []
    if delivered < KEPT_UP * offered:
        reasons.append(f"{delivered / offered:.1%} of the offered rate" if offered else "nothing was offered")
    third = len(latencies) // 3
    if third:
        growth = median(latencies[-third:]) - median(latencies[:third])
        if growth > LARGEST_GROWTH:
            reasons.append(f"the delay grew by {growth:.2f} s")
    if rest > LONGEST_REST:
        reasons.append(f"{rest:.1f} s until everything was settled")
    return reasons
