"""(j) Every provider fails most calls; (k) one hangs and the others are out: what failover costs then."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sluice.bus.topics import Topic
from sluice.delivery.bulkhead_monitor import MAX_HOPS
from sluice_launcher.progress import Progress
from tests.chaos.campaigns.load import balanced, database, delivery_ids, faults, sender, settled, states, steadily
from tests.chaos.campaigns.topic_reader import TopicReader
from tests.chaos.cluster import TIMING, Cluster, webhooks
from tests.chaos.simulation import ENDPOINTS, hooked

RATE = 30.0  # messages a second, e-mail and SMS in turn
FAILING = 0.6  # share of the calls that fail, at every provider
LATE: float = json.loads(TIMING["SLUICE_RETRY_SCHEDULE"])[0]  # seconds: sent after the pause that follows a round
HANGING = ("resend-a", "twilio-a")
SLOTS = 20  # calls in flight at a hanging provider: soon all of them hang

_FIRST_ROUND = """
    WITH one AS (
        SELECT d.channel, m.created_at,
               min(a.finished_at) FILTER (WHERE a.outcome = 'accepted') AS sent_at,
               coalesce(bool_or(a.outcome = 'accepted' AND a.retry_round = 1), false) AS in_first_round,
               count(DISTINCT a.provider_id) FILTER (WHERE a.retry_round = 1) AS tried
          FROM deliveries d JOIN messages m ON m.id = d.message_id JOIN attempts a ON a.delivery_id = d.id
         WHERE m.tags[1] = $1 GROUP BY d.id, d.channel, m.created_at
    )
    SELECT channel, count(*) AS messages,
           count(*) FILTER (WHERE NOT in_first_round) AS failed_everywhere,
           count(*) FILTER (WHERE sent_at IS NULL OR sent_at > created_at + $2 * interval '1 second') AS late,
           count(*) FILTER (
               WHERE NOT in_first_round AND tried < CASE channel WHEN 'email' THEN $3::bigint ELSE $4::bigint END
           ) AS waited_too_soon
      FROM one GROUP BY channel ORDER BY channel
"""


async def failing(cluster: Cluster, size: int, progress: Progress) -> dict[str, Any]:
    """``size`` messages while every provider fails 60 of 100 calls.

    A message waits for a next round only after each provider of its channel was called once. ``late_points``: per
    channel, the share of messages sent after the first pause, less the share that failed at every provider, in points.
    """
    tag = "j"
    _apply(cluster, default={"probabilities": {"fault": FAILING}})
    answers, seconds = await _send(cluster, tag, size, progress)
    kinds = Counter("sms" if kind == "twilio" else "email" for kind in ENDPOINTS.values())
    async with database(cluster) as db:
        rows = await db.fetch(_FIRST_ROUND, tag, LATE, kinds["email"], kinds["sms"])
    found = {row["channel"]: dict(row) for row in rows}
    soon = sum(row["waited_too_soon"] for row in found.values())
    violations = faults(answers, seconds)  # a few fail in every round
    violations += [f"{soon} messages waited while a provider was left"] if soon else []
    return {
        "messages": size,
        "failed_everywhere": {name: row["failed_everywhere"] for name, row in found.items()},
        "late": {name: row["late"] for name, row in found.items()},
        "late_points": {
            name: round(100 * (row["late"] - row["failed_everywhere"]) / row["messages"], 2)
            for name, row in found.items()
        },
        "violations": violations,
    }


async def hanging(cluster: Cluster, size: int, progress: Progress) -> dict[str, Any]:
    """``size`` messages while the first provider of each channel hangs and the others fail every call.

    A delivery is handed back at most three times between two attempts.
    """
    tag = "k"
    out: Mapping[str, Any] = {"probabilities": {"fault": 1.0}}
    _apply(cluster, default=out, endpoints={name: {"behaviour": "hang"} for name in HANGING})
    async with TopicReader(cluster, [Topic.REROUTE]) as reader:
        starts = await reader.ends()
        await _limit(cluster, SLOTS)
        answers, seconds = await _send(cluster, tag, size, progress, heal=True)
        await _limit(cluster, None)
        ours = await delivery_ids(cluster, tag)
        hops = [
            task.get("hops", 0)
            for _, value in await reader.read(starts)
            if (task := json.loads(value))["delivery_id"] in ours
        ]
    violations = faults(answers, seconds, await states(cluster, tag))
    most = max(hops, default=0)
    violations += [f"a delivery was handed back {most} times between two attempts"] if most > MAX_HOPS else []
    return {
        "messages": size,
        "hand_backs": sum(hop > 0 for hop in hops),
        "most_between_two_attempts": most,
        "violations": violations,
    }


def _apply(cluster: Cluster, *, default: Mapping[str, Any], endpoints: Mapping[str, Any] | None = None) -> None:
    webhook = hooked(*webhooks(cluster))
    own = {name: {**webhook.get(name, {}), **(endpoints or {}).get(name, {})} for name in ENDPOINTS}
    cluster.simulation.scenario({"default": {"receipts": {"kinds": []}, **default}, "endpoints": own})


async def _limit(cluster: Cluster, slots: int | None) -> None:
    async with database(cluster) as db:
        await db.execute(
            "UPDATE providers SET settings = $2, version = version + 1, updated_at = now() WHERE id = ANY($1)",
            [cluster.project.providers[name] for name in HANGING],
            json.dumps({} if slots is None else {"concurrency": slots}),
        )


async def _send(
    cluster: Cluster, tag: str, size: int, progress: Progress, *, heal: bool = False
) -> tuple[Counter[str], float | None]:
    """Send at a steady rate; returns the responses by status, and the seconds until all is settled."""
    answers: Counter[str] = Counter()
    async with balanced(cluster) as balancer:
        await steadily(RATE, size, sender(balancer, tag, answers))
    if heal:
        await asyncio.sleep(LATE)
        _apply(cluster, default={})
    return answers, await settled(cluster, tag, within=300, progress=progress)
