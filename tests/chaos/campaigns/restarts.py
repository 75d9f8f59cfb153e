"""(d) A rolling restart of every role under load; (g) workers that join and leave the group every two seconds."""

import asyncio
import time
from collections import Counter
from itertools import pairwise
from typing import Any

from sluice_launcher.process_info import free_port
from sluice_launcher.progress import Progress
from tests.chaos.campaigns.load import balanced, faults, sender, settled, states, steadily, unknown_attempts
from tests.chaos.cluster import Cluster, replica_of
from tests.chaos.ledgers import moment, read
from tests.chaos.nemesis import Fault, Nemesis

RATE = 100.0  # messages a second
STORM_RATE = 40.0
EVERY = 2.0  # seconds between a join and the next leave
MAX_STANDSTILL = 30.0  # seconds without a call


async def rolling(cluster: Cluster, size: int, progress: Progress) -> dict[str, Any]:
    """``size`` restarts, of every process in turn, at 100 messages a second."""
    tag = "d"
    answers: Counter[str] = Counter()
    nemesis = Nemesis(cluster, cluster.ledger("rolling.jsonl"))
    names = [name for name in nemesis.names if name in cluster.ops_ports]
    over = asyncio.Event()

    async with balanced(cluster) as balancer:
        send = sender(balancer, tag, answers)

        async def restart() -> None:
            await asyncio.sleep(2)
            for number in range(size):
                name = names[number % len(names)]
                began = time.monotonic()
                await nemesis.inflict(Fault(number, 0.0, "restart", name))
                progress(f"{tag}: {name} restarted and ready in {time.monotonic() - began:.1f} s, {dict(answers)}")
            await asyncio.sleep(2)
            over.set()

        sent, _ = await asyncio.gather(steadily(RATE, 10**6, send, until=over), restart())
        errors = dict(balancer.errors)
    quiet = await settled(cluster, tag, within=120, progress=progress)
    unknown = await unknown_attempts(cluster, tag)
    violations = faults(answers, quiet)
    violations += [f"errors {errors}"] if errors else []
    violations += [f"{unknown} unknown attempts"] if unknown else []
    violations += [f"{name} is not ready again" for name in nemesis.unhealed]
    return {
        "restarts": size,
        "messages": sent,
        "client_errors": sent - answers["201"],
        "unknown_attempts": unknown,
        "states": dict(await states(cluster, tag)),
        "violations": violations,
    }


async def storm(cluster: Cluster, size: int, progress: Progress) -> dict[str, Any]:
    """For ``size`` seconds a third worker of each channel joins, and leaves two seconds later."""
    tag = "g"
    answers: Counter[str] = Counter()
    over = asyncio.Event()
    began = time.time()

    async with balanced(cluster) as balancer:
        send = sender(balancer, tag, answers)

        async def rage() -> int:
            changes = 0
            while time.time() - began < size:
                for name in ("email-worker", "sms-worker"):
                    joining = replica_of(cluster, name, free_port(), f"{name}-storm")
                    joining.start()
                    await asyncio.sleep(EVERY)
                    await joining.stop()
                    changes += 2
            over.set()
            return changes

        sent, changes = await asyncio.gather(steadily(STORM_RATE, 10**6, send, until=over), rage())
    quiet = await settled(cluster, tag, within=120, progress=progress)
    calls = sorted(moment(line["at"]).timestamp() for line in read(cluster.simulation.calls))
    calls = [began, *(at for at in calls if at > began)]
    still = max((later - earlier for earlier, later in pairwise(calls)), default=0.0)
    violations = faults(answers, quiet)
    violations += [f"no call for {still:.0f} s"] if still > MAX_STANDSTILL else []
    return {
        "seconds": size,
        "changes": changes,
        "messages": sent,
        "longest_standstill_s": round(still, 1),
        "states": dict(await states(cluster, tag)),
        "unknown_attempts": await unknown_attempts(cluster, tag),
        "violations": violations,
    }
