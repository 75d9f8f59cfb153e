"""An endpoint: one fake provider on one port, with its rules, its idempotency keys and its counters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from time import monotonic
from typing import Any

from pydantic import BaseModel

from sluice_simulator.call_log import CallLog
from sluice_simulator.dialect import Dialect, FakeResponse, ParsedSend
from sluice_simulator.scenario import Behaviour, EndpointScenario, Rule, RuleSet, Scenario, draw
from sluice_simulator.webhook_sender import WebhookSender

IDEMPOTENCY_TTL = 24 * 3600.0  # seconds that an idempotency key is honoured


@dataclass(slots=True)
class IdempotencyEntry:
    """The call under an idempotency key. ``response`` is None while the first call is in progress."""

    body: bytes  # digest
    since: float
    response: FakeResponse | None = None


@dataclass(slots=True)
class Decision:
    """The treatment of one call."""

    behaviour: Behaviour
    delay: float  # seconds before the response
    rule: Rule
    made_at: float = field(default_factory=monotonic)  # the call had arrived


class Endpoint:
    """The stateful part of a fake provider."""

    def __init__(self, name: str, dialect: Dialect, call_log: CallLog, webhook_sender: WebhookSender) -> None:
        self.name = name
        self.dialect = dialect
        self.call_log = call_log
        self.webhook_sender = webhook_sender
        self.port = 0
        self.calls = 0
        self.accepted = 0
        self._keys: dict[str, IdempotencyEntry] = {}
        self.apply_scenario(Scenario())

    def apply_scenario(self, scenario: Scenario) -> None:
        """Follow a scenario from the next call on; idempotency keys and counters stay."""
        self._seed = scenario.seed
        self._rules: RuleSet = scenario.rules(self.name)
        self.scenario = scenario.endpoints.get(self.name, EndpointScenario())
        self.dashboard = self.read_dashboard(scenario)
        self._times: Counter[str] = Counter()
        self._allowed: dict[float, tuple[float, float]] = {}  # limit -> (tokens, when counted)

    def read_dashboard(self, scenario: Scenario) -> BaseModel:
        """The account's dashboard settings in this scenario; ValidationError when the dialect has no such setting."""
        stated = scenario.endpoints.get(self.name, EndpointScenario()).dashboard
        return self.dialect.dashboard.model_validate(stated)

    @property
    def idempotency_count(self) -> int:
        """The number of stored idempotency keys."""
        return len(self._keys)

    @property
    def default_rule(self) -> Rule:
        """The rule that applies before a recipient is known."""
        return self._rules.default

    def has_rule(self, recipient: str) -> bool:
        """Whether a prefix rule matches this recipient."""
        return self._rules.match(recipient) is not self._rules.default

    def decide(self, recipient: str) -> Decision:
        """The treatment of a call for this recipient: the same in every run with the same seed."""
        rule = self._rules.match(recipient)
        if rule.limit and not self._within(rule.limit):
            return Decision(Behaviour.THROTTLE, 0.0, rule)
        if not rule.random:
            return Decision(rule.behaviour, rule.latency.median if rule.latency else 0.0, rule)
        self._times[recipient] += 1
        dice = Random(f"{self._seed}/{self.name}/{recipient}/{self._times[recipient]}")  # noqa: S311
        behaviour, delay = draw(rule, dice)
        return Decision(behaviour, delay, rule)

    def _within(self, limit: float) -> bool:
        """A token bucket with the size of one second."""
        now = monotonic()
        tokens, counted_at = self._allowed.get(limit, (max(limit, 1.0), now))
        tokens = min(max(limit, 1.0), tokens + (now - counted_at) * limit)
        self._allowed[limit] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1

    def lookup(self, send: ParsedSend, body: bytes) -> tuple[IdempotencyEntry, FakeResponse | None]:
        """The entry of this call's key, and the response that follows from it (None: the call is processed)."""
        digest = sha256(body).digest()
        found = self._keys.get(f"{send.account}/{send.idempotency_key}") if send.idempotency_key else None
        if found is None or monotonic() - found.since > IDEMPOTENCY_TTL:
            return IdempotencyEntry(digest, monotonic()), None
        if self.dialect.duplicate is not None:
            return found, self.dialect.duplicate(send)
        assert self.dialect.conflicts is not None
        other_bytes, in_progress = self.dialect.conflicts
        if found.body != digest:
            return found, other_bytes
        return found, found.response or in_progress

    def store(self, send: ParsedSend, entry: IdempotencyEntry) -> None:
        """Store the entry under the call's key, when it has one and this provider honours keys."""
        if send.idempotency_key and (self.dialect.conflicts or self.dialect.duplicate):
            self._keys[f"{send.account}/{send.idempotency_key}"] = entry

    def record(self, *, accepted: bool, answered: bool, decision: Decision | None = None, **fields: Any) -> None:
        """Count a finished call and log it; without a ``decision`` it was answered at once."""
        self.calls += 1
        self.accepted += accepted
        self.call_log.write(
            endpoint=self.name,
            dialect=self.dialect.name,
            port=self.port,
            accepted=accepted,
            answered=answered,
            waited=0.0 if decision is None else round(monotonic() - decision.made_at, 3),
            **fields,
        )
