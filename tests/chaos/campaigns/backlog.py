"""(e) A backlog in the dispatch queue: no delivery is published more than twice."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from sluice.bus.connection import KafkaConnection
from sluice.bus.topic_admin import read_topic_specs
from sluice.bus.topics import Topic
from sluice_launcher.progress import Progress
from tests.chaos.campaigns.load import at_once, balanced, body, database, faults, messages, settled, states
from tests.chaos.cluster import Cluster

IN_FLIGHT = 100
PARTITIONS = read_topic_specs()[Topic.EMAIL.value].partitions
STALLED = 16.0  # seconds without a worker: twice the time after which the recovery loop requeues
WORKERS = ("email-worker", "email-worker-2")


async def run(cluster: Cluster, size: int, progress: Progress) -> dict[str, Any]:
    """``size`` mails while no worker runs, 16 s more, and then the workers."""
    tag = "e"
    answers: Counter[str] = Counter()
    starts = await _ends(cluster)
    await _workers(cluster, run=False)
    try:
        async with balanced(cluster) as balancer:

            async def send(number: int) -> None:
                answers[str((await balancer.send(body(tag, number, "email"))).status)] += 1

            await at_once(IN_FLIGHT, size, send)
        progress(f"{tag}: {dict(answers)}; stalled for {STALLED:.0f} s")
        await asyncio.sleep(STALLED)
        pending = await _published(cluster, starts, await _ids(cluster, tag))
    finally:
        await _workers(cluster, run=True)
    seconds = await settled(cluster, tag, within=600, progress=progress)
    published = await _published(cluster, starts, await _ids(cluster, tag))
    worst = {topic: max(each.values(), default=0) for topic, each in published.items()}
    total = {topic: sum(each.values()) for topic, each in published.items()}
    made = await messages(cluster, tag)
    found = await states(cluster, tag)
    violations = [f"{topic}: a delivery was published {most} times" for topic, most in worst.items() if most > 2]
    violations += faults(answers, seconds, found)
    return {
        "backlog": made,
        "stalled_s": STALLED,
        "published_while_stalled": {topic: sum(each.values()) for topic, each in pending.items()},
        "published": total,
        "most_for_one_delivery": worst,
        "drained_s": None if seconds is None else round(seconds, 1),
        "states": dict(found),
        "violations": violations,
    }


async def _workers(cluster: Cluster, *, run: bool) -> None:
    for name in WORKERS:
        if name in cluster.replicas:
            cluster.replicas[name].start() if run else await cluster.replicas[name].stop()
        else:
            control = cluster.stack.control
            await asyncio.to_thread(control.start if run else control.stop, name)


async def _ids(cluster: Cluster, tag: str) -> set[str]:
    async with database(cluster) as db:
        rows = await db.fetch(
            "SELECT d.id FROM deliveries d JOIN messages m ON m.id = d.message_id WHERE m.tags[1] = $1", tag
        )
    return {str(row["id"]) for row in rows}


TOPICS = (Topic.ACCEPTED, Topic.REROUTE, Topic.EMAIL)


async def _ends(cluster: Cluster) -> dict[TopicPartition, int]:
    async with _reading(cluster) as reader:
        return await reader.ends()


async def _published(cluster: Cluster, starts: Mapping[TopicPartition, int], ids: set[str]) -> dict[str, Counter[str]]:
    """How often each delivery was published to each topic since ``starts``."""
    found: dict[str, Counter[str]] = {topic.value: Counter() for topic in TOPICS}
    async with _reading(cluster) as reader:
        for topic, value in await reader.read(starts):
            task = json.loads(value)
            task = task.get("task", task)
            if task["delivery_id"] in ids:
                found[topic][task["delivery_id"]] += 1
    return found


class _reading:
    """A reader of whole topics."""

    def __init__(self, cluster: Cluster) -> None:
        self._consumer: Any = AIOKafkaConsumer(
            **KafkaConnection.to(cluster.kafka).options(), group_id=None, auto_offset_reset="earliest"
        )

    async def __aenter__(self) -> "_reading":
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def ends(self) -> dict[TopicPartition, int]:
        """The end of every partition; all delivery topics have eight."""
        partitions = [TopicPartition(topic.value, number) for topic in TOPICS for number in range(PARTITIONS)]
        found: dict[TopicPartition, int] = await self._consumer.end_offsets(partitions)
        return found

    async def read(self, starts: Mapping[TopicPartition, int]) -> list[tuple[str, bytes]]:
        ends = await self._consumer.end_offsets(list(starts))
        found: list[tuple[str, bytes]] = []
        for partition, end in ends.items():
            self._consumer.assign([partition])
            self._consumer.seek(partition, starts[partition])
            while await self._consumer.position(partition) < end:
                for one in (await self._consumer.getmany(partition, timeout_ms=1000)).get(partition, []):
                    found.append((partition.topic, one.value))
        return found
