"""Quotas per project: deliveries of a day, their urgent share, bytes of stored attachments (finding 16).

A gateway counts what it accepts in memory and adds it to the database every second, so that no message costs a
statement. Until the next refresh it does not see what the other gateways accept: together they may exceed a quota by
what they accept in a second.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple
from uuid import UUID

import structlog

from gateway.errors import QuotaExceeded
from sluice.model.message import DeliveryClass
from sluice.runtime.clock import utc_now
from sluice.store import project_usage
from sluice.store.db import UNAVAILABLE_ERRORS, Pool, rows_of
from sluice.store.ingest import NewMessage
from sluice.store.project_usage import Usage
from sluice.store.projects import ProjectScope

log = structlog.get_logger()

FREE_URGENT = 10_000  # urgent deliveries of a day that count towards no share: a project may send little, all urgent
_REFRESH_INTERVAL = 1.0  # seconds
_ATTACHMENTS_INTERVAL = 300.0  # seconds between two counts of all stored attachments


class QuotaLimits(NamedTuple):
    """What a project may use; 0: no limit. ``urgent_share`` is a fraction of a day's deliveries, 1: no limit.

    ``messages_per_day``: deliveries; a message counts once for each recipient, an e-mail once.
    """

    messages_per_day: int = 0
    urgent_share: float = 1.0
    attachment_bytes: int = 0


UNLIMITED = QuotaLimits()


class ProjectQuota:
    """The quotas of all projects; test and live messages count apart, attachments together."""

    def __init__(self, limits: QuotaLimits, now: Callable[[], datetime] = utc_now) -> None:
        self._limits = limits
        self._now = now
        self._day = now().date()
        self._used: dict[ProjectScope, Usage] = {}
        self._unsaved: dict[ProjectScope, Usage] = {}
        self._attachments: Counter[UUID] = Counter()

    def check(self, message: NewMessage) -> None:
        """Refuse a message for which the project has no quota left; nothing is counted.

        Raises:
            QuotaExceeded: with the time after which there is some again.
        """
        self._begin_day()
        limits = self._limits
        used = self._used.get(ProjectScope(message.project_id, message.sandbox), Usage())
        deliveries = len(message.deliveries)
        if limits.messages_per_day and used.messages + deliveries > limits.messages_per_day:
            raise QuotaExceeded(
                f"The project's quota is {limits.messages_per_day} messages a day, one for each recipient, and it has "
                f"sent {used.messages} today. The count starts again at midnight UTC.",
                retry_after=self._until_midnight(),
            )
        urgent = used.urgent + deliveries
        if (
            message.delivery_class is DeliveryClass.URGENT
            and urgent > FREE_URGENT
            and urgent > limits.urgent_share * (used.messages + deliveries)
        ):
            raise QuotaExceeded(
                f"class: more than {limits.urgent_share:.0%} of the project's messages of today are urgent. Send it as "
                "standard, or later.",
                field="class",
                retry_after=self._until_midnight(),
            )
        size = _attachment_bytes(message)
        if limits.attachment_bytes and size and self._attachments[message.project_id] + size > limits.attachment_bytes:
            raise QuotaExceeded(
                f"attachments: the project's stored attachments would exceed its quota of {limits.attachment_bytes} "
                "bytes.",
                field="attachments",
                retry_after=3600,
            )

    def count(self, message: NewMessage) -> None:
        """Count an accepted message."""
        self._begin_day()
        scope = ProjectScope(message.project_id, message.sandbox)
        deliveries = len(message.deliveries)
        urgent = deliveries if message.delivery_class is DeliveryClass.URGENT else 0
        for counts in (self._used, self._unsaved):
            used = counts.get(scope, Usage())
            counts[scope] = Usage(used.messages + deliveries, used.urgent + urgent)
        if message.attachments:
            self._attachments[message.project_id] += _attachment_bytes(message)

    async def run(self, pool: Pool) -> None:
        """Save and refresh until cancelled; what is unsaved at the end is saved."""
        attachments_at = 0.0
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    await self.refresh(pool)
                    if self._limits.attachment_bytes and loop.time() >= attachments_at:
                        self._attachments = Counter(await project_usage.attachment_bytes(pool))
                        attachments_at = loop.time() + _ATTACHMENTS_INTERVAL
                except UNAVAILABLE_ERRORS as error:
                    log.warning("quotas_not_refreshed", error=type(error).__name__)
                await asyncio.sleep(_REFRESH_INTERVAL)
        finally:
            if self._unsaved:
                with suppress(*UNAVAILABLE_ERRORS):
                    await self._save(pool)

    async def refresh(self, pool: Pool) -> None:
        """Save what was accepted since the last time, and read what all gateways have accepted today."""
        if self._unsaved:
            await self._save(pool)
        day = self._day
        used = await project_usage.of_day(pool, day)
        if day == self._day:
            for scope, more in self._unsaved.items():
                known = used.get(scope, Usage())
                used[scope] = Usage(known.messages + more.messages, known.urgent + more.urgent)
            self._used = used

    async def _save(self, pool: Pool) -> None:
        day, unsaved = self._day, self._unsaved
        self._unsaved = {}
        try:
            async with rows_of(pool, {scope.project_id for scope in unsaved}) as db:
                await project_usage.add(db, day, unsaved)
        except UNAVAILABLE_ERRORS:
            if day == self._day:
                for scope, used in unsaved.items():
                    more = self._unsaved.get(scope, Usage())
                    self._unsaved[scope] = Usage(used.messages + more.messages, used.urgent + more.urgent)
            raise

    def _begin_day(self) -> None:
        # What was accepted in the last second of a day is not saved.
        today = self._now().date()
        if today != self._day:
            self._day, self._used, self._unsaved = today, {}, {}

    def _until_midnight(self) -> int:
        midnight = datetime.combine(self._day + timedelta(days=1), time(), UTC)
        return max(1, round((midnight - self._now()).total_seconds()))


def _attachment_bytes(message: NewMessage) -> int:
    return sum(len(content) for _, content in message.attachments)
