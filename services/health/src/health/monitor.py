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

from sluice.bus.messages import AttemptReport, ProviderHealth
from sluice.health.breaker import Attempt, ProviderStats, Thresholds, decay, observe
from sluice.model.message import Channel
from sluice.model.outcome import Scope
from sluice.runtime import metrics

_REPUBLISH_INTERVAL = timedelta(seconds=5)  # a verdict that stands is told again at most this often, for its numbers
_PROVIDER_TTL = timedelta(days=1)  # a provider without attempts for so long may be gone

_MAX_THROTTLE = 3600.0  # seconds


@dataclass(slots=True)
class MonitoredProvider:
    """A provider and what is known of it."""

    provider_id: UUID
    project_id: UUID
    channel: Channel
    last_seen: datetime  # when its last attempt was read
    stats: ProviderStats = field(default_factory=ProviderStats)
    published: ProviderHealth | None = None


class HealthMonitor:
    """What every provider's attempts add up to."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._providers: dict[UUID, MonitoredProvider] = {}  # the one that is silent for longest first
        self._dirty: dict[UUID, None] = {}  # had attempts since the last look
        self._evaluated_at: dict[UUID, datetime] = {}  # those that time will change, the longest ago first
        self._unsaved: dict[UUID, None] = {}  # since the last snapshot, the longest ago first

    def record_attempts(self, events: Iterable[AttemptReport], now: datetime) -> None:
        """Count the attempts among ``events``, in the order of their times: a batch holds one partition after another.

        What claims to come from the future is as of ``now``: a clock that is ahead must not age everybody's evidence.
        """
        made: dict[UUID, list[Attempt]] = defaultdict(list)
        for event in events:
            if event.outcome is None or event.provider_id is None:
                continue
            if event.provider_id not in self._providers:
                self._providers[event.provider_id] = MonitoredProvider(
                    event.provider_id, event.project_id, event.channel, now
                )
            made[event.provider_id].append(
                Attempt(min(event.occurred_at, now), _health_outcome(event), _throttle_duration(event.retry_after_s))
            )
        for provider_id, attempts in made.items():
            known = self._providers.pop(provider_id)
            known.last_seen = now
            jitter = random.uniform(0.5, 1.0)  # noqa: S311
            for attempt in sorted(attempts, key=attrgetter("occurred_at")):
                known.stats = observe(known.stats, attempt, self._thresholds, jitter)
            self._providers[provider_id] = known
            self._dirty[provider_id] = self._unsaved[provider_id] = None

    def changed_statuses(self, now: datetime) -> list[ProviderHealth]:
        """The verdicts that have changed since they were last told; each is told once."""
        found = []
        for provider_id in self._due_for_evaluation(now):
            known = self._providers[provider_id]
            known.stats = decay(known.stats, now, self._thresholds)
            if _has_changed(known, now):
                verdict = _status_of(known, now)
                _move_gauge(known.published, verdict)
                known.published = verdict
                self._unsaved[provider_id] = None
                found.append(verdict)
            if _decays(known):
                self._evaluated_at[provider_id] = now
        self._drop_stale(now)
        return found

    def statuses(self, now: datetime) -> list[ProviderHealth]:
        """All of them, as they are now."""
        return [_status_of(known, now) for known in self._providers.values()]

    def pending_snapshots(self, limit: int) -> dict[UUID, bytes | None]:
        """What became of ``most`` providers at most, for :meth:`restore`; None of one that is forgotten.

        Each change is handed out once, the oldest first: :meth:`give_back` what could not be kept.
        """
        taken = list(islice(self._unsaved, limit))
        for provider_id in taken:
            del self._unsaved[provider_id]
        return {
            provider_id: _SNAPSHOT.dump_json(known) if (known := self._providers.get(provider_id)) else None
            for provider_id in taken
        }

    def restore_pending(self, taken: Iterable[UUID]) -> None:
        """These changes have not been kept."""
        self._unsaved |= dict.fromkeys(taken)

    def mark_all_dirty(self) -> None:
        """Nothing of what was handed out is kept any more."""
        self.restore_pending(self._providers)

    def restore(self, kept: Mapping[bytes, bytes], now: datetime) -> list[bytes]:
        """Take up what another process knew; return the keys of what is not of this version."""
        unreadable, found = [], []
        for key, value in kept.items():
            try:
                found.append(_SNAPSHOT.validate_json(value))
            except ValidationError:
                unreadable.append(key)
        for known in sorted(found, key=attrgetter("last_seen")):
            self._providers[known.provider_id] = known
            self._evaluated_at[known.provider_id] = now
            _move_gauge(None, known.published)
        return unreadable

    def _due_for_evaluation(self, now: datetime) -> dict[UUID, None]:
        """Whom to look at: they had attempts, or were not looked at for a while."""
        due, self._dirty = self._dirty, {}
        for provider_id, looked_at in self._evaluated_at.items():
            if now - looked_at < _REPUBLISH_INTERVAL:
                break
            due[provider_id] = None
        for provider_id in due:
            self._evaluated_at.pop(provider_id, None)
        return due

    def _drop_stale(self, now: datetime) -> None:
        while self._providers:
            provider_id, known = next(iter(self._providers.items()))
            if now - known.last_seen < _PROVIDER_TTL:
                return
            del self._providers[provider_id]
            self._evaluated_at.pop(provider_id, None)
            self._unsaved[provider_id] = None
            _move_gauge(known.published, None)


_SNAPSHOT = TypeAdapter(MonitoredProvider)


def _throttle_duration(seconds: float | None) -> timedelta | None:
    """What a throttling provider asked for; None for what cannot be meant."""
    return timedelta(seconds=min(seconds, _MAX_THROTTLE)) if seconds and seconds > 0 else None


def _status_of(provider: MonitoredProvider, now: datetime) -> ProviderHealth:
    record = provider.stats
    return ProviderHealth(
        provider_id=provider.provider_id,
        project_id=provider.project_id,
        channel=provider.channel,
        status=record.status,
        reason=record.reason,
        probe_at=record.probe_at,
        suspended_until=record.suspended_until,
        error_rate=_error_rate(record),
        effective_samples=len(record.samples),
        updated_at=now,
    )


def _error_rate(record: ProviderStats) -> float:
    return round(record.error_rate, 4)


def _has_changed(provider: MonitoredProvider, now: datetime) -> bool:
    told, record = provider.published, provider.stats
    if told is None:
        return True
    if (told.status, told.probe_at, told.suspended_until) != (record.status, record.probe_at, record.suspended_until):
        return True
    return told.error_rate != _error_rate(record) and now - told.updated_at >= _REPUBLISH_INTERVAL


def _decays(provider: MonitoredProvider) -> bool:
    """Whether evidence will be forgotten, or numbers are still to be told."""
    evidence = provider.stats.samples or provider.stats.unresponsive_at
    return bool(evidence) or provider.published is None or provider.published.error_rate != _error_rate(provider.stats)


def _move_gauge(before: ProviderHealth | None, after: ProviderHealth | None) -> None:
    """Keep the gauge: a provider moves from one verdict to another."""
    if before is not None:
        metrics.PROVIDERS.labels(before.channel.value, before.status).dec()
    if after is not None:
        metrics.PROVIDERS.labels(after.channel.value, after.status).inc()


def _health_outcome(event: AttemptReport) -> str:
    """The outcome as the breaker counts it: an account that declines every message is at fault."""
    if event.outcome == "declined" and event.scope == Scope.ACCOUNT:
        return "provider_fault"
    return event.outcome or ""
