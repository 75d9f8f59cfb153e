"""Arithmetic of the measurement: percentiles, spreads of ratios, slopes. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure that was taken several times: never one number without its range."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None of nothing."""
        if not values:
            return None
        return cls(median(values), min(values), max(values), len(values))

    def as_json(self) -> dict[str, float | int]:
        """For machines."""
        return {
            "median": round(self.median, 4),
            "min": round(self.least, 4),
            "max": round(self.most, 4),
            "pairs": self.count,
        }


def ratios(pairs: Sequence[tuple[float | None, float | None]]) -> list[float]:
    """Ours over theirs, pair by pair; a pair that lacks one side, or divides by nothing, is omitted."""
    return [ours / theirs for ours, theirs in pairs if ours is not None and theirs]


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """How much y grows when x grows tenfold, by least squares over log10 x; None of fewer than two x."""
    logs = [(math.log10(x), y) for x, y in points if x > 0]
    if len({x for x, _ in logs}) < 2:
        return None
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def longest_gap(moments: Sequence[float], start: float, end: float) -> float:
    """The longest time between two moments within ``start`` … ``end``, both of which count as moments."""
    within = [start, *sorted(moment for moment in moments if start < moment < end), end]
    return max(later - earlier for earlier, later in pairwise(within))
