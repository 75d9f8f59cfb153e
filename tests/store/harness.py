"""The store as tests use it: short methods, and queries of rows."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from sluice.model.message import Channel
from sluice.model.state import EventType
from sluice.store import backlog, cancellation, deliveries, ingest, messages, outbox, recovery
from sluice.store.db import Pool, open_pool, rows_of
from sluice.store.logins import EVENT_WORKER, GATEWAY, OPERATOR, ROUTER, WORKER
from sluice.store.projects import ProjectScope
from tests.engine import as_login
from tests.examples import NOON, PROJECT, a_claim, a_message, a_transition, after

LEASE = timedelta(seconds=12)
WITHIN = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class RolePools:
    """A pool for each login that the store functions run under."""

    gateway: Pool
    router: Pool
    worker: Pool
    event_worker: Pool
    operator: Pool


@asynccontextmanager
async def open_role_pools(dsn):
    """The pools of a database with the schema."""
    async with AsyncExitStack() as stack:
        yield RolePools(
            **{
                login.name.removeprefix("sluice_"): await stack.enter_async_context(
                    open_pool(as_login(dsn, login), size=10, name="store", command_timeout=60.0)
                )
                for login in (GATEWAY, ROUTER, WORKER, EVENT_WORKER, OPERATOR)
            }
        )


class StoreHarness:
    """Store functions, each with the login of a role that uses it, at noon and the seconds after it.

    ``pool`` is the owner's: what a test arranges or reads beside the store functions.
    """

    def __init__(self, pool, roles):
        self.pool = pool
        self.gateway, self.router, self.worker = roles.gateway, roles.router, roles.worker
        self.event_worker, self.operator = roles.event_worker, roles.operator

    def rows_of(self, project=PROJECT):
        """The connection with which the gateway reads and changes the rows of one project."""
        return rows_of(self.gateway, [project])

    async def accept(self, *messages):
        async with self.gateway.acquire() as connection:
            return await ingest.insert_batch(connection, messages)

    async def a_delivery(self, **changes):
        """The id of one delivery of one accepted message."""
        message = a_message(**changes)
        await self.accept(message)
        return message.deliveries[0].id

    async def claim(self, *claims, at=NOON, lease=LEASE):
        """The ids of the deliveries that were claimed."""
        results = await deliveries.claim(self.worker, claims, now=at, lease=lease)
        return [claim.delivery_id for claim, claimed in zip(claims, results, strict=True) if claimed]

    async def a_delivery_in_flight(self, **changes):
        delivery_id = await self.a_delivery(**changes)
        assert await self.claim(a_claim(delivery_id)) == [delivery_id]
        return delivery_id

    async def transition(self, *transitions, at=NOON, acknowledged=()):
        return await deliveries.transition(
            self.worker, transitions, now=at, outbox_retry_after=WITHIN, acknowledged=list(acknowledged)
        )

    async def transitioned(self, *transitions):
        """The ids of the deliveries whose transition was applied."""
        sequences = (await self.transition(*transitions)).sequences
        return {one.delivery_id for one, sequence in zip(transitions, sequences, strict=True) if sequence}

    async def a_delivery_that_was(self, event_type, **changes):
        """A delivery whose first attempt ended with this event type."""
        delivery_id = await self.a_delivery_in_flight()
        assert await self.transitioned(a_transition(delivery_id, event_type, **changes)) == {delivery_id}
        return delivery_id

    async def cancel(self, message_id, at=NOON, project=PROJECT, sandbox=False):
        async with self.rows_of(project) as db:
            cancelled = await cancellation.cancel(
                db, ProjectScope(project, sandbox), [message_id], now=at, outbox_retry_after=WITHIN
            )
            return cancelled if message_id in cancelled.message_ids else None

    async def revoke(self, message_id):
        """The number of deliveries of an in-doubt message that were cancelled."""
        async with self.rows_of() as db:
            return await cancellation.revoke_in_doubt(db, [message_id], now=NOON)

    async def find(self, message_id, project=PROJECT):
        async with self.rows_of(project) as db:
            return await messages.find_with_history(db, ProjectScope(project, False), message_id)

    async def due(self, at, *, low_watermarks=NOON, limit=100):
        """The ids that are enqueued; ``low_watermarks`` is one time for every channel, or one per channel."""
        return [pending.id for pending in await self.dequeued(at, low_watermarks=low_watermarks, limit=limit)]

    async def dequeued(self, at, *, low_watermarks=NOON, limit=100):
        marks = (
            low_watermarks
            if low_watermarks is None or isinstance(low_watermarks, dict)
            else dict.fromkeys(Channel, low_watermarks)
        )
        requeue_after = timedelta(seconds=8)
        dequeued = []
        for channel in Channel:
            queues = await backlog.list_project_queues(self.router, channel, now=at, after=None, limit=limit)
            shares = dict.fromkeys(queues, limit)
            dequeued += await backlog.dequeue(self.router, channel, shares, now=at, requeue_after=requeue_after)
        if marks is not None:
            dequeued += await recovery.requeue_lost(
                self.router, now=at, low_watermarks=marks, requeue_after=requeue_after, limit=limit
            )
        return dequeued

    async def pending(self, delivery_id):
        """The row of a delivery."""
        return await self.pool.fetchrow("SELECT * FROM deliveries WHERE id = $1", delivery_id)

    async def state(self, delivery_id):
        return (await self.pending(delivery_id))["state"]

    async def attempts(self, delivery_id):
        return await self.pool.fetch("SELECT * FROM attempts WHERE delivery_id = $1 ORDER BY number", delivery_id)

    async def history(self, delivery_id):
        """The types of a delivery's events; asserts that their sequence has no gap."""
        rows = await self.pool.fetch(
            "SELECT sequence, type FROM events WHERE delivery_id = $1 ORDER BY sequence", delivery_id
        )
        assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
        return [row["type"] for row in rows]

    async def count(self, table):
        return await self.pool.fetchval(f"SELECT count(*) FROM {table}")

    async def outbox_rows(self, outbox_id):
        return await outbox.events_for(self.router, outbox_id)


async def at_once(*tasks):
    """The results of concurrent tasks, in order."""
    return await asyncio.gather(*tasks)


SENT, FAILED_ATTEMPT = EventType.SENT, EventType.ATTEMPT_FAILED
LATER = after(3600)
