"""The bulkheads of a worker and the loop that watches them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from uuid import UUID

import structlog

from sluice.bus.messages import ProviderUnresponsive
from sluice.bus.publisher import Publisher
from sluice.bus.topics import Topic
from sluice.delivery.bulkhead import Bulkhead
from sluice.delivery.job import Job
from sluice.providers import registry
from sluice.routing.decision import decide
from sluice.routing.selection import Health, Selected
from sluice.runtime import metrics
from sluice.runtime.clock import utc_now
from sluice.store.config_cache import ConfigCache
from sluice.store.providers import ProviderRow

log = structlog.get_logger()

_CHECK_INTERVAL = 0.1  # seconds
_MEASURE_INTERVAL = 1.0  # seconds; thousands of idle bulkheads are added up, too
_LATE = 0.25  # seconds; after a longer pause of the event loop, answers may be there that no task has read yet

_MEASURES = (metrics.BULKHEAD_SLOTS, metrics.BULKHEAD_SLOTS_USED, metrics.BULKHEAD_WAITING)


class Bulkheads:
    """One bulkhead per provider, as large as the provider's configuration says."""

    def __init__(self, config: ConfigCache, default_concurrency: int) -> None:
        self._config = config
        self._default = default_concurrency
        self._bulkheads: dict[UUID, Bulkhead[Job]] = {}
        self._measured: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[tuple[UUID, Bulkhead[Job]]]:
        return iter(list(self._bulkheads.items()))

    def get(self, provider_id: UUID) -> Bulkhead[Job]:
        """The provider's bulkhead, resized if the configuration has changed."""
        row = self._config.providers.get(provider_id)
        version = 0 if row is None else row.version
        bulkhead = self._bulkheads.get(provider_id)
        if bulkhead is None:
            bulkhead = self._bulkheads[provider_id] = Bulkhead(
                self._concurrency(row), call_rate=_call_rate(row), version=version
            )
        elif bulkhead.version != version:
            bulkhead.resize(self._concurrency(row), call_rate=_call_rate(row), version=version)
        return bulkhead

    def permits_of(self, job: Job) -> int:
        """The permits that a job's call needs: one, or one for each segment where the call rate counts these."""
        row = self._config.providers.get(job.provider_id)
        return job.task.segments if row is not None and _SEGMENT_RATE in row.settings else 1

    def measure(self) -> None:
        """Set the metrics: by package, since a worker may serve thousands of providers."""
        totals: dict[str, tuple[int, int, int]] = dict.fromkeys(self._measured, (0, 0, 0))
        saturated = 0
        for provider_id, bulkhead in self._bulkheads.items():
            row = self._config.providers.get(provider_id)
            package = row.package if row is not None else "deleted"
            slots, used, waiting = totals.get(package, (0, 0, 0))
            totals[package] = (slots + bulkhead.concurrency, used + bulkhead.used, waiting + bulkhead.waiting)
            saturated += bulkhead.saturated
        for package, numbers in totals.items():
            for metric, number in zip(_MEASURES, numbers, strict=True):
                metrics.series(metric, package).set(number)
        metrics.SATURATED_PROVIDERS.set(saturated)
        self._measured = frozenset(totals)

    def _concurrency(self, row: ProviderRow | None) -> int:
        if row is None:
            return self._default
        configured = row.settings.get("concurrency") or registry.get_package(row.package).concurrency
        return configured if isinstance(configured, int) and configured > 0 else self._default


_SEGMENT_RATE = "segments_per_second"  # a setting


def _call_rate(row: ProviderRow | None) -> int | None:
    if row is None:
        return None
    configured = row.settings.get("calls_per_second") or row.settings.get(_SEGMENT_RATE)
    return configured if isinstance(configured, int) and configured > 0 else None


MAX_HOPS = 3  # hand-backs between two attempts of a delivery


class BulkheadMonitor:
    """Reroutes jobs that wait too long, reports unresponsive providers, and restarts throttled bulkheads.

    ``queue_timeout`` is the longest wait for a slot, seconds. ``reroute`` returns a job to the router with a reason;
    ``dispatch`` starts the jobs of a bulkhead that can acquire a slot.
    """

    def __init__(
        self,
        bulkheads: Bulkheads,
        *,
        config: ConfigCache,
        health: Health,
        publisher: Publisher,
        queue_timeout: float,
        reroute: Callable[[Job, str], None],
        dispatch: Callable[[UUID, Bulkhead[Job]], None],
    ) -> None:
        self._bulkheads = bulkheads
        self._config = config
        self._health = health
        self._publisher = publisher
        self._queue_timeout = queue_timeout
        self._reroute = reroute
        self._dispatch = dispatch

    async def run(self) -> None:
        """Check all bulkheads in short intervals, forever."""
        interval = min(_CHECK_INTERVAL, self._queue_timeout / 4)
        measure_at = 0.0
        while True:
            before = time.monotonic()
            await asyncio.sleep(interval)
            now = time.monotonic()
            busy = [(provider_id, bulkhead) for provider_id, bulkhead in self._bulkheads if not bulkhead.idle]
            if now >= measure_at:
                self._bulkheads.measure()
                measure_at = now + _MEASURE_INTERVAL
            for provider_id, bulkhead in busy:
                self._check(provider_id, bulkhead, now, late=now - before > _LATE)

    def _check(self, provider_id: UUID, bulkhead: Bulkhead[Job], now: float, *, late: bool) -> None:
        if not late:
            bulkhead.check(now, self._queue_timeout)
        for job in bulkhead.expired(now, self._queue_timeout):
            self.on_queue_timeout(bulkhead, job, now)
        self._dispatch(provider_id, bulkhead)
        saturated_for = bulkhead.report(now, self._queue_timeout)
        if saturated_for is not None:
            self._report_unresponsive(provider_id, bulkhead.concurrency, saturated_for)

    def on_queue_timeout(self, bulkhead: Bulkhead[Job], job: Job, now: float) -> None:
        """Handle a job that has waited too long for a slot.

        The job is handed back if the router would not select this provider again now: it goes to another one that has
        a free slot, or waits in the database for the end of a suspension. Otherwise it is enqueued again with a new
        wait: handed back, it would only come back.
        """
        if job.task.hops < MAX_HOPS and self._would_leave(job):
            self._reroute(job, "provider concurrency limit reached")
        else:
            bulkhead.enqueue(job, now, urgent=job.urgent, permits=self._bulkheads.permits_of(job))

    def _would_leave(self, job: Job) -> bool:
        task = job.task.model_copy(update={"deprioritized": (*job.task.deprioritized, job.provider_id)})
        selection, _ = decide(task, self._config, self._health, utc_now(), lambda _target, _now, _urgent: False)
        if not isinstance(selection, Selected):
            return True
        provider_id = selection.provider.id
        return provider_id != job.provider_id and not self._bulkheads.get(provider_id).saturated

    def _report_unresponsive(self, provider_id: UUID, concurrency: int, saturated_for: float) -> None:
        """Publish the finding for the health service, before the first timeout shows it."""
        row = self._config.providers.get(provider_id)
        if row is None:
            return
        report = ProviderUnresponsive(
            provider_id=provider_id,
            project_id=row.project_id,
            channel=row.channel,
            concurrency=concurrency,
            unresponsive_for_s=round(saturated_for, 1),
            occurred_at=utc_now(),
        )
        log.warning(
            "provider_unresponsive",
            provider=str(provider_id),
            concurrency=concurrency,
            seconds=report.unresponsive_for_s,
        )
        self._publisher.publish(Topic.EVENTS, provider_id.bytes, report.encode())
