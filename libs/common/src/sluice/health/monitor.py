"""The health of all providers: attempts in, changed statuses out.

The cost is proportional to activity: each pass evaluates providers with new attempts, and every few seconds those whose
evidence is about to expire. A provider without attempts is not evaluated once its evidence has expired.

A repeated event counts twice: the last batch after a crash of this process, and republished events after a crash of a
worker. That changes an error rate by at most as many attempts, until they expire.

A provider is judged by all of its attempts, and events are keyed by message: of several processes one reads everything
and the others stand by (docs/decisions/0076).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from operator import attrgetter
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from sluice.bus.messages import AttemptReport, HealthEvidence, HealthState, ProviderHealth, ReceiptEvidence
from sluice.health import receipts, seed_rule
from sluice.health.breaker import (
    DEGRADED,
    FAILURE_WEIGHT,
    HEALTHY,
    Attempt,
    HealthThresholds,
    ProviderStats,
    decay,
    observe,
)
from sluice.health.receipts import ReceiptStats
from sluice.health.seed_rule import SeedStats, SeedThresholds
from sluice.model.message import Channel
from sluice.model.outcome import Scope
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters.sandbox import SANDBOX_PROVIDER_ID
from sluice.runtime import metrics

_REPUBLISH_INTERVAL = timedelta(seconds=5)  # of an unchanged status whose numbers changed
_REPUBLISHED_CHANGE = 0.005  # of an error rate
_NUMBERS_INTERVAL = timedelta(seconds=30)  # of a status of which only other numbers changed, for those who look
_NUMBERS_CHANGE = 0.2  # of them, as a share
_PROVIDER_TTL = timedelta(days=1)  # without attempts; the provider may be deleted

_MAX_THROTTLE = 3600.0  # seconds
_LONGEST_PAUSE = timedelta(seconds=10)  # between two batches, of the clock of receipts
_RECEIPTS_INTERVAL = timedelta(seconds=2)  # between two evaluations of a provider
_RECEIPTS_BATCH = 50  # providers evaluated after one batch of events
_PEER_AGE = timedelta(minutes=5)  # of the last sample of a provider that is compared with
_PEER_SUSPICION = receipts.ALARM / 4  # from which a provider's receipts fail as well
# Not *sent* and *deferred*: where only they still come, it is not known what became of the messages.
_CONFIRMING = frozenset(
    {
        *(EventType.DELIVERED, EventType.BOUNCED, EventType.SOFT_BOUNCE, EventType.COMPLAINED, EventType.FAILED),
        *(EventType.OPENED, EventType.CLICKED, EventType.READ),
    }
)
_NEGATIVE = frozenset({EventType.BOUNCED, EventType.SOFT_BOUNCE, EventType.FAILED})
_BLAMES_PROVIDER = frozenset({Reason.CREDENTIALS, Reason.QUOTA, Reason.REPUTATION, Reason.NETWORK})


@dataclass(slots=True)
class MonitoredProvider:
    """A provider, its statistics by both rules, and the status that was published last."""

    provider_id: UUID
    project_id: UUID
    channel: Channel
    last_seen: datetime  # time at which its last attempt was read
    stats: ProviderStats = field(default_factory=ProviderStats)
    seed: SeedStats = field(default_factory=SeedStats)
    not_counted: dict[str, float] = field(default_factory=dict)  # weights of attempts that are no evidence, by outcome
    not_counted_at: datetime | None = None
    receipts: ReceiptStats = field(default_factory=ReceiptStats)
    published: ProviderHealth | None = None


class HealthMonitor:
    """The statistics of all providers."""

    def __init__(
        self,
        thresholds: HealthThresholds,
        seed_thresholds: SeedThresholds | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self._thresholds = thresholds
        self._seed_thresholds = seed_thresholds or SeedThresholds()
        self._dice = jitter or random.Random()  # noqa: S311
        self._providers: dict[UUID, MonitoredProvider] = {}  # least recently seen first
        self._dirty: dict[UUID, None] = {}  # attempts since the last evaluation
        self._evaluated_at: dict[UUID, datetime] = {}  # providers that time will change, oldest evaluation first
        self._unsaved: dict[UUID, None] = {}  # changed since the last snapshot, oldest change first
        # The clock of receipts: the time in which events were read. While events wait on the bus, receipts do as well.
        self._clock: datetime | None = None
        self._read_at: datetime | None = None
        self._receipts_at: dict[UUID, datetime] = {}  # providers with waiting samples, oldest evaluation first

    def __len__(self) -> int:
        """The number of providers that are monitored."""
        return len(self._providers)

    def clear(self) -> None:
        """Forget everything, without a snapshot of it."""
        for provider in self._providers.values():
            _move_gauge(provider.published, None)
        self._providers.clear()
        self._dirty.clear()
        self._evaluated_at.clear()
        self._unsaved.clear()
        self._receipts_at.clear()
        self._clock = self._read_at = None

    def newest_attempt(self) -> datetime | None:
        """When the last attempt of any provider was read."""
        return max((provider.last_seen for provider in self._providers.values()), default=None)

    def record_attempts(self, events: Iterable[AttemptReport], now: datetime) -> None:
        """Record the attempts among ``events`` in the order of their times: a batch is ordered by partition.

        A time in the future counts as ``now``: a clock that is ahead must not expire other evidence.
        """
        events = list(events)
        self._record_attempts(events, now)
        self._record_receipts(events, self._advance_clock(now), now)

    def _record_attempts(self, events: Iterable[AttemptReport], now: datetime) -> None:
        attempts_by_provider: dict[UUID, list[Attempt]] = defaultdict(list)
        for event in events:
            if event.outcome is None or event.provider_id is None or not _is_monitored(event.provider_id):
                continue
            if event.provider_id not in self._providers:
                self._providers[event.provider_id] = MonitoredProvider(
                    event.provider_id, event.project_id, event.channel, now
                )
            attempts_by_provider[event.provider_id].append(
                Attempt(
                    min(event.occurred_at, now),
                    _health_outcome(event),
                    _throttle_duration(event.retry_after_s),
                    None if event.duration_ms is None else event.duration_ms / 1000,
                    event.destination,
                )
            )
        for provider_id, attempts in attempts_by_provider.items():
            provider = self._providers.pop(provider_id)
            provider.last_seen = now
            jitter = self._dice.uniform(0.5, 1.0)
            for attempt in sorted(attempts, key=attrgetter("occurred_at")):
                provider.stats = observe(provider.stats, attempt, self._thresholds, jitter)
                provider.seed = seed_rule.observe(provider.seed, attempt, self._seed_thresholds)
                _count_others(provider, attempt, now, self._thresholds)
            self._providers[provider_id] = provider
            self._dirty[provider_id] = self._unsaved[provider_id] = None

    def _advance_clock(self, now: datetime) -> datetime:
        if self._clock is None or self._read_at is None:
            self._clock = now
        else:
            self._clock += min(max(now - self._read_at, timedelta(0)), _LONGEST_PAUSE)
        self._read_at = now
        return self._clock

    def _record_receipts(self, events: Iterable[AttemptReport], clock: datetime, now: datetime) -> None:
        """Count accepted attempts and receipts; the attempts first, because a batch is ordered by partition."""
        confirmed: list[tuple[MonitoredProvider, AttemptReport]] = []
        for event in events:
            provider = self._providers.get(event.provider_id) if event.provider_id is not None else None
            if provider is None or event.delivery_id is None:
                continue
            if event.outcome == "accepted":
                provider.receipts = receipts.accept(provider.receipts, event.delivery_id, event.destination, clock)
                self._receipts_at.setdefault(provider.provider_id, clock)
            elif event.outcome is None and event.type in _CONFIRMING:
                confirmed.append((provider, event))
        for provider, event in confirmed:
            assert event.delivery_id is not None
            failed = event.type in _NEGATIVE and event.reason in _BLAMES_PROVIDER
            provider.receipts = receipts.confirm(provider.receipts, event.delivery_id, clock, failed=failed)
        for provider_id, evaluated_at in list(islice(self._receipts_at.items(), _RECEIPTS_BATCH)):
            if clock - evaluated_at < _RECEIPTS_INTERVAL:
                break
            del self._receipts_at[provider_id]
            waits = self._providers.get(provider_id)
            if waits is not None and waits.receipts.waiting:
                self._evaluate_receipts(waits, clock, now)
                self._receipts_at[provider_id] = clock

    def _evaluate_receipts(self, provider: MonitoredProvider, clock: datetime, now: datetime) -> None:
        before = provider.receipts
        found = receipts.evaluate(before, clock, now, hold=True)
        if found.is_suspect and not self._all_suspect(provider, clock):
            found = receipts.evaluate(found, clock, now)
        provider.receipts = found
        if found is not before:
            self._dirty[provider.provider_id] = self._unsaved[provider.provider_id] = None

    def _all_suspect(self, provider: MonitoredProvider, clock: datetime) -> bool:
        """Whether receipts of all other providers fail as well: the loss is then more likely at this end."""
        peers = [
            overall
            for other in self._providers.values()
            if other is not provider
            if (overall := other.receipts.overall).established
            if overall.counted_at is not None and clock - overall.counted_at <= _PEER_AGE
        ]
        return bool(peers) and all(one.silent_since or one.suspicion >= _PEER_SUSPICION for one in peers)

    def changed_statuses(self, now: datetime) -> list[ProviderHealth]:
        """The statuses that have changed since they were last returned; each change is returned once."""
        changed = []
        for provider_id in self._due_for_evaluation(now):
            provider = self._providers[provider_id]
            provider.stats = decay(provider.stats, now, self._thresholds)
            _decay_others(provider, now, self._thresholds)
            if _has_changed(provider, now, self._thresholds):
                health = _health_of(provider, now, self._thresholds)
                _move_gauge(provider.published, health)
                provider.published = health
                self._unsaved[provider_id] = None
                changed.append(health)
            if _decays(provider):
                self._evaluated_at[provider_id] = now
        self._drop_stale(now)
        return changed

    def statuses(self, now: datetime) -> list[ProviderHealth]:
        """The current status of every provider."""
        return [_health_of(provider, now, self._thresholds) for provider in self._providers.values()]

    def pending_snapshots(self, limit: int) -> dict[UUID, bytes | None]:
        """Snapshots of up to ``limit`` changed providers, for :meth:`restore`; None for a provider that was dropped.

        Each change is returned once, the oldest first; :meth:`restore_pending` takes back those that were not written.
        """
        changed = list(islice(self._unsaved, limit))
        for provider_id in changed:
            del self._unsaved[provider_id]
        return {
            provider_id: _dump(provider) if (provider := self._providers.get(provider_id)) else None
            for provider_id in changed
        }

    def restore_pending(self, provider_ids: Iterable[UUID]) -> None:
        """The snapshots of these providers were not written."""
        self._unsaved |= dict.fromkeys(provider_ids)

    def mark_all_dirty(self) -> None:
        """All snapshots are lost."""
        self.restore_pending(self._providers)

    def restore(self, kept: Mapping[bytes, bytes], now: datetime) -> list[bytes]:
        """Restore the snapshots of an earlier process; returns the keys of those that this version cannot use."""
        unusable, providers = [], []
        for key, value in kept.items():
            try:
                provider = _SNAPSHOT.validate_json(value)
            except ValidationError:
                provider = None
            if provider is not None and _is_monitored(provider.provider_id):
                providers.append(provider)
            else:
                unusable.append(key)
        for provider in sorted(providers, key=attrgetter("last_seen")):
            self._providers[provider.provider_id] = provider
            self._evaluated_at[provider.provider_id] = now
            _move_gauge(None, provider.published)
        return unusable

    def _due_for_evaluation(self, now: datetime) -> dict[UUID, None]:
        """Providers with new attempts, and those whose last evaluation is long ago."""
        due, self._dirty = self._dirty, {}
        for provider_id, evaluated_at in self._evaluated_at.items():
            if now - evaluated_at < _REPUBLISH_INTERVAL:
                break
            due[provider_id] = None
        for provider_id in due:
            self._evaluated_at.pop(provider_id, None)
        return due

    def _drop_stale(self, now: datetime) -> None:
        while self._providers:
            provider_id, provider = next(iter(self._providers.items()))
            if now - provider.last_seen < _PROVIDER_TTL:
                return
            del self._providers[provider_id]
            self._evaluated_at.pop(provider_id, None)
            self._unsaved[provider_id] = None
            _move_gauge(provider.published, None)


def _is_monitored(provider_id: UUID) -> bool:
    """The sandbox is no provider: every routing decision of a test message takes it."""
    return provider_id != SANDBOX_PROVIDER_ID


_SNAPSHOT = TypeAdapter(MonitoredProvider)


def _dump(provider: MonitoredProvider) -> bytes:
    """The snapshot, without the attempts that wait for receipts: they come while no process reads them."""
    lasting = provider.receipts._replace(waiting={}, sampled_at=None)
    return _SNAPSHOT.dump_json(replace(provider, receipts=lasting))


def _throttle_duration(seconds: float | None) -> timedelta | None:
    """The pause that a throttling provider asked for, at most an hour; None without a positive number."""
    return timedelta(seconds=min(seconds, _MAX_THROTTLE)) if seconds and seconds > 0 else None


def _health_of(provider: MonitoredProvider, now: datetime, thresholds: HealthThresholds) -> ProviderHealth:
    stats = receipts.overlay(provider.stats, provider.receipts, thresholds)
    return ProviderHealth(
        provider_id=provider.provider_id,
        project_id=provider.project_id,
        channel=provider.channel,
        **_state_of(stats, thresholds),
        evidence=_evidence_of(provider, stats, thresholds),
        suspended_until=stats.suspended_until,
        destinations={
            name: HealthState(**_state_of(each, thresholds))
            for name, each in stats.destinations.items()
            if each.changed_at is not None
        },
        seed=_seed_state(provider.seed),
        updated_at=now,
    )


def _state_of(stats: ProviderStats, thresholds: HealthThresholds) -> dict[str, Any]:
    state: dict[str, Any] = {
        "status": stats.status,
        "reason": stats.reason,
        "since": stats.changed_at,
        "error_rate": _error_rate(stats),
        "effective_samples": round(stats.calls, 1),
    }
    if stats.status != HEALTHY:
        interval = thresholds.degraded_probe_interval if stats.status == DEGRADED else 0.0
        return state | {"probe_at": stats.probe_at, "probe_interval": interval, "probe_results": stats.probe_results}
    if stats.changed_at is None or not thresholds.ramp:
        return state
    full_share_at = stats.changed_at + timedelta(seconds=thresholds.ramp)
    return state | {"healthy_since": stats.changed_at, "full_share_at": full_share_at}


def _evidence_of(provider: MonitoredProvider, stats: ProviderStats, thresholds: HealthThresholds) -> HealthEvidence:
    needed = {DEGRADED: thresholds.degraded_probe_successes, HEALTHY: 0}.get(stats.status, thresholds.probe_successes)
    if stats.cause == receipts.CAUSE:
        needed = receipts.RELIEF_SAMPLES
    return HealthEvidence(
        failures=round(stats.failures, 1),
        slow_calls=round(stats.slow_calls, 1),
        usual_latency=None if stats.usual_latency is None else round(stats.usual_latency, 4),
        consecutive_failures=stats.consecutive_failures,
        cause=stats.cause,
        probe_successes=stats.probe_successes,
        probes_needed=needed,
        degraded_error_rate=thresholds.degraded_error_rate,
        unhealthy_error_rate=thresholds.unhealthy_error_rate,
        not_counted={outcome: rounded for outcome, n in provider.not_counted.items() if (rounded := round(n, 1))},
        receipts=_receipt_evidence(provider.receipts),
    )


def _receipt_evidence(stats: ReceiptStats) -> ReceiptEvidence | None:
    overall = stats.overall
    if not overall.established or not overall.recent:
        return None
    return ReceiptEvidence(
        recent_share=round(overall.recent_good / overall.recent, 3),
        usual_share=round(overall.usual, 3),
        late_failures=round(overall.recent_failed / overall.recent, 3),
        wait=round(stats.wait, 1),
        silent_since=overall.silent_since,
    )


_COUNTED = frozenset({*FAILURE_WEIGHT, "auth_failed", "unresponsive", "probe_requested", ""})


def _count_others(provider: MonitoredProvider, attempt: Attempt, now: datetime, thresholds: HealthThresholds) -> None:
    """Count an attempt that is no evidence about the provider, for those who ask why a status is what it is."""
    if attempt.outcome not in _COUNTED:
        _decay_others(provider, now, thresholds)
        provider.not_counted[attempt.outcome] = provider.not_counted.get(attempt.outcome, 0.0) + 1.0


def _decay_others(provider: MonitoredProvider, now: datetime, thresholds: HealthThresholds) -> None:
    before, provider.not_counted_at = provider.not_counted_at, now
    if before is not None and provider.not_counted and now > before:
        factor = 0.5 ** ((now - before).total_seconds() / thresholds.half_life)
        provider.not_counted = {outcome: n * factor for outcome, n in provider.not_counted.items() if n >= 0.05}


def _seed_state(stats: SeedStats) -> HealthState | None:
    if stats.status == HEALTHY:
        return None
    return HealthState(
        status=stats.status,
        reason=stats.reason,
        since=stats.ejected_at,
        error_rate=round(stats.error_rate, 4),
        effective_samples=stats.attempts,
        probe_at=stats.out_until,
    )


def _error_rate(stats: ProviderStats) -> float:
    return round(stats.error_rate, 4)


def _has_changed(provider: MonitoredProvider, now: datetime, thresholds: HealthThresholds) -> bool:
    published, stats = provider.published, receipts.overlay(provider.stats, provider.receipts, thresholds)
    if published is None:
        return True
    if _decisive(published) != _decisive(stats) or published.suspended_until != stats.suspended_until:
        return True
    seed, published_seed = provider.seed, published.seed or _HEALTHY_SEED
    if (published_seed.status, published_seed.probe_at) != (seed.status, seed.out_until):
        return True
    if {name: _decisive(each) for name, each in published.destinations.items()} != {
        name: _decisive(each) for name, each in stats.destinations.items() if each.changed_at is not None
    }:
        return True
    age = now - published.updated_at
    if age >= _NUMBERS_INTERVAL and _numbers_moved(published, provider):
        return True
    return age >= _REPUBLISH_INTERVAL and abs(published.error_rate - _error_rate(stats)) >= _REPUBLISHED_CHANGE


def _numbers_moved(published: ProviderHealth, provider: MonitoredProvider) -> bool:
    """Whether the numbers behind an error rate differ much from those that were published."""
    stats, evidence = provider.stats, published.evidence
    pairs = (
        (published.effective_samples, stats.calls),
        (evidence.slow_calls, stats.slow_calls),
        (sum(evidence.not_counted.values()), sum(provider.not_counted.values())),
    )
    return any(abs(after - before) >= max(1.0, _NUMBERS_CHANGE * before) for before, after in pairs)


_HEALTHY_SEED = HealthState(status=HEALTHY)


def _decisive(state: HealthState | ProviderStats) -> tuple[object, ...]:
    """What routers decide by."""
    return (HEALTHY,) if state.status == HEALTHY else (state.status, state.probe_at, state.probe_results)


def _decays(provider: MonitoredProvider) -> bool:
    """Whether the weight of evidence will change a published number."""
    published, stats = provider.published, provider.stats
    return (
        published is None or stats.calls >= 1 or abs(published.error_rate - _error_rate(stats)) >= _REPUBLISHED_CHANGE
    )


def _move_gauge(before: ProviderHealth | None, after: ProviderHealth | None) -> None:
    """Keep the gauge of providers by status."""
    if before is not None:
        metrics.PROVIDERS.labels(before.channel.value, before.status).dec()
    if after is not None:
        metrics.PROVIDERS.labels(after.channel.value, after.status).inc()


def _health_outcome(event: AttemptReport) -> str:
    """The outcome as the breaker counts it: only what concerns the account, and a declined account is at fault."""
    if event.outcome == "declined" and event.scope == Scope.ACCOUNT:
        return "provider_fault"
    if event.outcome == "throttled" and event.scope not in (None, Scope.ACCOUNT):
        return "declined"  # one sender or recipient: no evidence
    if event.outcome in ("unknown", "provider_fault") and event.scope == Scope.MESSAGE:
        return "worker_lost"  # nothing saw the call end, or a worker that was paused did not make it: no evidence
    return event.outcome or ""
