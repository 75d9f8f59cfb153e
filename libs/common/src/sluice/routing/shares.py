"""The choice among providers of equal priority and equal health: by weight, or the cheaper one.

A weight decides where at least one of them has one: each gets its share of the deliveries, and no share is 0. Without
weights the cheapest is selected; one without a price is more expensive than any price. Those that cost the same share
equally.

The share is decided by the delivery's id (weighted rendezvous hashing): the same delivery gets the same provider, and
when one is lost, only its deliveries move, to the others by their weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from uuid import UUID

from sluice.model.candidate import Candidate

_MIX, _MASK = 0xBF58476D1CE4E5B9, (1 << 64) - 1


def choose(delivery_id: UUID, equal: Sequence[Candidate]) -> tuple[int, str]:
    """The index in ``equal`` (at least one) of the delivery's provider, and why in words."""
    if any(one.weight is not None for one in equal):
        places: Sequence[int] = range(len(equal))
    else:
        cheapest = min(_price(one) for one in equal)
        places = [place for place, one in enumerate(equal) if _price(one) == cheapest]
        if len(places) == 1:
            return places[0], f"the cheapest at {cheapest:g}"
    chosen = min(places, key=lambda place: _distance(delivery_id, equal[place]))
    total = sum(_weight(equal[place]) for place in places)
    return chosen, f"weight {_weight(equal[chosen]):g} of {total:g}"


def exclusion(other: Candidate, chosen: Candidate) -> str:
    """Why ``chosen`` is selected instead of ``other``, its equal."""
    if other.weight is None and chosen.weight is None and _price(other) > _price(chosen):
        return f"costs {other.price:g}, not {chosen.price:g}" if other.price is not None else "has no price"
    return "share of another provider"


def _price(candidate: Candidate) -> float:
    return math.inf if candidate.price is None else candidate.price


def _weight(candidate: Candidate) -> float:
    return 1.0 if candidate.weight is None else candidate.weight


def _distance(delivery_id: UUID, candidate: Candidate) -> float:
    """Exponentially distributed with the weight as rate: the least of several is each one's in proportion to it."""
    return -math.log(_uniform(delivery_id.int ^ candidate.id.int)) / _weight(candidate)


def _uniform(number: int) -> float:
    """In (0, 1): the finalizer of SplitMix64, since ids of one moment are neighbours."""
    mixed = (number ^ number >> 64) & _MASK
    for _ in range(2):
        mixed = ((mixed ^ mixed >> 30) * _MIX) & _MASK
        mixed ^= mixed >> 27
    return (mixed + 0.5) / 2.0**64
