"""Waiting for quiescence: nothing unsettled, no outbox row, nothing unread."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from sluice.bus.connection import KafkaConnection
from sluice.bus.topics import Group, Topic
from sluice.store.db import DATABASE_ERRORS
from tests.chaos.cluster import Cluster

READERS: dict[str, Group] = {
    Topic.SEND_REQUESTS: Group.INGEST,
    Topic.ACCEPTED: Group.ROUTER,
    Topic.REROUTE: Group.ROUTER,
    Topic.EMAIL: Group.EMAIL_WORKER,
    **dict.fromkeys((Topic.SMS, Topic.WHATSAPP, Topic.TELEGRAM, Topic.SIGNAL), Group.SMS_WORKER),
    Topic.PUSH: Group.PUSH_WORKER,
    Topic.EVENTS: Group.EVENT_WORKER,
}
_POLL_INTERVAL = 0.25  # seconds


@dataclass(frozen=True, slots=True)
class Backlog:
    """The remaining work. None: unknown."""

    unsettled: int | None
    stale_outbox: int | None
    unread: int | None

    @property
    def none(self) -> bool:
        """Whether nothing remains."""
        return (self.unsettled, self.stale_outbox, self.unread) == (0, 0, 0)


async def backlog(cluster: Cluster, *, bus: bool = True) -> Backlog:
    """The remaining work in the database and (``bus``) on the bus, now."""
    unsettled = outbox_rows = unread = None
    # The bus first: a record that is consumed between the two queries is in the database at the second.
    if bus:
        with contextlib.suppress(OSError, TimeoutError, KafkaError):
            async with asyncio.timeout(15):
                unread = sum((await lag(cluster.kafka)).values())
    with contextlib.suppress(*DATABASE_ERRORS):
        async with asyncio.timeout(10):
            connection = await asyncpg.connect(cluster.postgres)
            try:
                unsettled = await connection.fetchval(
                    "SELECT (SELECT count(*) FROM deliveries WHERE due_at IS NOT NULL)"
                    " + (SELECT count(*) FROM webhook_deliveries WHERE due_at IS NOT NULL)"
                )
                outbox_rows = await connection.fetchval("SELECT count(*) FROM event_outbox")
            finally:
                connection.terminate()
    return Backlog(unsettled, outbox_rows, unread if bus else 0)


async def wait_until_quiescent(
    cluster: Cluster, *, within: float, progress: Callable[[str], None]
) -> tuple[float, Backlog]:
    """Wait until nothing remains or ``within`` seconds are over; the seconds and the remaining work."""
    loop = asyncio.get_running_loop()
    began = reported = loop.time()
    while True:
        left = await backlog(cluster, bus=False)
        if left.none:
            left = await backlog(cluster)
        if left.none or loop.time() - began > within:
            return loop.time() - began, left if left.none else await backlog(cluster)
        if loop.time() - reported > 5:
            reported = loop.time()
            progress(
                f"waiting for quiescence: {left.unsettled} unsettled, {left.stale_outbox} in the outbox, "
                f"{left.unread} unread"
            )
        await asyncio.sleep(_POLL_INTERVAL)


async def lag(servers: str) -> dict[Topic, int]:
    """Records that the consumer group of each topic has not committed."""
    admin = AIOKafkaAdminClient(**KafkaConnection.to(servers).options(), request_timeout_ms=8_000)
    await admin.start()
    try:
        committed: dict[TopicPartition, int] = {}
        for group in set(READERS.values()):
            offsets = await admin.list_consumer_group_offsets(group.value)
            committed |= {tp: at.offset for tp, at in offsets.items() if READERS.get(tp.topic) is group}
        described = await admin.describe_topics([str(topic) for topic in READERS])
    finally:
        await admin.close()
    partitions = [
        TopicPartition(topic["topic"], one["partition"]) for topic in described for one in topic["partitions"]
    ]
    reader = AIOKafkaConsumer(**KafkaConnection.to(servers).options(), group_id=None, request_timeout_ms=8_000)
    await reader.start()
    try:
        ends = await reader.end_offsets(partitions)
        begins = await reader.beginning_offsets(partitions)
    finally:
        await reader.stop()
    found = {Topic(name): 0 for name in READERS}
    for tp in partitions:
        first = committed.get(tp, -1)
        # An offset beyond the end belongs to a topic that was recreated.
        start = first if begins[tp] <= first <= ends[tp] else begins[tp]
        found[Topic(tp.topic)] += ends[tp] - start
    return found
