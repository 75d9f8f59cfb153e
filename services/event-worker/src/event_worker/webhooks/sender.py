"""Sends due webhooks: claimed in batches, called with a bounded concurrency per endpoint, recorded in batches.

At least once: the result of a call is recorded after it; a process that ends in between leaves a lease that expires.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import asyncpg
import structlog

from event_worker.settings import EventWorkerSettings
from event_worker.webhooks.body import webhook_body
from event_worker.webhooks.disabling import EndpointDisabler
from event_worker.webhooks.endpoint_call import CallResult, Exchange, call_endpoint
from event_worker.webhooks.retry_schedule import next_pause
from event_worker.webhooks.signatures import signature_headers
from sluice.model.webhooks import DisabledReason, WebhookStatus, event_id
from sluice.runtime import failpoints, metrics
from sluice.runtime.batching import Batcher, BatchPacer
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import TaskSet
from sluice.store import webhook_deliveries, webhooks
from sluice.store.cipher import CredentialCipher
from sluice.store.db import UNAVAILABLE_ERRORS, Pool
from sluice.store.webhook_deliveries import Claimed, Result
from sluice.store.webhooks import Target

log = structlog.get_logger()

_MAX_ENDPOINTS = 200  # endpoints served by one claim
_PACE = 0.05  # seconds between claims, and between records of results
_BATCH = 500  # results of one statement
_RETRY_DELAY = 0.5  # seconds before a statement is repeated while PostgreSQL is unavailable
_MEASURE_INTERVAL = 10.0  # seconds
_FIRST = UUID(int=0)


class WebhookSender:
    """Sends the webhooks of all projects from this process; any number of processes may run it."""

    def __init__(
        self,
        pool: Pool,
        cipher: CredentialCipher,
        transport: Exchange,
        disabler: EndpointDisabler,
        settings: EventWorkerSettings,
    ) -> None:
        self._pool = pool
        self._cipher = cipher
        self._transport = transport
        self._disabler = disabler
        self._settings = settings
        self._lease = timedelta(seconds=settings.webhook_lease)
        self._in_flight: Counter[UUID] = Counter()
        self._calls = TaskSet()
        self._wake = asyncio.Event()
        self._after = _FIRST  # the endpoint behind which the next claim begins
        self._closing = False
        self._results: Batcher[Result, None] = Batcher(
            self._record, name="webhook-results", size=_BATCH, parallel=1, pace=_PACE
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[WebhookSender]:
        """Record results until the block ends; calls in progress get ``webhook_timeout`` to finish, at most 10 s."""
        async with self._results.running():
            try:
                yield self
            finally:
                self._closing = True
                await self._calls.join(within=min(10.0, self._settings.webhook_timeout))

    async def measure(self) -> None:
        """Update the metric of the oldest due webhook for ever."""
        while True:
            with contextlib.suppress(*UNAVAILABLE_ERRORS):
                metrics.WEBHOOK_OLDEST_DUE_AGE.set(await webhook_deliveries.oldest_due_age(self._pool))
            await asyncio.sleep(_MEASURE_INTERVAL)

    def wake(self) -> None:
        """Look for due webhooks without waiting for the next poll."""
        self._wake.set()

    async def run(self) -> None:
        """Claim and send for ever; while PostgreSQL is unavailable, claims are repeated."""
        pacer = BatchPacer(_PACE)
        while True:
            await pacer.wait()
            try:
                if await self.claim_once():
                    continue
            except UNAVAILABLE_ERRORS as error:
                log.warning("webhooks_retrying", missing="postgres", error=type(error).__name__)
                await asyncio.sleep(_RETRY_DELAY)
            except asyncpg.PostgresError:
                log.exception("webhook_claim_failed")
                await asyncio.sleep(_RETRY_DELAY)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._settings.webhook_poll_interval)

    async def claim_once(self) -> bool:
        """Claim what is due and start its calls; whether there may be more to claim now."""
        self._wake.clear()
        began = self._after
        endpoints = await webhook_deliveries.list_due_endpoints(self._pool, after=began, limit=_MAX_ENDPOINTS)
        self._after = endpoints[-1] if len(endpoints) == _MAX_ENDPOINTS else _FIRST
        claimed = await self._claim(self._shares(endpoints))
        return bool(claimed) or began != _FIRST or self._after != _FIRST

    async def _claim(self, shares: Mapping[UUID, int]) -> int:
        if not shares:
            return 0
        targets = await webhooks.load_targets(self._pool, self._cipher, list(shares))
        assert failpoints.hit("webhook.before_claim")
        claimed = await webhook_deliveries.claim(self._pool, shares, lease=self._lease)
        assert failpoints.hit("webhook.claimed")
        for one in claimed:
            self._in_flight[one.endpoint_id] += 1
            self._calls.spawn(self._send(one, targets.get(one.endpoint_id)))
        return len(claimed)

    def _shares(self, endpoints: Sequence[UUID]) -> Mapping[UUID, int]:
        """How many deliveries of each endpoint are claimed: the free slots divided equally, within its own bound.

        An endpoint without a call in flight gets one slot even when none is free: others that are slow never stop it.
        """
        free = max(0, self._settings.webhook_total_concurrency - self._in_flight.total())
        fair = free // max(1, len(endpoints))
        shares = {}
        for one in endpoints:
            calls = self._in_flight[one]
            share = min(max(fair, 0 if calls else 1), self._settings.webhook_concurrency - calls)
            if share > 0:
                shares[one] = share
        return shares

    async def _send(self, claimed: Claimed, target: Target | None) -> None:
        try:
            result, disabled = await self._attempt(claimed, target)
            result = result._replace(endpoint_updated_at=None if target is None else target.updated_at)
            await self._results.submit(result)
            if disabled is not None and target is not None:
                await self._disabler.disable(claimed.endpoint_id, disabled, updated_at=target.updated_at)
        except UNAVAILABLE_ERRORS as error:  # the lease expires, and the webhook is sent again
            log.warning("webhook_not_recorded", error=type(error).__name__)
        except Exception:
            log.exception("webhook_failed")
        finally:
            self._in_flight -= Counter((claimed.endpoint_id,))  # drops the count of zero
            self._wake.set()

    async def _attempt(self, claimed: Claimed, target: Target | None) -> tuple[Result, DisabledReason | None]:
        """Make the attempt, and decide what follows from it."""
        body = webhook_body(claimed)
        if target is None or not target.enabled or body is None:
            return _result(claimed, WebhookStatus.SKIPPED), None
        if not target.secrets:
            call = CallResult(utc_now(), 0, None, "the signing secret cannot be decrypted")
        else:
            call = await self._call(claimed, target, body)
        self._count(call)
        if call.error is None:
            return _result(claimed, WebhookStatus.DELIVERED, call), None
        if call.is_gone:
            return _result(claimed, WebhookStatus.EXHAUSTED, call), DisabledReason.GONE
        pause = next_pause(self._settings.webhook_retry_schedule, claimed.retry_step, asked=call.retry_after)
        if pause is None or claimed.is_test:
            failing = None if claimed.is_test else DisabledReason.FAILING
            return _result(claimed, WebhookStatus.EXHAUSTED, call), failing
        return _result(claimed, WebhookStatus.PENDING, call)._replace(due_at=utc_now() + pause), None

    async def _call(self, claimed: Claimed, target: Target, body: bytes) -> CallResult:
        now = utc_now()
        headers = signature_headers(event_id(claimed.delivery_id, claimed.sequence), body, target.secrets, now=now)
        assert failpoints.hit("webhook.before_call")
        call = await call_endpoint(
            self._transport, target.url, body, headers, timeout=self._settings.webhook_timeout, now=now
        )
        assert failpoints.hit("webhook.answered")
        return call

    def _count(self, call: CallResult) -> None:
        metrics.series(metrics.WEBHOOK_ATTEMPTS, "delivered" if call.error is None else "failed").inc()
        metrics.WEBHOOK_REQUEST_DURATION.observe(call.duration_ms / 1000)

    async def _record(self, results: Sequence[Result]) -> Sequence[None]:
        """Record a batch; while PostgreSQL is unavailable it is repeated, but not beyond the end of the process."""
        while True:
            assert failpoints.hit("webhook.before_record")
            try:
                await webhook_deliveries.settle(self._pool, results)
            except UNAVAILABLE_ERRORS:
                if self._closing:
                    raise
                await asyncio.sleep(_RETRY_DELAY)
                continue
            assert failpoints.hit("webhook.recorded")
            return [None] * len(results)


def _result(claimed: Claimed, status: WebhookStatus, call: CallResult | None = None) -> Result:
    """The result of a claimed delivery, settled; without a call no attempt was made."""
    result = Result(
        claimed.delivery_id, claimed.sequence, claimed.endpoint_id, claimed.leased_until, status, due_at=None
    )
    if call is None:
        return result
    return result._replace(
        number=claimed.attempt_count + 1,
        started_at=call.started_at,
        duration_ms=call.duration_ms,
        response_status=call.status,
        error=call.error,
        answer=call.answer,
    )
