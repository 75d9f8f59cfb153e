"""A door: one far end on one port, with its rules, its memory and its counters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from time import monotonic
from typing import Any

from sluice_simulator.call_log import Ledger
from sluice_simulator.dialect import FarEnd, HttpAnswer, Taken
from sluice_simulator.scenario import Do, DoorScript, Rule, Rules, Script, choose
from sluice_simulator.webhook_sender import Postman

REMEMBERED_FOR = 24 * 3600.0  # seconds an idempotency key is honoured


@dataclass(slots=True)
class Remembered:
    """What happened under an idempotency key. ``answer`` is None while the first call is being worked on."""

    body: bytes  # digest
    since: float
    answer: HttpAnswer | None = None


@dataclass(slots=True)
class Verdict:
    """What is done to one call."""

    do: Do
    delay: float  # seconds before the answer
    rule: Rule


class Door:
    """The part of a far end that remembers."""

    def __init__(self, name: str, far_end: FarEnd, ledger: Ledger, postman: Postman) -> None:
        self.name = name
        self.far_end = far_end
        self.ledger = ledger
        self.postman = postman
        self.port = 0
        self.calls = 0
        self.accepted = 0
        self._keys: dict[str, Remembered] = {}
        self.follow(Script())

    def follow(self, script: Script) -> None:
        """Take over a script from the next call on; what was remembered stays."""
        self._seed = script.seed
        self._rules: Rules = script.rules(self.name)
        self.script = script.doors.get(self.name, DoorScript())
        self._times: Counter[str] = Counter()
        self._allowed: dict[float, tuple[float, float]] = {}  # limit -> (tokens, when counted)

    @property
    def memories(self) -> int:
        """How many idempotency keys are remembered."""
        return len(self._keys)

    @property
    def own_rule(self) -> Rule:
        """What holds before a recipient is known."""
        return self._rules.own

    def has_rule(self, recipient: str) -> bool:
        """Whether a prefix rule is meant for this recipient."""
        return self._rules.match(recipient) is not self._rules.own

    def judge(self, recipient: str) -> Verdict:
        """What is done to a call for this recipient: the same for every run with the same seed."""
        rule = self._rules.match(recipient)
        if rule.limit and not self._within(rule.limit):
            return Verdict(Do.THROTTLE, 0.0, rule)
        if not rule.random:
            return Verdict(rule.do, rule.slow.median if rule.slow else 0.0, rule)
        self._times[recipient] += 1
        dice = Random(f"{self._seed}/{self.name}/{recipient}/{self._times[recipient]}")  # noqa: S311
        do, delay = choose(rule, dice)
        return Verdict(do, delay, rule)

    def _within(self, limit: float) -> bool:
        """A token bucket that holds one second's worth."""
        now = monotonic()
        tokens, counted_at = self._allowed.get(limit, (max(limit, 1.0), now))
        tokens = min(max(limit, 1.0), tokens + (now - counted_at) * limit)
        self._allowed[limit] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1

    def remembered(self, taken: Taken, body: bytes) -> tuple[Remembered, HttpAnswer | None]:
        """The memory of this call's key, and the answer that follows from it (None: do the work)."""
        digest = sha256(body).digest()
        found = self._keys.get(f"{taken.account}/{taken.key}") if taken.key else None
        if found is None or monotonic() - found.since > REMEMBERED_FOR:
            return Remembered(digest, monotonic()), None
        assert self.far_end.conflicts is not None
        other_bytes, in_progress = self.far_end.conflicts
        if found.body != digest:
            return found, other_bytes
        return found, found.answer or in_progress

    def remember(self, taken: Taken, memory: Remembered) -> None:
        """Keep it under the call's key, when the call has one and this provider looks at it."""
        if taken.key and self.far_end.conflicts:
            self._keys[f"{taken.account}/{taken.key}"] = memory

    def record(self, *, accepted: bool, answered: bool, **fields: Any) -> None:
        """One call is over: count it and write it down."""
        self.calls += 1
        self.accepted += accepted
        self.ledger.write(
            door=self.name, far_end=self.far_end.name, port=self.port, accepted=accepted, answered=answered, **fields
        )
