"""(b) Cancels that race with the send: nothing is sent after a 200."""

import asyncio
from collections import Counter
from random import Random
from typing import Any

from sluice.model import ids
from sluice_launcher.progress import Progress
from tests.chaos.campaigns.load import at_once, balanced, body, database, settled
from tests.chaos.cluster import Cluster
from tests.chaos.ledgers import moment, now, read

IN_FLIGHT = 60
LONGEST = 0.12  # seconds between the acceptance and the cancel


async def run(cluster: Cluster, size: int, progress: Progress) -> dict[str, Any]:
    """``size`` races on both channels."""
    dice = Random("cancel races")
    tag = "b"
    answers: Counter[str] = Counter()
    cancelled: dict[str, Any] = {}
    async with balanced(cluster) as balancer:

        async def race(number: int) -> None:
            accepted = await balancer.send(body(tag, number, ("email", "sms")[number % 2]))
            if accepted.id is None:
                answers[f"send {accepted.status}"] += 1
                return
            await asyncio.sleep(dice.choice((0.0, dice.uniform(0, 0.03), dice.uniform(0, LONGEST))))
            reply = await balancer.cancel(accepted.id)
            answers[str(reply.status)] += 1
            if reply.status == 200:
                cancelled[accepted.id] = now()
            if number % 2000 == 1999:
                progress(f"{tag}: {number + 1} races, {dict(answers)}")

        await at_once(IN_FLIGHT, size, race)
    await settled(cluster, tag, within=120, progress=progress)
    await asyncio.sleep(1)
    violations = await _sent_after_all(cluster, cancelled)
    if not cancelled or not answers["409"]:
        violations.append(f"no race was run: {dict(answers)}")
    return {"races": size, "answers": dict(answers), "sent_after_200": len(violations), "violations": violations[:20]}


async def _sent_after_all(cluster: Cluster, cancelled: dict[str, Any]) -> list[str]:
    async with database(cluster) as db:
        rows = await db.fetch(
            "SELECT id, message_id, state FROM deliveries WHERE message_id = ANY($1::uuid[])",
            [ids.decode_id("msg", shown) for shown in cancelled],
        )
    owner = {row["id"].hex: ids.encode_id("msg", row["message_id"]) for row in rows}
    violations = [f"{row['id']}: cancelled with 200, and {row['state']}" for row in rows if row["state"] != "CANCELLED"]
    for line in read(cluster.simulation.calls):
        if not line["reference"]:
            continue
        delivery_id, _ = ids.parse_attempt_reference(line["reference"])
        shown = owner.get(delivery_id.hex)
        if shown and (line["accepted"] or moment(line["at"]) > cancelled[shown]):
            violations.append(f"{delivery_id}: cancelled with 200, and called ({line['behaviour']})")
    return violations
