"""The faults of a game day: what the first provider of a channel does, and what the installation must do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sluice.model.message import Channel
from sluice_simulator import Behaviour, Rule
from sluice_simulator.scenario import Latency, Receipts

RETURNED_WITHIN = 120.0  # seconds after the repair
RETRY_AFTER = 10.0  # seconds that the throttling provider asks for


@dataclass(frozen=True, slots=True)
class Step:
    """``rule`` for ``seconds``, then the next step, in turn."""

    rule: Rule
    seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class Fault:
    """``steps``: what the first provider of ``channel`` does. ``bounds``: the largest value of each figure.

    ``seconds``: how long it lasts, or None until it is detected. ``rate``: messages a second, or None for the one of
    the game day. ``warm``: seconds of traffic before it.
    """

    name: str
    text: str
    channel: Channel
    steps: Sequence[Step]
    bounds: Mapping[str, float] = field(default_factory=dict)
    seconds: float | None = 30.0
    rate: float | None = None
    warm: float = 15.0


_NOTHING_LOST = {"lost": 0, "duplicates": 0, "failed": 0}
_RETURNS = {"returned_s": RETURNED_WITHIN}

FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault(
            "outage",
            "the first e-mail provider answers every call with an error",
            Channel.EMAIL,
            [Step(Rule(behaviour=Behaviour.FAULT))],
            {**_NOTHING_LOST, **_RETURNS, "late_percent": 0.2},
        ),
        Fault(
            "hang",
            "the first SMS provider answers no call",
            Channel.SMS,
            [Step(Rule(behaviour=Behaviour.HANG))],
            {**_NOTHING_LOST, **_RETURNS, "email_p99_over_before": 1.2, "email_late_percent": 0.5},
        ),
        Fault(
            "partial",
            "the first e-mail provider fails 30 of 100 calls",
            Channel.EMAIL,
            [Step(Rule(fail=30))],
            {**_NOTHING_LOST, **_RETURNS, "late_percent": 0.5},
        ),
        Fault(
            "slow",
            "the first SMS provider takes 6 s for a call",
            Channel.SMS,
            [Step(Rule(latency=Latency(median=6, sigma=0.2)))],
            {**_NOTHING_LOST, **_RETURNS, "email_p99_over_before": 1.2, "email_late_percent": 0.5},
        ),
        Fault(
            "flap",
            "the first e-mail provider fails for 8 s and works for 4 s, in turn",
            Channel.EMAIL,
            [Step(Rule(behaviour=Behaviour.FAULT), 8.0), Step(Rule(), 4.0)],
            {**_NOTHING_LOST, **_RETURNS, "late_percent": 0.5},
            seconds=36.0,
        ),
        Fault(
            "throttle",
            f"the first e-mail provider refuses every call and asks for a pause of {RETRY_AFTER:g} s",
            Channel.EMAIL,
            [Step(Rule(behaviour=Behaviour.THROTTLE, retry_after=RETRY_AFTER))],
            {**_NOTHING_LOST, **_RETURNS, "early_calls": 0, "late_percent": 0.5},
        ),
        Fault(
            "silent-loss",
            "the first SMS provider accepts every message and sends no receipts any more",
            Channel.SMS,
            [Step(Rule(receipts=Receipts(kinds=())))],
            {"detected_s": 300.0},
            seconds=None,
            rate=4.0,  # two of them SMS
            warm=60.0,  # a past to compare with
        ),
    )
}
