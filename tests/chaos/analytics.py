"""The rollups of analytics after a run: equal to a recount of the database."""

import asyncio
import time
from collections.abc import Sequence

import asyncpg

from tests.analytics_recount import DIFFERENCES
from tests.chaos.cluster import Cluster
from tests.chaos.oracle import Findings, Span

FOLLOWS_WITHIN = 30.0  # seconds after the last event; a receipt may have come a moment ago


async def check_analytics(running: Cluster, spans: Sequence[Span]) -> Findings:
    """The rows that only the rollups or only the recount has, for as long as the numbers may take to follow the events.

    Events that a wiped Kafka has lost were not counted: the rollups are made again first, as the operator would.
    """
    findings = Findings()
    if any((span.kind, span.target) == ("wipe", "kafka") for span in spans):
        done = await asyncio.to_thread(running.command, "analytics", "rebuild", "--since", "2020-01-01")
        if done.returncode:
            findings.add("analytics", done.stderr[-500:])
    connection = await asyncpg.connect(running.postgres, command_timeout=300)
    try:
        deadline = time.monotonic() + FOLLOWS_WITHIN
        while (different := await connection.fetch(DIFFERENCES)) and time.monotonic() < deadline:
            await asyncio.sleep(1)
        for row in different:
            findings.add("analytics", " ".join(map(str, row)))
        findings.counts["rollups"] = await connection.fetchval("SELECT count(*) FROM analytics_rollups")
    finally:
        await connection.close()
    if not findings.counts["rollups"]:
        findings.add("analytics", "nothing was counted")
    return findings
