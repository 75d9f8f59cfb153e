"""What the far ends do, as data: rules by recipient prefix, by door, and one default."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from sluice.providers.kit.smtp_types import Phase


class Behaviour(StrEnum):
    """What happens to one call. Only those that begin with ``accept``, and ``drip``, take the message."""

    ACCEPT = "accept"
    REJECT = "reject"  # the provider's own refusal of this message
    THROTTLE = "throttle"  # with the provider's own headers
    AUTH = "auth"  # the account is refused
    FAULT = "fault"  # a definite 5xx: not taken
    HANG = "hang"  # read everything, answer nothing
    DRIP = "drip"  # take it, and answer one byte a second
    RESET = "reset"  # cut the connection (TCP RST) before anything is taken
    GARBAGE = "garbage"  # a 200 that is not the provider's: nothing taken
    ACCEPT_SILENT = "accept-then-never-answer"
    ACCEPT_RESET = "accept-then-reset"
    ACCEPT_500 = "accept-then-500"

    @property
    def takes(self) -> bool:
        """Whether the message is in the provider's hands afterwards."""
        return self.startswith("accept") or self is Behaviour.DRIP


class Forgery(StrEnum):
    """How a false receipt is false."""

    MISSING = "missing"  # no signature
    EMPTY = "empty"
    TRUNCATED = "truncated"
    WRONG_KEY = "wrong-key"
    OTHER_BODY = "other-body"  # a genuine signature, over something else
    OLD = "old"  # signed an hour ago; same as wrong-key where signatures carry no time


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Latency(_Part):
    """Answer times: lognormal. ``median`` in seconds, ``sigma`` of the logarithm (0: always the median)."""

    median: float = Field(ge=0, le=3600)
    sigma: float = Field(default=0.0, ge=0, le=5)


class Receipts(_Part):
    """What is said later about a message that was taken."""

    kinds: tuple[str, ...] = ("sent", "delivered")  # in true order; words of ReceiptKind
    delay: float = Field(default=0.1, ge=0)  # seconds from the acceptance to the first
    interval: float = Field(default=0.05, ge=0)  # seconds between two
    copies: int = Field(default=1, ge=0, le=1000)  # each one this many times
    shuffle: bool = False  # in any order
    before_answer: bool = False  # the first leaves before the call is answered
    forged: tuple[Forgery, ...] = ()  # one false statement each, besides the true ones
    forged_kind: str = "bounced"  # what the false ones claim


class Rule(_Part):
    """How calls are treated. What a rule for a prefix leaves out is taken from the door's own rule."""

    behaviour: Behaviour = Behaviour.ACCEPT
    probabilities: Mapping[Behaviour, float] = Field(
        default_factory=dict
    )  # instead of ``do``, with these probabilities
    fail: float = Field(default=0.0, ge=0, le=100)  # per cent that end in ``fault``
    code: str | None = None  # which of the provider's documented errors, where several fit
    retry_after: float = Field(default=1.0, ge=0)  # seconds, what a throttled caller is told
    limit: float | None = Field(default=None, gt=0)  # calls per second; those above are throttled
    latency: Latency | None = None
    phase: Phase | None = None  # SMTP: where in the dialogue it happens
    receipts: Receipts = Receipts()

    @cached_property
    def random(self) -> bool:
        """Whether two equal calls may be treated differently."""
        return bool(self.probabilities or self.fail or self.receipts.shuffle or (self.latency and self.latency.sigma))


class Webhook(_Part):
    """Where receipts of an account go, for providers that are told so in a dashboard."""

    url: str
    secret: str


class EndpointScenario(Rule):
    """One door: its own rule, rules by recipient prefix, and what the provider's dashboard would hold."""

    prefixes: Mapping[str, Rule] = Field(default_factory=dict)
    webhooks: Mapping[str, Webhook] = Field(default_factory=dict)  # by API key; "*" for all others
    auth_token: str | None = None  # signs receipts when the caller used an API key, which cannot


# Always there, unless a script says otherwise for the same prefix: a demonstration needs no script.
BUILT_IN: Mapping[str, Rule] = {
    **{f"{behaviour}+": Rule(behaviour=behaviour) for behaviour in Behaviour},
    **{f"+1999{number:03}": Rule(behaviour=behaviour) for number, behaviour in enumerate(Behaviour)},
}


class Scenario(_Part):
    """The whole script. ``seed``: equal seeds treat equal calls equally, in whatever order they come."""

    seed: int = 0
    default: Rule = Rule()
    prefixes: Mapping[str, Rule] = Field(default_factory=dict)
    endpoints: Mapping[str, EndpointScenario] = Field(default_factory=dict)

    def rules(self, endpoint: str) -> RuleSet:
        """The rules of one door, ready for look-up."""
        scenario = self.endpoints.get(endpoint, EndpointScenario())
        own = _merge(self.default, scenario)
        prefixes = {**BUILT_IN, **self.prefixes, **scenario.prefixes}
        ordered = sorted(prefixes, key=len, reverse=True)
        return RuleSet(own, tuple((prefix, _merge(own, prefixes[prefix])) for prefix in ordered))


@dataclass(frozen=True)
class RuleSet:
    """A door's rules: the first prefix that fits, longest first, else the door's own."""

    default: Rule
    by_prefix: tuple[tuple[str, Rule], ...]

    @cached_property
    def _any_prefix(self) -> tuple[str, ...]:
        return tuple(prefix for prefix, _ in self.by_prefix)

    def match(self, recipient: str) -> Rule:
        """The rule for this address or number."""
        if not recipient.startswith(self._any_prefix):  # nearly always, and nearly free
            return self.default
        return next(rule for prefix, rule in self.by_prefix if recipient.startswith(prefix))


def _merge(below: Rule, above: Rule) -> Rule:
    """``above`` where it says something, ``below`` elsewhere."""
    said = {name: getattr(above, name) for name in above.model_fields_set if name in Rule.model_fields}
    return Rule.model_construct(**{**{name: getattr(below, name) for name in Rule.model_fields}, **said})


def draw(rule: Rule, dice: Random) -> tuple[Behaviour, float]:
    """What is done to a call, and after how many seconds. Two throws always, so that runs stay comparable."""
    throw, delay = dice.random(), 0.0
    if rule.latency:
        delay = rule.latency.median * dice.lognormvariate(0, rule.latency.sigma)
    for behaviour, odds in {
        **rule.probabilities,
        Behaviour.FAULT: rule.probabilities.get(Behaviour.FAULT, 0) + rule.fail / 100,
    }.items():
        throw -= odds
        if throw < 0:
            return behaviour, delay
    return rule.behaviour, delay


def read_scenario(path: Path) -> Scenario:
    """A script from a ``.toml`` or ``.json`` file. ValueError says what is wrong with it."""
    text = path.read_bytes()
    parsed: Any = tomllib.loads(text.decode()) if path.suffix == ".toml" else orjson.loads(text)
    return Scenario.model_validate(parsed)
