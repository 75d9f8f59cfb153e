"""(a) Many keys, each asked for twenty times at once over two gateways; then once more with another body."""

import asyncio
from collections import Counter
from typing import Any

from sluice_launcher.progress import Progress
from tests.chaos.campaigns.load import at_once, balanced, body, messages, settled
from tests.chaos.cluster import Cluster

COPIES = 20
IN_FLIGHT = 20  # keys at a time: 400 requests


async def run(cluster: Cluster, size: int, progress: Progress) -> dict[str, Any]:
    """``size`` keys with Redis, and as many without."""
    figures: dict[str, Any] = {"keys": size, "copies": COPIES, "violations": []}
    for redis in ("up", "down"):
        if redis == "down":
            cluster.stack.control.stop("redis")
        try:
            found = await _keys(cluster, size, f"a-{redis}", progress)
        finally:
            if redis == "down":
                cluster.stack.control.start("redis")
        figures[f"redis_{redis}"] = found
        figures["violations"] += [f"Redis {redis}: {fault}" for fault in found.pop("violations")]
    return figures


async def _keys(cluster: Cluster, size: int, tag: str, progress: Progress) -> dict[str, Any]:
    answers: Counter[str] = Counter()
    violations: list[str] = []
    async with balanced(cluster, answer=30.0) as balancer:

        async def ask(key: str, number: int, copy: int, changed: bool = False) -> str | None:
            gateway = cluster.gateways[copy % len(cluster.gateways)]
            document = body(tag, number, "email", idempotency_key=key)
            if changed:
                document["subject"] = "another"
            # A 503 is no answer: the caller asks again, with the same key.
            for _ in range(20):
                reply = await balancer.send(document, sandbox=True, gateway=gateway)
                if reply.status not in (None, 503):
                    break
                answers["again"] += 1
            answers[f"changed {reply.status}" if changed else str(reply.status)] += 1
            return reply.id

        async def one(number: int) -> None:
            key = f"{tag}-{number}"
            found = set(await asyncio.gather(*(ask(key, number, copy) for copy in range(COPIES))))
            if len(found) != 1 or None in found:
                violations.append(f"{key}: {len(found)} ids")
            await ask(key, number, number, changed=True)
            if number % 1000 == 999:
                progress(f"{tag}: {number + 1} keys")

        await at_once(IN_FLIGHT, size, one)
    if (made := await messages(cluster, tag)) != size:
        violations.append(f"{made} messages for {size} keys")
    if answers["changed 409"] != size:
        violations.append(f"changed bodies: {dict(answers)}")
    if await settled(cluster, tag, within=180, progress=progress) is None:
        violations.append("not settled")
    return {"messages": made, "answers": dict(answers), "violations": violations}
