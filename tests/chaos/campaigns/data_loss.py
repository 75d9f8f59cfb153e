"""(f) Kafka's data and Redis's vanish in the middle of a run: nothing is lost."""

import asyncio
import time
from collections import Counter
from typing import Any

from tests.chaos.campaigns.load import Tell, ambiguous, balanced, body, faults, messages, settled, states, steadily
from tests.chaos.cluster import Cluster

RATE = 50.0  # messages a second
BEFORE, AFTER = 6.0, 6.0  # seconds of load before the wipe, and after the return
DRAINED_WITHIN = 60.0  # seconds from the return of Kafka


async def run(cluster: Cluster, size: int, tell: Tell) -> dict[str, Any]:
    """``size`` wipes of both, at 50 messages a second."""
    tag = "f"
    answers: Counter[str] = Counter()
    accepted: set[str] = set()
    away: list[float] = []
    over = asyncio.Event()

    async with balanced(cluster) as balancer:

        async def send(number: int) -> None:
            reply = await balancer.send(body(tag, number, ("email", "sms")[number % 2]))
            answers[str(reply.status)] += 1
            if reply.id:
                accepted.add(reply.id)

        async def wipe() -> float:
            for _ in range(size):
                await asyncio.sleep(BEFORE)
                began = time.monotonic()
                await asyncio.gather(
                    asyncio.to_thread(cluster.engine.control.restart, "redis", wipe=True),
                    asyncio.to_thread(cluster.engine.control.restart, "kafka", wipe=True),
                )
                away.append(round(time.monotonic() - began, 1))
                tell(f"{tag}: wiped, away for {away[-1]} s, {dict(answers)}")
            returned = time.monotonic()
            await asyncio.sleep(AFTER)
            over.set()
            return returned

        sent, returned = await asyncio.gather(steadily(RATE, 10**6, send, until=over), wipe())
    quiet = await settled(cluster, tag, within=180, tell=tell)
    drained = round(time.monotonic() - returned, 1)
    made, found = await messages(cluster, tag), await states(cluster, tag)
    violations = faults(answers, quiet, found)
    violations += [f"{made} messages for {len(accepted)} accepted"] if made != len(accepted) else []
    violations += [f"the backlog took {drained} s"] if quiet is None or drained > DRAINED_WITHIN else []
    return {
        "wipes": size,
        "away_s": away,
        "messages": made,
        "lost": len(accepted) - made,
        "backlog_0_after_s": drained,
        "unknown_attempts": await ambiguous(cluster, tag),
        "states": dict(found),
        "sent": sent,
        "violations": violations,
    }
