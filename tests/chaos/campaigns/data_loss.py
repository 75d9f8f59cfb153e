"""(f) The data of Kafka and Redis are wiped during a run: nothing is lost."""

import asyncio
import time
from collections import Counter
from typing import Any

from sluice_launcher.progress import Progress
from tests.chaos.campaigns.load import balanced, body, faults, messages, settled, states, steadily, unknown_attempts
from tests.chaos.cluster import Cluster

RATE = 50.0  # messages a second
BEFORE, AFTER = 6.0, 6.0  # seconds of load before the wipe, and after the return
DRAINED_WITHIN = 60.0  # seconds from the return of Kafka


async def run(cluster: Cluster, size: int, progress: Progress) -> dict[str, Any]:
    """``size`` wipes of both, at 50 messages a second."""
    tag = "f"
    answers: Counter[str] = Counter()
    accepted: set[str] = set()
    over = asyncio.Event()

    async with balanced(cluster) as balancer:

        async def send(number: int) -> None:
            reply = await balancer.send(body(tag, number, ("email", "sms")[number % 2]))
            answers[str(reply.status)] += 1
            if reply.id:
                accepted.add(reply.id)

        sent, (away, returned) = await asyncio.gather(
            steadily(RATE, 10**6, send, until=over), _wipe(cluster, size, over, progress)
        )
    quiescent = await settled(cluster, tag, within=180, progress=progress)
    drained = round(time.monotonic() - returned, 1)
    made, found = await messages(cluster, tag), await states(cluster, tag)
    violations = faults(answers, quiescent, found)
    violations += [f"{made} messages for {len(accepted)} accepted"] if made != len(accepted) else []
    violations += [f"the backlog took {drained} s"] if quiescent is None or drained > DRAINED_WITHIN else []
    return {
        "wipes": size,
        "away_s": away,
        "messages": made,
        "lost": len(accepted) - made,
        "backlog_0_after_s": drained,
        "unknown_attempts": await unknown_attempts(cluster, tag),
        "states": dict(found),
        "sent": sent,
        "violations": violations,
    }


async def _wipe(cluster: Cluster, times: int, over: asyncio.Event, progress: Progress) -> tuple[list[float], float]:
    """Wipe both ``times`` times; the seconds of each outage, and the monotonic time of the last return."""
    away = []
    for _ in range(times):
        await asyncio.sleep(BEFORE)
        began = time.monotonic()
        await asyncio.gather(
            asyncio.to_thread(cluster.stack.control.restart, "redis", wipe=True),
            asyncio.to_thread(cluster.stack.control.restart, "kafka", wipe=True),
        )
        away.append(round(time.monotonic() - began, 1))
        progress(f"wipe: away for {away[-1]} s")
    returned = time.monotonic()
    await asyncio.sleep(AFTER)
    over.set()
    return away, returned
