"""(h) Providers are edited, disabled and deleted while messages are in flight."""

import asyncio
from collections import Counter
from functools import partial
from typing import Any
from uuid import UUID

from sluice.runtime.settings import read_key_file
from sluice.store import providers
from sluice.store.cipher import CredentialCipher
from sluice_launcher.progress import Progress
from tests.chaos.campaigns.load import balanced, database, faults, sender, settled, states, steadily
from tests.chaos.cluster import Cluster, account, add_provider
from tests.chaos.ledgers import now, read
from tests.chaos.simulation import ENDPOINTS

RATE = 60.0  # messages a second
EDIT_EVERY = 0.1  # seconds


async def run(cluster: Cluster, size: int, progress: Progress) -> dict[str, Any]:
    """For ``size`` seconds: one provider is edited ten times a second, others are switched, added, deleted."""
    tag = "h"
    answers: Counter[str] = Counter()
    over = asyncio.Event()
    refused_before = _refused(cluster)

    async def end() -> None:
        await asyncio.sleep(size)
        over.set()

    async with balanced(cluster) as balancer, database(cluster) as db:
        changes = _Changes(cluster, db, over)
        sent, *_ = await asyncio.gather(
            steadily(RATE, 10**6, sender(balancer, tag, answers), until=over),
            changes.edit("resend-a"),
            changes.switch("twilio-a", "smtp-a"),
            changes.add_and_delete("smtp-b", "twilio-b"),
            end(),
        )
        for name in ("twilio-a", "smtp-a"):
            await changes.update(cluster.project.providers[name], enabled=True)
    quiescent = await settled(cluster, tag, within=120, progress=progress)
    found = await states(cluster, tag)
    violations = faults(answers, quiescent, found)
    refused = _refused(cluster) - refused_before
    violations += [f"{refused} calls were refused for their credentials"] if refused else []
    return {
        "seconds": size,
        "messages": sent,
        "changes": dict(changes.counts),
        "states": dict(found),
        "refused_credentials": refused,
        "violations": violations,
    }


class _Changes:
    """Changes of providers until ``over``, on one connection. ``counts``: changes by kind."""

    def __init__(self, cluster: Cluster, db: Any, over: asyncio.Event) -> None:
        self._cluster = cluster
        self._db = db
        self._over = over
        self._cipher = CredentialCipher(partial(read_key_file, cluster.key_file))
        self._lock = asyncio.Lock()
        self._versions = dict.fromkeys(ENDPOINTS, 1)
        self.counts: Counter[str] = Counter()

    async def update(self, provider_id: UUID, **fields: Any) -> None:
        async with self._lock:
            project_id = self._cluster.project.id
            await providers.update_provider(self._db, project_id, provider_id, now=now(), **fields)

    async def edit(self, name: str) -> None:
        """Store the same credentials, encrypted again."""
        project = self._cluster.project
        provider_id = project.providers[name]
        while not self._over.is_set():
            _, _, credentials = account(ENDPOINTS[name], self._cluster.simulation.ports[name], name)
            self._versions[name] += 1
            encrypted = self._cipher.encrypt_credentials(
                credentials, project_id=project.id, provider_id=provider_id, version=self._versions[name]
            )
            await self.update(provider_id, encrypted_credentials=encrypted)
            self.counts["edited"] += 1
            await asyncio.sleep(EDIT_EVERY)

    async def switch(self, *names: str) -> None:
        """Disable and enable each in turn."""
        while not self._over.is_set():
            for name in names:
                for enabled in (False, True):
                    await self.update(self._cluster.project.providers[name], enabled=enabled)
                    self.counts["switched"] += 1
                    await asyncio.sleep(0.4)

    async def add_and_delete(self, *names: str) -> None:
        """Add a second account at each endpoint with the best priority, and delete it half a second later."""
        project, simulation = self._cluster.project, self._cluster.simulation
        while not self._over.is_set():
            for name in names:
                async with self._lock:
                    made = await add_provider(
                        self._db, self._cipher, project.id, simulation, name, ENDPOINTS[name], priority=0
                    )
                await asyncio.sleep(0.5)
                await self.update(made, deleted=True)
                self.counts["deleted"] += 1


def _refused(cluster: Cluster) -> int:
    return sum(line.get("status") in (401, 403) for line in read(cluster.simulation.calls))
