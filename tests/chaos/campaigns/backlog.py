"""(e) A backlog in the dispatch queue: no delivery is published more than twice."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition

from sluice.bus.topics import Topic
from sluice_launcher.progress import Progress
from tests.chaos.campaigns.load import at_once, balanced, body, delivery_ids, faults, messages, settled, states
from tests.chaos.campaigns.topic_reader import TopicReader
from tests.chaos.cluster import Cluster

IN_FLIGHT = 100
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
        pending = await _published(cluster, starts, await delivery_ids(cluster, tag))
    finally:
        await _workers(cluster, run=True)
    seconds = await settled(cluster, tag, within=600, progress=progress)
    published = await _published(cluster, starts, await delivery_ids(cluster, tag))
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


TOPICS = (Topic.ACCEPTED, Topic.REROUTE, Topic.EMAIL)


async def _ends(cluster: Cluster) -> dict[TopicPartition, int]:
    async with TopicReader(cluster, TOPICS) as reader:
        return await reader.ends()


async def _published(cluster: Cluster, starts: Mapping[TopicPartition, int], ids: set[str]) -> dict[str, Counter[str]]:
    """How often each delivery was published to each topic since ``starts``."""
    found: dict[str, Counter[str]] = {topic.value: Counter() for topic in TOPICS}
    async with TopicReader(cluster, TOPICS) as reader:
        for topic, value in await reader.read(starts):
            task = json.loads(value)
            task = task.get("task", task)
            if task["delivery_id"] in ids:
                found[topic][task["delivery_id"]] += 1
    return found
