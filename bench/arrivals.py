"""Arrival times of requests: drawn before the run, so that no response can delay a request."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Seconds from the start at which a Poisson process of ``rate`` per second has its arrivals."""
    dice = Random(seed)  # noqa: S311
    times: list[float] = []
    moment = dice.expovariate(rate)
    while moment < seconds:
        times.append(moment)
        moment += dice.expovariate(rate)
    return times


def constant(rate: float, seconds: float) -> list[float]:
    """Arrivals at equal distances."""
    return [number / rate for number in range(round(rate * seconds))]


def draw(kind: str, rate: float, seconds: float, seed: int) -> list[float]:
    """The arrivals of a ``kind``, poisson or constant."""
    if rate <= 0:
        raise ValueError("the rate must be above zero")
    match kind:
        case "poisson":
            return poisson(rate, seconds, seed)
        case "constant":
            return constant(rate, seconds)
    raise ValueError(f"arrivals are poisson or constant, not {kind}")


def share(times: list[float], index: int, of: int) -> Iterator[tuple[int, float]]:
    """What one of several processes sends: each takes every ``of``-th arrival, with its number in the whole."""
    return ((number, times[number]) for number in range(index, len(times), of))
