"""What fake providers do, as data: rules by recipient prefix, by endpoint, and one default."""

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
    """The treatment of one call. Only those that begin with ``accept``, and ``drip``, take the message."""

    ACCEPT = "accept"
    REJECT = "reject"  # the provider's own refusal of this recipient; of this message, where it refuses no recipient
    THROTTLE = "throttle"  # with the provider's own headers
    AUTH = "auth"  # the account is refused
    FAULT = "fault"  # a definite 5xx: not taken
    HANG = "hang"  # read everything, send no response
    DRIP = "drip"  # take it, and respond one byte a second
    RESET = "reset"  # cut the connection (TCP RST) before anything is taken
    GARBAGE = "garbage"  # a 200 that is not the provider's: nothing taken
    ACCEPT_SILENT = "accept-then-never-answer"
    ACCEPT_RESET = "accept-then-reset"
    ACCEPT_500 = "accept-then-500"
    DECLINE = "decline"  # this account does not take this message: its size, its sender, a missing capability
    DECLINE_ACCOUNT = "decline-account"  # this account takes no message: its reputation, its quota, its plan

    @property
    def takes(self) -> bool:
        """Whether the provider has the message afterwards."""
        return self.startswith("accept") or self is Behaviour.DRIP


REFUSALS = frozenset(
    {
        Behaviour.REJECT,
        Behaviour.DECLINE,
        Behaviour.DECLINE_ACCOUNT,
        Behaviour.THROTTLE,
        Behaviour.AUTH,
        Behaviour.FAULT,
    }
)
"""The behaviours that the provider answers with one of its errors."""


class Forgery(StrEnum):
    """What is false about a false receipt."""

    MISSING = "missing"  # no signature
    EMPTY = "empty"
    TRUNCATED = "truncated"
    WRONG_KEY = "wrong-key"
    OTHER_BODY = "other-body"  # a genuine signature, over something else
    OLD = "old"  # signed an hour ago; same as wrong-key where signatures carry no time


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Latency(_Part):
    """Response times: lognormal. ``median`` in seconds, ``sigma`` of the logarithm (0: always the median)."""

    median: float = Field(ge=0, le=3600)
    sigma: float = Field(default=0.0, ge=0, le=5)


class Receipts(_Part):
    """The receipts of a message that was taken."""

    kinds: tuple[str, ...] = ("sent", "delivered")  # in this order: event types, ``inbound``, ``opt_out``
    delay: float = Field(default=0.1, ge=0)  # seconds from the acceptance to the first
    interval: float = Field(default=0.05, ge=0)  # seconds between two
    copies: int = Field(default=1, ge=0, le=1000)  # each one this many times
    shuffle: bool = False  # in any order
    before_answer: bool = False  # the first is sent before the response to the call
    forged: tuple[Forgery, ...] = ()  # one false receipt each, besides the genuine ones
    forged_kind: str = "bounced"  # the kind that the false ones claim


class Rule(_Part):
    """How calls are treated. A field that a prefix rule omits is taken from the endpoint's own rule."""

    behaviour: Behaviour = Behaviour.ACCEPT
    probabilities: Mapping[Behaviour, float] = Field(default_factory=dict)  # of other behaviours
    fail: float = Field(default=0.0, ge=0, le=100)  # per cent that end in ``fault``
    code: str | None = None  # which of the provider's documented errors; HTTP: or status and JSON body, SMTP: a reply
    retry_after: float = Field(default=1.0, ge=0)  # seconds, sent to a throttled caller
    limit: float | None = Field(default=None, gt=0)  # calls per second; those above are throttled
    latency: Latency | None = None
    phase: Phase | None = None  # SMTP: where in the dialogue it takes effect
    receipts: Receipts = Receipts()

    @cached_property
    def random(self) -> bool:
        """Whether two equal calls may be treated differently."""
        return bool(self.probabilities or self.fail or self.receipts.shuffle or (self.latency and self.latency.sigma))


class Webhook(_Part):
    """Where receipts of an account go, for providers whose dashboard holds the URL."""

    url: str
    secret: str


class EndpointScenario(Rule):
    """One endpoint: its own rule, rules by recipient prefix, and the account's settings at the provider."""

    prefixes: Mapping[str, Rule] = Field(default_factory=dict)
    webhooks: Mapping[str, Webhook] = Field(default_factory=dict)  # by API key; "*" for all others
    dashboard: Mapping[str, Any] = Field(default_factory=dict)  # the dialect's own settings


# Built in, unless a scenario has a rule for the same prefix: a demonstration needs no scenario.
BUILT_IN: Mapping[str, Rule] = {
    **{f"{behaviour}+": Rule(behaviour=behaviour) for behaviour in Behaviour},
    **{f"+1999{number:03}": Rule(behaviour=behaviour) for number, behaviour in enumerate(Behaviour)},
}


class Scenario(_Part):
    """The whole scenario. ``seed``: equal seeds treat equal calls equally, in any order."""

    seed: int = 0
    default: Rule = Rule()
    prefixes: Mapping[str, Rule] = Field(default_factory=dict)
    endpoints: Mapping[str, EndpointScenario] = Field(default_factory=dict)

    def rules(self, endpoint: str) -> RuleSet:
        """The rules of one endpoint, ready for look-up."""
        scenario = self.endpoints.get(endpoint, EndpointScenario())
        own = _merge(self.default, scenario)
        prefixes = {**BUILT_IN, **self.prefixes, **scenario.prefixes}
        ordered = sorted(prefixes, key=len, reverse=True)
        return RuleSet(own, tuple((prefix, _merge(own, prefixes[prefix])) for prefix in ordered))


@dataclass(frozen=True)
class RuleSet:
    """An endpoint's rules: the longest prefix that matches, else the endpoint's own rule."""

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
    """``above`` where it sets a field, ``below`` elsewhere."""
    said = {name: getattr(above, name) for name in above.model_fields_set if name in Rule.model_fields}
    return Rule.model_construct(**{**{name: getattr(below, name) for name in Rule.model_fields}, **said})


def draw(rule: Rule, dice: Random) -> tuple[Behaviour, float]:
    """A call's behaviour and delay in seconds. Always two random numbers, so that runs stay comparable."""
    throw, delay = dice.random(), 0.0
    if rule.latency:
        delay = rule.latency.median * dice.lognormvariate(0, rule.latency.sigma)
    for behaviour, probability in {
        **rule.probabilities,
        Behaviour.FAULT: rule.probabilities.get(Behaviour.FAULT, 0) + rule.fail / 100,
    }.items():
        throw -= probability
        if throw < 0:
            return behaviour, delay
    return rule.behaviour, delay


def read_scenario(path: Path) -> Scenario:
    """A scenario from a ``.toml`` or ``.json`` file. ValueError names what is wrong with it."""
    text = path.read_bytes()
    parsed: Any = tomllib.loads(text.decode()) if path.suffix == ".toml" else orjson.loads(text)
    return Scenario.model_validate(parsed)
