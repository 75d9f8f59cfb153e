"""Deliveries that wait for the end of a suspension are due as soon as a provider can be called again.

A suspension ends before its time when an operator mends the account, and another provider may be added meanwhile. Each
router watches the health and the configuration that it routes with, so that nothing is read from the database until
something has changed (0082).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sluice.model.message import Channel
from sluice.routing.selection import Health
from sluice.store import backlog
from sluice.store.config_cache import ConfigCache
from sluice.store.db import Db

_BATCH = 5_000  # deliveries made due in one pass, of one project and channel
# Passes that make deliveries due after a suspension has ended: a router that has not read of the end yet defers some
# meanwhile.
_PASSES = 2


@dataclass(slots=True)
class _Watched:
    """A channel of a project that has a suspended provider."""

    suspended: dict[UUID, datetime] = field(default_factory=dict)  # the end, by provider
    candidates: AbstractSet[UUID] = frozenset()
    ends: set[datetime] = field(default_factory=set)  # of all its suspensions that have not passed
    passes: int = 0  # that are left to make deliveries due


class SuspensionWatch:
    """Makes deliveries due when the suspension for which they wait has ended early."""

    def __init__(self, config: ConfigCache, health: Health) -> None:
        self._config = config
        self._health = health
        self._watched: dict[tuple[UUID, Channel], _Watched] = {}

    async def run_once(self, db: Db, now: datetime) -> None:
        """Compare with the state of the last pass, and make due what waits for an end that has come."""
        self._watched = self._watch(now)
        for (project_id, channel), one in self._watched.items():
            if one.passes and await backlog.make_due(db, project_id, channel, one.ends, limit=_BATCH) < _BATCH:
                one.passes -= 1

    def _watch(self, now: datetime) -> dict[tuple[UUID, Channel], _Watched]:
        watched: defaultdict[tuple[UUID, Channel], _Watched] = defaultdict(_Watched)
        for key, before in self._watched.items():
            if ends := {end for end in before.ends if end > now}:
                watched[key].ends = ends
        for id_, health in self._health.items():
            if health.suspended_until is not None and health.suspended_until > now:
                one = watched[health.project_id, Channel(health.channel)]
                one.suspended[id_] = health.suspended_until
                one.ends.add(health.suspended_until)
        for key, one in watched.items():
            one.candidates = {candidate.id for candidate in self._config.candidates(*key)}
            if (known := self._watched.get(key)) is not None:
                early = {id_ for id_, end in known.suspended.items() if end > now and id_ not in one.suspended}
                changed = early | (one.candidates - known.candidates)
                one.passes = _PASSES if changed & one.candidates else known.passes
        return dict(watched)
