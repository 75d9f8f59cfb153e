"""(h) Providers are edited, disabled and deleted while messages are in flight."""

import asyncio
import json
from collections import Counter
from typing import Any

from sluice.runtime.settings import read_key_file
from sluice.store import providers
from sluice.store.cipher import CredentialCipher
from tests.chaos.campaigns.load import Tell, balanced, faults, record, sender, settled, states, steadily
from tests.chaos.cluster import Cluster, account, add_provider
from tests.chaos.ledgers import now, read
from tests.chaos.simulation import DOORS

RATE = 60.0  # messages a second
EDIT_EVERY = 0.1  # seconds


async def run(cluster: Cluster, size: int, tell: Tell) -> dict[str, Any]:
    """For ``size`` seconds: one provider edited ten times a second, one switched off and on, ones made and deleted."""
    tag = "h"
    answers: Counter[str] = Counter()
    changes: Counter[str] = Counter()
    over = asyncio.Event()
    cipher = CredentialCipher(read_key_file(cluster.key_file))
    unauthorised = _refused(cluster)

    async with balanced(cluster) as balancer, record(cluster) as db:
        change = asyncio.Lock()
        send = sender(balancer, tag, answers)

        async def edit() -> None:
            source = "resend-a"
            provider_id = cluster.project.providers[source]
            while not over.is_set():
                _, _, credentials = account(DOORS[source], cluster.simulation.ports[source], source)
                encrypted = cipher.encrypt(
                    json.dumps(credentials).encode(), project_id=cluster.project.id, provider_id=provider_id
                )
                async with change:
                    await providers.update_provider(db, provider_id, now=now(), encrypted_credentials=encrypted)
                changes["edited"] += 1
                await asyncio.sleep(EDIT_EVERY)

        async def switch() -> None:
            while not over.is_set():
                for source in ("twilio-a", "smtp-a"):
                    for enabled in (False, True):
                        async with change:
                            await providers.update_provider(
                                db, cluster.project.providers[source], now=now(), enabled=enabled
                            )
                        changes["switched"] += 1
                        await asyncio.sleep(0.4)

        async def delete() -> None:
            while not over.is_set():
                for source in ("smtp-b", "twilio-b"):
                    async with change:
                        made = await add_provider(
                            db, cipher, cluster.project.id, cluster.simulation, source, DOORS[source], priority=0
                        )
                    await asyncio.sleep(0.5)
                    async with change:
                        await providers.update_provider(db, made, now=now(), deleted=True)
                    changes["deleted"] += 1

        async def end() -> None:
            await asyncio.sleep(size)
            over.set()

        sent, *_ = await asyncio.gather(steadily(RATE, 10**6, send, until=over), edit(), switch(), delete(), end())
        for source in ("twilio-a", "smtp-a"):
            await providers.update_provider(db, cluster.project.providers[source], now=now(), enabled=True)
    quiet = await settled(cluster, tag, within=120, tell=tell)
    found = await states(cluster, tag)
    violations = faults(answers, quiet, found)
    refused = _refused(cluster) - unauthorised
    violations += [f"{refused} calls were refused for their credentials"] if refused else []
    return {
        "seconds": size,
        "messages": sent,
        "changes": dict(changes),
        "states": dict(found),
        "refused_credentials": refused,
        "violations": violations,
    }


def _refused(cluster: Cluster) -> int:
    return sum(line.get("status") in (401, 403) for line in read(cluster.simulation.calls))
