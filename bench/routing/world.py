"""The simulated world: providers with latencies and faults, messages, and the clock.

The faults and figures are those of a comparison of published policies; :func:`varied` changes latencies, success rates
and the shares of traffic, so that thresholds that fit one set of figures only do not pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random

from sluice.delivery.replay import ReplayedDelivery

DURATION = 1500.0  # seconds of a run
BEGINS = 300.0  # when the fault begins
CALL_TIMEOUT = 10.0  # seconds; a call without an answer ends as unknown
COUNTRY = "X"  # a destination with traffic of its own
LATE = 5.0  # seconds from acceptance to the provider's acceptance


@dataclass(frozen=True, slots=True)
class ProviderModel:
    """A provider without faults. Latency is lognormal."""

    name: str
    success: float
    median: float  # seconds
    sigma: float = 0.35


PROVIDERS = (
    ProviderModel("A", 0.985, 0.150),
    ProviderModel("B", 0.980, 0.200),
    ProviderModel("C", 0.965, 0.300),
)


@dataclass(frozen=True, slots=True)
class Now:
    """A provider at one moment, for one destination."""

    success: float
    slower: float = 1.0  # factor of the latency
    hangs: bool = False


Effect = Callable[[str, float, str, Now], Now]
"""Provider, seconds since the fault began, destination, the provider without the fault."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that lasts ``seconds``; ``bad_recipients``: the share of invalid recipients meanwhile."""

    name: str
    seconds: float
    effect: Effect = lambda _name, _at, _destination, now: now
    bad_recipients: float | None = None


def _first(change: Callable[[float, str, Now], Now]) -> Effect:
    return lambda name, at, destination, now: change(at, destination, now) if name == "A" else now


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("outage", 300, _first(lambda at, d, now: replace(now, success=0.0))),
        Fault("hang", 300, _first(lambda at, d, now: replace(now, hangs=True))),
        Fault("partial", 600, _first(lambda at, d, now: replace(now, success=0.85))),
        Fault("flap", 600, _first(lambda at, d, now: replace(now, success=0.0) if at % 60 < 20 else now)),
        Fault("badlist", 300, bad_recipients=0.35),
        Fault("allbad", 180, lambda name, at, d, now: replace(now, success=0.4)),
        Fault("country", 600, _first(lambda at, d, now: replace(now, success=0.05) if d == COUNTRY else now)),
        Fault("slow", 600, _first(lambda at, d, now: replace(now, slower=20.0))),
        # Our own additions.
        Fault("none", 0),
        Fault("creep", 600, _first(lambda at, d, now: replace(now, success=now.success - 0.5 * min(1.0, at / 300)))),
        Fault("second", 300, lambda name, at, d, now: replace(now, success=0.0) if name in "AB" else now),
        Fault("halfslow", 600, _first(lambda at, d, now: replace(now, slower=6.0))),
    )
}
STANDARD = ("outage", "hang", "partial", "flap", "badlist", "allbad", "country", "slow")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run varies: its rate (messages a second), its providers, its shares."""

    rate: float = 30.0
    providers: tuple[ProviderModel, ...] = PROVIDERS
    bad_recipients: float = 0.01
    country_share: float = 0.10


def varied(rate: float, dice: Random) -> Setting:
    """Other latencies, success rates and shares, in the order of the priorities."""
    providers = tuple(
        ProviderModel(
            model.name,
            min(0.998, max(0.93, model.success + dice.uniform(-0.015, 0.01))),
            model.median * math.exp(dice.uniform(-0.7, 0.7)),
            model.sigma * dice.uniform(0.7, 1.5),
        )
        for model in PROVIDERS
    )
    return Setting(rate, providers, dice.uniform(0.0, 0.03), dice.uniform(0.05, 0.2))


@dataclass(slots=True)
class Message(ReplayedDelivery[str]):
    """One message on its way; ``valid``: whether its recipient is."""

    valid: bool


class World:
    """Draws messages and answers, equally for every policy with the same seed."""

    def __init__(self, setting: Setting, fault: Fault, seed: int) -> None:
        self.setting = setting
        self.fault = fault
        self.models = {model.name: model for model in setting.providers}
        self._messages = Random(f"messages {seed}")
        self._seed = seed

    @property
    def ends(self) -> float:
        """When the fault ends."""
        return BEGINS + self.fault.seconds

    def messages(self) -> list[Message]:
        """Poisson arrivals."""
        dice, at = self._messages, 0.0
        found: list[Message] = []
        while (at := at + dice.expovariate(self.setting.rate)) < DURATION:
            destination = COUNTRY if dice.random() < self.setting.country_share else ""
            bad = self.setting.bad_recipients
            if self.fault.bad_recipients is not None and BEGINS <= at < self.ends:
                bad = self.fault.bad_recipients
            found.append(Message(len(found), at, destination, dice.random() >= bad))
        return found

    def now(self, name: str, at: float, destination: str) -> Now:
        """A provider at a moment."""
        plain = Now(self.models[name].success)
        return self.fault.effect(name, at - BEGINS, destination, plain) if BEGINS <= at < self.ends else plain

    def call(self, message: Message, name: str, at: float) -> tuple[str, float]:
        """Outcome and duration of a call: the same for a message and a provider, whatever the policy did before."""
        dice = Random((self._seed * 10_000_019 + message.number) * 256 + ord(name))
        now, model = self.now(name, at, message.destination), self.models[name]
        if now.hangs:
            return "unknown", CALL_TIMEOUT
        duration = model.median * now.slower * dice.lognormvariate(0, model.sigma)
        if duration >= CALL_TIMEOUT:
            return "unknown", CALL_TIMEOUT
        if not message.valid:
            return "recipient_rejected", duration
        return ("accepted" if dice.random() < now.success else "provider_fault"), duration
