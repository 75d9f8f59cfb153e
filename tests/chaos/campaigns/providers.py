"""(h) Providers are edited, disabled and deleted while messages are in flight."""

import asyncio
import json
from collections import Counter
from typing import Any

from sluice.runtime.settings import read_key_file
from sluice.store import configuration
from sluice.store.cipher import Vault
from tests.chaos.campaigns.load import Tell, balanced, faults, record, sender, settled, states, steadily
from tests.chaos.cluster import Machine, account, add_provider
from tests.chaos.ledgers import now, read
from tests.chaos.simulation import DOORS

RATE = 60.0  # messages a second
EDIT_EVERY = 0.1  # seconds


async def run(machine: Machine, size: int, tell: Tell) -> dict[str, Any]:
    """For ``size`` seconds: one provider edited ten times a second, one switched off and on, ones made and deleted."""
    tag = "h"
    answers: Counter[str] = Counter()
    changes: Counter[str] = Counter()
    over = asyncio.Event()
    vault = Vault(read_key_file(machine.key_file))
    unauthorised = _refused(machine)

    async with balanced(machine) as balancer, record(machine) as db:
        change = asyncio.Lock()
        send = sender(balancer, tag, answers)

        async def edit() -> None:
            door = "resend-a"
            provider_id = machine.project.providers[door]
            while not over.is_set():
                _, _, credentials = account(DOORS[door], machine.simulation.ports[door], door)
                sealed = vault.seal(
                    json.dumps(credentials).encode(), project_id=machine.project.id, provider_id=provider_id
                )
                async with change:
                    await configuration.change_provider(db, provider_id, now=now(), sealed=sealed)
                changes["edited"] += 1
                await asyncio.sleep(EDIT_EVERY)

        async def switch() -> None:
            while not over.is_set():
                for door in ("twilio-a", "smtp-a"):
                    for enabled in (False, True):
                        async with change:
                            await configuration.change_provider(
                                db, machine.project.providers[door], now=now(), enabled=enabled
                            )
                        changes["switched"] += 1
                        await asyncio.sleep(0.4)

        async def delete() -> None:
            while not over.is_set():
                for door in ("smtp-b", "twilio-b"):
                    async with change:
                        made = await add_provider(
                            db, vault, machine.project.id, machine.simulation, door, DOORS[door], priority=0
                        )
                    await asyncio.sleep(0.5)
                    async with change:
                        await configuration.change_provider(db, made, now=now(), deleted=True)
                    changes["deleted"] += 1

        async def end() -> None:
            await asyncio.sleep(size)
            over.set()

        sent, *_ = await asyncio.gather(steadily(RATE, 10**6, send, until=over), edit(), switch(), delete(), end())
        for door in ("twilio-a", "smtp-a"):
            await configuration.change_provider(db, machine.project.providers[door], now=now(), enabled=True)
    quiet = await settled(machine, tag, within=120, tell=tell)
    found = await states(machine, tag)
    broken = faults(answers, quiet, found)
    refused = _refused(machine) - unauthorised
    broken += [f"{refused} calls were refused for their credentials"] if refused else []
    return {
        "seconds": size,
        "messages": sent,
        "changes": dict(changes),
        "states": dict(found),
        "refused_credentials": refused,
        "broken": broken,
    }


def _refused(machine: Machine) -> int:
    return sum(line.get("status") in (401, 403) for line in read(machine.simulation.calls))
