"""(i) Nothing is sent after its expiry: every provider fails for longer than the messages live."""

import asyncio
from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any

from sluice.model import ids
from sluice_launcher.progress import Progress
from tests.chaos.campaigns.load import balanced, body, database, faults, settled, states, steadily
from tests.chaos.client_session import in_future
from tests.chaos.cluster import Cluster, webhooks
from tests.chaos.ledgers import moment, read
from tests.chaos.simulation import hooked

RATE = 60.0  # messages a second
EXPIRED = "expired before it was accepted"  # the request took longer than its message lives
LATEST = timedelta(seconds=5.0)  # a call that began in time is logged when its response is sent, on a busy machine late


async def run(cluster: Cluster, size: int, progress: Progress) -> dict[str, Any]:
    """``size`` messages that live two to eight seconds, while all providers fail for ten."""
    tag, dice = "i", Random("expiry")
    answers: Counter[str] = Counter()
    good = {"endpoints": hooked(*webhooks(cluster))}
    cluster.simulation.scenario({**good, "default": {"behaviour": "fault", "latency": {"median": 0.05, "sigma": 0.5}}})

    async with balanced(cluster) as balancer:

        async def send(number: int) -> None:
            lives = dice.uniform(2, 8)
            delivery_class = dice.choice(("urgent", "standard", "once"))
            reply = await balancer.send(
                body(
                    tag, number, ("email", "sms")[number % 2], expires_at=in_future(lives), **{"class": delivery_class}
                )
            )
            expired = reply.status == 400 and reply.field == "expires_at"
            answers[EXPIRED if expired else str(reply.status)] += 1

        async def mend() -> None:
            await asyncio.sleep(size / RATE * 0.8)
            cluster.simulation.scenario(good)

        await asyncio.gather(steadily(RATE, size, send), mend())
    quiet = await settled(cluster, tag, within=120, progress=progress)
    found = await states(cluster, tag)
    late = await _late(cluster, tag)
    refused = answers.pop(EXPIRED, 0)
    violations = faults(answers, quiet)
    violations += late[:20]
    violations += ["nothing expired"] if not found["EXPIRED"] else []
    return {
        "messages": sum(found.values()),
        "states": dict(found),
        "expired_before_acceptance": refused,
        "called_after_expiry": len(late),
        "violations": violations,
    }


async def _late(cluster: Cluster, tag: str) -> list[str]:
    async with database(cluster) as db:
        rows = await db.fetch(
            "SELECT d.id, d.expires_at FROM deliveries d JOIN messages m ON m.id = d.message_id WHERE m.tags[1] = $1",
            tag,
        )
        claimed = await db.fetch(
            "SELECT a.delivery_id FROM attempts a JOIN deliveries d ON d.id = a.delivery_id"
            " JOIN messages m ON m.id = d.message_id WHERE m.tags[1] = $1 AND a.started_at >= d.expires_at",
            tag,
        )
    until = {row["id"].hex: row["expires_at"] for row in rows}
    violations = [f"{row['delivery_id']}: claimed after expires_at" for row in claimed]
    for line in read(cluster.simulation.calls):
        if not line["reference"]:
            continue
        delivery_id, _ = ids.parse_attempt_reference(line["reference"])
        expires_at = until.get(delivery_id.hex)
        if expires_at is not None and moment(line["at"]) > expires_at + LATEST:
            late = moment(line["at"]) - expires_at
            violations.append(f"{delivery_id}: called {late.total_seconds():.1f} s too late")
    return violations
