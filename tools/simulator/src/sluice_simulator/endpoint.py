"""A door: one far end on one port, with its rules, its memory and its counters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from time import monotonic
from typing import Any

from sluice_simulator.call_log import CallLog
from sluice_simulator.dialect import Dialect, FakeResponse, ParsedSend
from sluice_simulator.scenario import Behaviour, EndpointScenario, Rule, RuleSet, Scenario, draw
from sluice_simulator.webhook_sender import WebhookSender

IDEMPOTENCY_TTL = 24 * 3600.0  # seconds an idempotency key is honoured


@dataclass(slots=True)
class IdempotencyEntry:
    """What happened under an idempotency key. ``answer`` is None while the first call is being worked on."""

    body: bytes  # digest
    since: float
    response: FakeResponse | None = None


@dataclass(slots=True)
class Decision:
    """What is done to one call."""

    behaviour: Behaviour
    delay: float  # seconds before the answer
    rule: Rule


class Endpoint:
    """The part of a far end that remembers."""

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
        """Take over a script from the next call on; what was remembered stays."""
        self._seed = scenario.seed
        self._rules: RuleSet = scenario.rules(self.name)
        self.script = scenario.endpoints.get(self.name, EndpointScenario())
        self._times: Counter[str] = Counter()
        self._allowed: dict[float, tuple[float, float]] = {}  # limit -> (tokens, when counted)

    @property
    def idempotency_count(self) -> int:
        """How many idempotency keys are remembered."""
        return len(self._keys)

    @property
    def default_rule(self) -> Rule:
        """What holds before a recipient is known."""
        return self._rules.default

    def has_rule(self, recipient: str) -> bool:
        """Whether a prefix rule is meant for this recipient."""
        return self._rules.match(recipient) is not self._rules.default

    def decide(self, recipient: str) -> Decision:
        """What is done to a call for this recipient: the same for every run with the same seed."""
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
        """A token bucket that holds one second's worth."""
        now = monotonic()
        tokens, counted_at = self._allowed.get(limit, (max(limit, 1.0), now))
        tokens = min(max(limit, 1.0), tokens + (now - counted_at) * limit)
        self._allowed[limit] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1

    def lookup(self, send: ParsedSend, body: bytes) -> tuple[IdempotencyEntry, FakeResponse | None]:
        """The memory of this call's key, and the answer that follows from it (None: do the work)."""
        digest = sha256(body).digest()
        found = self._keys.get(f"{send.account}/{send.idempotency_key}") if send.idempotency_key else None
        if found is None or monotonic() - found.since > IDEMPOTENCY_TTL:
            return IdempotencyEntry(digest, monotonic()), None
        assert self.dialect.conflicts is not None
        other_bytes, in_progress = self.dialect.conflicts
        if found.body != digest:
            return found, other_bytes
        return found, found.response or in_progress

    def store(self, send: ParsedSend, entry: IdempotencyEntry) -> None:
        """Keep it under the call's key, when the call has one and this provider looks at it."""
        if send.idempotency_key and self.dialect.conflicts:
            self._keys[f"{send.account}/{send.idempotency_key}"] = entry

    def record(self, *, accepted: bool, answered: bool, **fields: Any) -> None:
        """One call is over: count it and write it down."""
        self.calls += 1
        self.accepted += accepted
        self.call_log.write(
            endpoint=self.name,
            dialect=self.dialect.name,
            port=self.port,
            accepted=accepted,
            answered=answered,
            **fields,
        )
