"""Waiting for quiet: nothing unsettled, nothing unannounced, nothing unread."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from sluice.bus.topics import Group, Topic
from tests.chaos.cluster import Cluster

READERS: dict[str, Group] = {
    Topic.SEND_REQUESTS: Group.INGEST,
    Topic.ACCEPTED: Group.ROUTER,
    Topic.REROUTE: Group.ROUTER,
    Topic.EMAIL: Group.EMAIL_WORKER,
    Topic.SMS: Group.SMS_WORKER,
    Topic.PUSH: Group.PUSH_WORKER,
}
_LOOK_EVERY = 0.25  # seconds


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is still to be done. None: it could not be told."""

    unsettled: int | None
    stale_outbox: int | None
    unread: int | None

    @property
    def none(self) -> bool:
        return (self.unsettled, self.stale_outbox, self.unread) == (0, 0, 0)


async def backlog(cluster: Cluster, *, bus: bool = True) -> Backlog:
    """One look at the record and (``bus``) at the bus."""
    unsettled = unannounced = unread = None
    # The bus first: what is read from it between the two questions is in the record when that is asked.
    if bus:
        with contextlib.suppress(OSError, TimeoutError, KafkaError):
            async with asyncio.timeout(15):
                unread = sum((await lag(cluster.kafka)).values())
    with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        async with asyncio.timeout(10):
            connection = await asyncpg.connect(cluster.postgres)
            try:
                unsettled = await connection.fetchval("SELECT count(*) FROM deliveries WHERE due_at IS NOT NULL")
                unannounced = await connection.fetchval("SELECT count(*) FROM event_outbox")
            finally:
                connection.terminate()
    return Backlog(unsettled, unannounced, unread if bus else 0)


async def wait_until_quiescent(
    cluster: Cluster, *, within: float, tell: Callable[[str], None]
) -> tuple[float, Backlog]:
    """Wait for quiet; the seconds it took and what was left at the end of them."""
    loop = asyncio.get_running_loop()
    began = told = loop.time()
    while True:
        left = await backlog(cluster, bus=False)
        if left.none:
            left = await backlog(cluster)
        if left.none or loop.time() - began > within:
            return loop.time() - began, left if left.none else await backlog(cluster)
        if loop.time() - told > 5:
            told = loop.time()
            tell(
                f"waiting for quiet: {left.unsettled} unsettled, {left.stale_outbox} unannounced, {left.unread} unread"
            )
        await asyncio.sleep(_LOOK_EVERY)


async def lag(servers: str) -> dict[Topic, int]:
    """Records that the group of each topic has not committed."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers, request_timeout_ms=8_000)
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
    reader = AIOKafkaConsumer(bootstrap_servers=servers, group_id=None, request_timeout_ms=8_000)
    await reader.start()
    try:
        ends = await reader.end_offsets(partitions)
        begins = await reader.beginning_offsets(partitions)
    finally:
        await reader.stop()
    found = {Topic(name): 0 for name in READERS}
    for tp in partitions:
        first = committed.get(tp, -1)
        # An offset beyond the end belongs to a topic that was made anew.
        start = first if begins[tp] <= first <= ends[tp] else begins[tp]
        found[Topic(tp.topic)] += ends[tp] - start
    return found
