"""The health of all providers: fed with events, asked for verdicts, told to the bus when something changed."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import TypeAdapter

from health.verdict import Attempt, Record, Thresholds, at_time, observe
from sluice import metrics
from sluice.bus.events import DeliveryEvent, ProviderHealth
from sluice.model.message import Channel

_REFRESH = timedelta(seconds=5)  # a verdict that stands is told again at most this often, for its numbers

_LONGEST_HOLD = 3600.0  # seconds


@dataclass(frozen=True, slots=True)
class Watched:
    """A provider and what is known of it."""

    provider_id: UUID
    project_id: UUID
    channel: Channel
    record: Record
    told: ProviderHealth | None = None


class Watch:
    """What every provider's attempts add up to."""

    def __init__(self, thresholds: Thresholds) -> None:
        self._thresholds = thresholds
        self._watched: dict[UUID, Watched] = {}

    def take(self, events: Iterable[DeliveryEvent]) -> None:
        """Count the attempts among ``events``."""
        for event in events:
            if event.outcome is None or event.provider_id is None:
                continue
            known = self._watched.get(event.provider_id)
            if known is None:
                known = Watched(event.provider_id, event.project_id, event.channel, Record())
            try:
                record = observe(
                    known.record,
                    Attempt(event.at, event.outcome, _hold(event.retry_after_s)),
                    self._thresholds,
                    random.uniform(0.5, 1.0),  # noqa: S311
                )
            except OverflowError:
                continue  # at the edge of the calendar: no evidence
            self._watched[event.provider_id] = Watched(
                known.provider_id, known.project_id, known.channel, record, known.told
            )

    def news(self, now: datetime) -> list[ProviderHealth]:
        """The verdicts that have changed since they were last told; each is told once."""
        found = []
        for provider_id, known in self._watched.items():
            record = at_time(known.record, now, self._thresholds)
            verdict = _verdict(known, record, now)
            if _is_news(known.told, verdict):
                found.append(verdict)
                known = Watched(known.provider_id, known.project_id, known.channel, record, verdict)
            elif record is not known.record:
                known = Watched(known.provider_id, known.project_id, known.channel, record, known.told)
            self._watched[provider_id] = known
        self._count()
        return found

    def verdicts(self, now: datetime) -> list[ProviderHealth]:
        """All of them, as they are now."""
        return [_verdict(known, known.record, now) for known in self._watched.values()]

    def snapshot(self) -> bytes:
        """Everything that is known, for :meth:`restore`."""
        return _SNAPSHOT.dump_json(list(self._watched.values()))

    def restore(self, snapshot: bytes) -> None:
        """Take up what another process knew.

        Raises:
            ValidationError: it is not a snapshot of this version.
        """
        self._watched = {known.provider_id: known for known in _SNAPSHOT.validate_json(snapshot)}

    def _count(self) -> None:
        metrics.HEALTH.clear()
        for known in self._watched.values():
            metrics.HEALTH.labels(known.channel.value, known.record.verdict).inc()


def _hold(seconds: float | None) -> timedelta | None:
    """What a throttling provider asked for; None for what cannot be meant."""
    return timedelta(seconds=min(seconds, _LONGEST_HOLD)) if seconds and seconds > 0 else None


_SNAPSHOT = TypeAdapter(list[Watched])


def _verdict(known: Watched, record: Record, now: datetime) -> ProviderHealth:
    return ProviderHealth(
        provider_id=known.provider_id,
        project_id=known.project_id,
        channel=known.channel,
        verdict=record.verdict,
        reason=record.reason,
        probe_at=record.probe_at,
        hold_until=record.hold_until,
        error_rate=round(record.error_rate, 4),
        sample=len(record.recent),
        at=now,
    )


def _is_news(told: ProviderHealth | None, verdict: ProviderHealth) -> bool:
    if told is None:
        return True
    if (told.verdict, told.probe_at, told.hold_until) != (verdict.verdict, verdict.probe_at, verdict.hold_until):
        return True
    return told.error_rate != verdict.error_rate and verdict.at - told.at > _REFRESH
