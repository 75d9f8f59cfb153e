"""What became of deliveries, in figures: of the record and of each replay the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sluice.runtime.percentile import percentile
from sluice_cli.backtest.recording import Journey


class Price(NamedTuple):
    """Of a provider: of a message or, with ``by_segment``, of a segment; None: it has none."""

    amount: float | None
    by_segment: bool


class Figures(NamedTuple):
    """Shares are per cent of the deliveries, times are seconds."""

    first_accepted: float  # of the first attempts, without those that the recipient's address ended
    late: float
    not_accepted: float  # by any provider in the first retry round
    attempts: float  # a delivery
    maybe_twice: int  # deliveries that several providers accepted or may have accepted
    p50: float | None  # from the first attempt to the acceptance
    p99: float | None
    ejections: int | None  # of a provider; None: not recorded
    cost: float | None  # of 1,000 accepted deliveries, at today's prices; None: a provider has none
    shares: Mapping[UUID, float]  # of the first attempts, by provider

    def as_json(self, names: Mapping[UUID, str]) -> dict[str, Any]:
        """With the providers' names."""
        shares = {names.get(provider_id, str(provider_id)): share for provider_id, share in self.shares.items()}
        return {**self._asdict(), "shares": shares}


def figures_of(
    journeys: Sequence[Journey], prices: Mapping[UUID, Price], late: float, ejections: int | None
) -> Figures:
    """The figures of at least one delivery; ``late``: seconds from the first attempt on."""
    number = len(journeys)
    judged = [one.first_ok for one in journeys if one.first_ok is not None]
    accepted = [one for one in journeys if "accepted" in one.outcomes]
    delays = [one.ended_at - one.at for one in accepted if one.ended_at is not None]
    firsts = Counter(one.first for one in journeys if one.first is not None)
    return Figures(
        first_accepted=round(100 * sum(judged) / max(1, len(judged)), 3),
        late=round(100 * sum(one.ended_at is None or one.ended_at - one.at > late for one in journeys) / number, 3),
        not_accepted=round(100 * sum(one.lost for one in journeys) / number, 3),
        attempts=round(sum(len(one.tried) for one in journeys) / number, 3),
        maybe_twice=sum(sum(o in ("accepted", "unknown") for o in one.outcomes) > 1 for one in journeys),
        p50=_rounded(delays, 0.5),
        p99=_rounded(delays, 0.99),
        ejections=ejections,
        cost=_cost(accepted, prices),
        shares={one: round(100 * count / number, 2) for one, count in firsts.most_common()},
    )


def _rounded(delays: Sequence[float], share: float) -> float | None:
    found = percentile(delays, share)
    return None if found is None else round(found, 3)


def _cost(accepted: Sequence[Journey], prices: Mapping[UUID, Price]) -> float | None:
    total = 0.0
    for one in accepted:
        price = prices.get(one.tried[one.outcomes.index("accepted")])
        if price is None or price.amount is None:
            return None
        total += price.amount * (one.segments if price.by_segment else 1)
    return round(1000 * total / len(accepted), 4) if accepted else None
