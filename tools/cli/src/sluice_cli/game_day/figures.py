"""The figures of a fault: from the installation's database, and from the simulator's log of its calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sluice.runtime.percentile import percentile

LATE = 5.0  # seconds from the acceptance to the provider
_IN_FLIGHT = 0.5  # seconds after a throttled answer in which calls may arrive that were on their way
_WINDOW = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of an acknowledged message. ``taken_at``: when a provider had accepted it."""

    recipient: str
    channel: str
    accepted_at: datetime
    taken_at: datetime | None
    state: str

    @property
    def seconds(self) -> float | None:
        """From the acceptance to the provider."""
        return None if self.taken_at is None else (self.taken_at - self.accepted_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Times:
    """Moments of a fault; ``repaired`` is also the end of the fault."""

    began: datetime
    repaired: datetime


def figures(sent: Sequence[Sent], calls: Sequence[Mapping[str, Any]], times: Times) -> dict[str, float | None]:
    """The figures that do not depend on the state of the provider.

    ``messages``: acknowledged in the fault. ``late_percent``: of these, not with a provider after 5 s, in per cent;
    ``email_late_percent``: of the e-mails. ``lost``: not taken by any provider, of all. ``duplicates``: taken more than
    once. ``failed``: ended without one. ``email_p99_over_before``: the time to the provider in the fault over the one
    before it.
    """
    during = [one for one in sent if times.began <= one.accepted_at < times.repaired]
    before = [one for one in sent if one.accepted_at < times.began]
    taken = Counter(call["recipient"] for call in calls if call["accepted"])
    return {
        "messages": len(during),
        "late_percent": _late(during),
        "email_late_percent": _late(_emails(during)),
        "lost": sum(not taken[one.recipient] for one in sent if one.state not in ("FAILED", "EXPIRED")),
        "duplicates": sum(taken[one.recipient] > 1 for one in sent),
        "failed": sum(one.state in ("FAILED", "EXPIRED") for one in sent),
        "email_p99_over_before": _ratio(_p99(_emails(during)), _p99(_emails(before))),
    }


def early_calls(calls: Iterable[Mapping[str, Any]], endpoint: str, retry_after: float) -> int:
    """The calls to ``endpoint`` in the pause that it asked for, less those that were on their way when it did."""
    until = asked = float("-inf")
    early = 0
    for call in sorted((call for call in calls if call["endpoint"] == endpoint), key=_mono):
        at = _mono(call)
        early += asked + _IN_FLIGHT < at < until
        if call["behaviour"] == "throttle" and at >= until:
            asked, until = at, at + retry_after
    return early


def share(calls: Iterable[Mapping[str, Any]], endpoints: Sequence[str], now: float) -> float:
    """The share of the first of ``endpoints`` among the messages that they took in the last five seconds."""
    recent = Counter(
        call["endpoint"]
        for call in calls
        if call["accepted"] and call["endpoint"] in endpoints and _mono(call) > now - _WINDOW
    )
    return recent[endpoints[0]] / max(1, recent.total())


def broken(found: Mapping[str, float | None], bounds: Mapping[str, float]) -> list[str]:
    """The figures that are over their bounds, in words; one that was not reached is over every bound."""
    return [
        f"{name} is {'not reached' if found[name] is None else f'{found[name]:g}'}, at most {bound:g}"
        for name, bound in bounds.items()
        if found[name] is None or found[name] > bound  # type: ignore[operator]
    ]


def _mono(call: Mapping[str, Any]) -> float:
    return float(call["mono"])


def _emails(sent: Iterable[Sent]) -> list[Sent]:
    return [one for one in sent if one.channel == "email"]


def _late(sent: Sequence[Sent]) -> float:
    late = sum(one.seconds is None or one.seconds > LATE for one in sent)
    return round(100 * late / max(1, len(sent)), 2)


def _p99(sent: Sequence[Sent]) -> float | None:
    return percentile([one.seconds for one in sent if one.seconds is not None], 0.99)


def _ratio(over: float | None, under: float | None) -> float | None:
    return round(over / under, 2) if over and under else None
