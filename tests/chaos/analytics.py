"""The rollups of analytics after a run: equal to a recount of the database."""

import asyncio
from collections.abc import Sequence

import asyncpg

from tests.analytics_recount import DIFFERENCES
from tests.chaos.cluster import Cluster
from tests.chaos.oracle import Findings, Span


async def check_analytics(running: Cluster, spans: Sequence[Span]) -> Findings:
    """The rows that only the rollups or only the recount has.

    Events that a wiped Kafka has lost were not counted: the rollups are made again first, as the operator would.
    """
    findings = Findings()
    if any((span.kind, span.target) == ("wipe", "kafka") for span in spans):
        done = await asyncio.to_thread(running.command, "analytics", "rebuild", "--since", "2020-01-01")
        if done.returncode:
            findings.add("analytics", done.stderr[-500:])
    connection = await asyncpg.connect(running.postgres, command_timeout=300)
    try:
        for row in await connection.fetch(DIFFERENCES):
            findings.add("analytics", " ".join(map(str, row)))
        findings.counts["rollups"] = await connection.fetchval("SELECT count(*) FROM analytics_rollups")
    finally:
        await connection.close()
    if not findings.counts["rollups"]:
        findings.add("analytics", "nothing was counted")
    return findings
