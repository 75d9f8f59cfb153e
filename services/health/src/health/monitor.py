"""The health of all providers: fed with events, asked for verdicts, told to the bus when something changed.

What a look costs depends on what happened, not on how many providers are known: it visits those that had attempts
since the last one, and every few seconds those whose evidence grows old. Nobody visits a provider that is silent for
longer than the memory.

An event that comes twice counts twice: after the death of this process its last batch, after the death of a worker
what is announced again. That moves a share by at most as many attempts, and only until they are forgotten.

There may be one such process. Events are keyed by message, so a second one in the group would see its own part of
every provider's attempts, and both would tell verdicts under one key. More than one needs a topic of attempts that is
keyed by provider.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from operator import attrgetter
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from sluice.bus.messages import AttemptMade, ProviderHealth
from sluice.health.breaker import Attempt, Record, Thresholds, at_time, observe
from sluice.model.message import Channel
from sluice.runtime import metrics

_REFRESH = timedelta(seconds=5)  # a verdict that stands is told again at most this often, for its numbers
_FORGET = timedelta(days=1)  # a provider without attempts for so long may be gone

_LONGEST_HOLD = 3600.0  # seconds


@dataclass(slots=True)
class Watched:
    """A provider and what is known of it."""

    provider_id: UUID
    project_id: UUID
    channel: Channel
    heard_at: datetime  # when its last attempt was read
    record: Record = field(default_factory=Record)
    told: ProviderHealth | None = None


class Watch:
    """What every provider's attempts add up to."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._watched: dict[UUID, Watched] = {}  # the one that is silent for longest first
        self._stirred: dict[UUID, None] = {}  # had attempts since the last look
        self._looked_at: dict[UUID, datetime] = {}  # those that time will change, the longest ago first
        self._changed: dict[UUID, None] = {}  # since the last snapshot, the longest ago first

    def take(self, events: Iterable[AttemptMade], now: datetime) -> None:
        """Count the attempts among ``events``, in the order of their times: a batch holds one partition after another.

        What claims to come from the future is as of ``now``: a clock that is ahead must not age everybody's evidence.
        """
        made: dict[UUID, list[Attempt]] = defaultdict(list)
        for event in events:
            if event.outcome is None or event.provider_id is None:
                continue
            if event.provider_id not in self._watched:
                self._watched[event.provider_id] = Watched(event.provider_id, event.project_id, event.channel, now)
            made[event.provider_id].append(Attempt(min(event.at, now), event.outcome, _hold(event.retry_after_s)))
        for provider_id, attempts in made.items():
            known = self._watched.pop(provider_id)
            known.heard_at = now
            jitter = random.uniform(0.5, 1.0)  # noqa: S311
            for attempt in sorted(attempts, key=attrgetter("at")):
                known.record = observe(known.record, attempt, self._thresholds, jitter)
            self._watched[provider_id] = known
            self._stirred[provider_id] = self._changed[provider_id] = None

    def news(self, now: datetime) -> list[ProviderHealth]:
        """The verdicts that have changed since they were last told; each is told once."""
        found = []
        for provider_id in self._due(now):
            known = self._watched[provider_id]
            known.record = at_time(known.record, now, self._thresholds)
            if _is_news(known, now):
                verdict = _verdict(known, now)
                _count(known.told, verdict)
                known.told = verdict
                self._changed[provider_id] = None
                found.append(verdict)
            if _time_will_change(known):
                self._looked_at[provider_id] = now
        self._forget(now)
        return found

    def verdicts(self, now: datetime) -> list[ProviderHealth]:
        """All of them, as they are now."""
        return [_verdict(known, now) for known in self._watched.values()]

    def changes(self, most: int) -> dict[UUID, bytes | None]:
        """What became of ``most`` providers at most, for :meth:`restore`; None of one that is forgotten.

        Each change is handed out once, the oldest first: :meth:`give_back` what could not be kept.
        """
        taken = list(islice(self._changed, most))
        for provider_id in taken:
            del self._changed[provider_id]
        return {
            provider_id: _WATCHED.dump_json(known) if (known := self._watched.get(provider_id)) else None
            for provider_id in taken
        }

    def give_back(self, taken: Iterable[UUID]) -> None:
        """These changes have not been kept."""
        self._changed |= dict.fromkeys(taken)

    def change_all(self) -> None:
        """Nothing of what was handed out is kept any more."""
        self.give_back(self._watched)

    def restore(self, kept: Mapping[bytes, bytes], now: datetime) -> list[bytes]:
        """Take up what another process knew; return the keys of what is not of this version."""
        unreadable, found = [], []
        for key, value in kept.items():
            try:
                found.append(_WATCHED.validate_json(value))
            except ValidationError:
                unreadable.append(key)
        for known in sorted(found, key=attrgetter("heard_at")):
            self._watched[known.provider_id] = known
            self._looked_at[known.provider_id] = now
            _count(None, known.told)
        return unreadable

    def _due(self, now: datetime) -> dict[UUID, None]:
        """Whom to look at: they had attempts, or were not looked at for a while."""
        due, self._stirred = self._stirred, {}
        for provider_id, looked_at in self._looked_at.items():
            if now - looked_at < _REFRESH:
                break
            due[provider_id] = None
        for provider_id in due:
            self._looked_at.pop(provider_id, None)
        return due

    def _forget(self, now: datetime) -> None:
        while self._watched:
            provider_id, known = next(iter(self._watched.items()))
            if now - known.heard_at < _FORGET:
                return
            del self._watched[provider_id]
            self._looked_at.pop(provider_id, None)
            self._changed[provider_id] = None
            _count(known.told, None)


_WATCHED = TypeAdapter(Watched)


def _hold(seconds: float | None) -> timedelta | None:
    """What a throttling provider asked for; None for what cannot be meant."""
    return timedelta(seconds=min(seconds, _LONGEST_HOLD)) if seconds and seconds > 0 else None


def _verdict(known: Watched, now: datetime) -> ProviderHealth:
    record = known.record
    return ProviderHealth(
        provider_id=known.provider_id,
        project_id=known.project_id,
        channel=known.channel,
        verdict=record.verdict,
        reason=record.reason,
        probe_at=record.probe_at,
        hold_until=record.hold_until,
        error_rate=_error_rate(record),
        sample=len(record.recent),
        at=now,
    )


def _error_rate(record: Record) -> float:
    return round(record.error_rate, 4)


def _is_news(known: Watched, now: datetime) -> bool:
    told, record = known.told, known.record
    if told is None:
        return True
    if (told.verdict, told.probe_at, told.hold_until) != (record.verdict, record.probe_at, record.hold_until):
        return True
    return told.error_rate != _error_rate(record) and now - told.at >= _REFRESH


def _time_will_change(known: Watched) -> bool:
    """Whether evidence will be forgotten, or numbers are still to be told."""
    evidence = known.record.recent or known.record.silent_at
    return bool(evidence) or known.told is None or known.told.error_rate != _error_rate(known.record)


def _count(before: ProviderHealth | None, after: ProviderHealth | None) -> None:
    """Keep the gauge: a provider moves from one verdict to another."""
    if before is not None:
        metrics.HEALTH.labels(before.channel.value, before.verdict).dec()
    if after is not None:
        metrics.HEALTH.labels(after.channel.value, after.verdict).inc()
