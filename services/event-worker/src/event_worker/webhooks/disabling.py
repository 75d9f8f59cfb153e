"""Disables endpoints that are gone or keep failing. The notice is an entry of the audit log, and mail to the owners."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import structlog

from sluice.delivery.mailer import Mailer
from sluice.model import ids
from sluice.model.webhooks import DisabledReason
from sluice.runtime import failpoints, metrics
from sluice.runtime.clock import utc_now
from sluice.store import audit, webhooks
from sluice.store.db import Pool
from sluice.store.webhooks import Disabled

log = structlog.get_logger()

_CAUSES = {
    DisabledReason.GONE: "It answered 410 Gone.",
    DisabledReason.FAILING: "Every request to it has failed for days, and the last retry of one of them, too.",
}


class EndpointDisabler:
    """Disables endpoints. ``failing_for``: how long no request may have succeeded before a failing one is disabled."""

    def __init__(self, pool: Pool, mailer: Mailer, *, failing_for: timedelta) -> None:
        self._pool = pool
        self._mailer = mailer
        self._failing_for = failing_for

    async def disable(self, endpoint_id: UUID, reason: DisabledReason, *, updated_at: datetime) -> None:
        """Disable the endpoint and send notices, unless it is disabled or was changed since ``updated_at``.

        For FAILING, only an endpoint that had no success for long enough.
        """
        now = utc_now()
        failing_before = now - self._failing_for if reason is DisabledReason.FAILING else None
        assert failpoints.hit("webhook.before_disable")
        async with self._pool.acquire() as db, db.transaction():
            disabled = await webhooks.disable_endpoint(
                db, endpoint_id, reason, updated_at=updated_at, failing_before=failing_before, now=now
            )
            if disabled is None:
                return
            await audit.append(
                db,
                audit.SYSTEM,
                project_id=disabled.endpoint.scope.project_id,
                action="disabled",
                noun="webhook",
                object_id=ids.encode_id("whk", endpoint_id),
                changes={"enabled": False, "reason": reason.value},
                now=now,
            )
        assert failpoints.hit("webhook.disabled")
        metrics.series(metrics.WEBHOOKS_DISABLED, reason.value).inc()
        log.warning("webhook_disabled", webhook=ids.encode_id("whk", endpoint_id), reason=reason.value)
        if self._mailer.is_configured:
            self._mailer.start(self._mail(disabled, reason))

    async def _mail(self, disabled: Disabled, reason: DisabledReason) -> None:
        endpoint = disabled.endpoint
        for owner in disabled.owners:
            await self._mailer.mail(
                owner,
                subject=f"A webhook of {disabled.project_slug} was disabled",
                text=f"The webhook {ids.encode_id('whk', endpoint.id)} of the project {disabled.project_slug} was "
                f"disabled:\n\n{endpoint.settings.url}\n\n{_CAUSES[reason]} Events are kept: once the webhook is "
                "enabled again, a replay sends what it missed.\n",
            )
