"""(k) A bulk job whose processes are killed on the way, while another tenant sends: every row once, and no delay.

The other tenant has a project and a provider of its own. Its latency is that from the request to the provider's
acceptance. What it sends while a killed process is away, and until :data:`CALM` seconds later, is excluded: that shows
how long a recovery takes, and not what a job costs others.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import psutil

from sluice.model import ids
from sluice.runtime.percentile import percentile
from sluice.runtime.settings import read_key_file
from sluice.store import api_keys, projects
from sluice.store.cipher import CredentialCipher
from sluice_launcher.progress import Progress
from sluice_launcher.state import read_state
from tests.chaos.campaigns.load import Balancer, balanced, body, database, settled, states, steadily
from tests.chaos.cluster import Cluster, add_provider
from tests.chaos.ledgers import now
from tests.chaos.nemesis import Fault, Nemesis

KILLS = ("gateway", "email-worker", "gateway-2", "router", "gateway")
RATE = 10.0  # messages a second of the other tenant
ALONE = 20.0  # seconds in which the other tenant's own latency is measured
UNDER_WAY = timedelta(seconds=2)  # before a kill: messages that the process may have had
CALM = timedelta(seconds=10)  # after a recovery: the consumer groups have rebalanced, and what waited is sent
LEAST_MESSAGES = 100  # of the other tenant outside of faults; a small job has ended before they are sent
MAX_RATIO = 2.0
MAX_RSS_MIB = 300
_TAG, _TENANT = "k", "k-other"


@dataclass
class _Watch:
    """What is seen of a job: the times with a fault, and the most memory of each process in MiB."""

    began: datetime = field(default_factory=now)
    faults: list[tuple[datetime, datetime]] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    unhealed: list[str] = field(default_factory=list)
    tenant_messages: int = 0
    is_settled: bool = False
    job: Mapping[str, Any] = field(default_factory=dict)


async def run(cluster: Cluster, size: int, progress: Progress) -> dict[str, Any]:
    """A job of ``size`` recipients."""
    key = await _new_tenant(cluster)
    async with balanced(cluster, answer=120.0) as balancer:
        send = partial(_send, balancer, key)
        await steadily(RATE, int(RATE * ALONE), send)
        watch = await _send_job(cluster, balancer, size, send, progress)
    took = round((now() - watch.began).total_seconds(), 1)
    await settled(cluster, _TENANT, within=60, progress=progress)
    alone, beside = await _latencies(cluster, watch)
    ratio = None if beside is None else round(beside / alone, 2)
    found = await states(cluster, _TAG)
    return {
        "recipients": size,
        "kills": len(KILLS),
        "deliveries": sum(found.values()),
        "seconds": took,
        "tenant_messages": watch.tenant_messages,
        "tenant_p95_ms_alone": round(alone * 1000, 1),
        "tenant_p95_ms_beside": None if beside is None else round(beside * 1000, 1),
        "tenant_p95_ratio": ratio,
        "memory_mib": watch.memory,
        "violations": [
            *await _rows_once(cluster, size),
            *([] if watch.is_settled else ["not settled"]),
            *([f"ended as {dict(found)}"] if set(found) - {"SENT", "DELIVERED"} else []),
            *([] if _is_complete(watch.job, size) else [f"the job shows {watch.job}"]),
            *(f"{name} is not ready again" for name in watch.unhealed),
            *(f"{name} had {mib} MiB" for name, mib in watch.memory.items() if mib > MAX_RSS_MIB),
            *([f"the other tenant's p95 was {ratio} times its own"] if (ratio or 0) > MAX_RATIO else []),
        ],
    }


async def _send_job(
    cluster: Cluster, balancer: Balancer, size: int, send: Callable[[int], Awaitable[None]], progress: Progress
) -> _Watch:
    """Upload a job and kill processes until it has ended, while the other tenant sends."""
    watch = _Watch()
    over = asyncio.Event()
    job_id = await _upload(balancer, size)
    sending = asyncio.create_task(steadily(RATE, 10**6, send, until=over))
    watching = asyncio.create_task(_watch_memory(cluster, watch, over))
    try:
        await _kill(cluster, job_id, size, watch, progress)
        watch.is_settled = await _until_settled(cluster, within=60 + size / 50, progress=progress)
    finally:
        over.set()
    watch.tenant_messages, _ = await asyncio.gather(sending, watching)
    watch.job = await _shown(balancer, job_id)
    return watch


async def _shown(balancer: Balancer, job_id: UUID) -> Mapping[str, Any]:
    """The job as the API shows it, once a gateway answers."""
    for _ in range(30):
        reply = await balancer.ask("GET", f"/v1/messages/bulk/{ids.encode_id('blk', job_id)}", None)
        if reply.status == 200:
            break
        await asyncio.sleep(1)
    return reply.document


def _is_complete(job: Mapping[str, Any], size: int) -> bool:
    return (job.get("status"), job.get("accepted"), job.get("rejected")) == ("COMPLETED", size, 0)


async def _new_tenant(cluster: Cluster) -> str:
    """The key of a project with a provider of its own."""
    cipher = CredentialCipher(partial(read_key_file, cluster.key_file))
    async with database(cluster) as db:
        project = await projects.create_project(db, organization="Other", slug="other", name="Other", now=now())
        await add_provider(db, cipher, project.id, cluster.simulation, "resend-b", "resend")
        return await api_keys.create_key(db, project.id, name="other", is_test=False, now=now())


async def _send(balancer: Balancer, key: str, number: int) -> None:
    request = json.dumps(body(_TENANT, number, "email")).encode()
    for _ in range(5):
        reply = await balancer.ask("POST", "/v1/messages/channel", request, key=key)
        if reply.status == 201:
            return


async def _upload(balancer: Balancer, size: int) -> UUID:
    message = body(_TAG, 0, "email", text="Hello {{name}}")
    del message["to"]
    lines = [json.dumps({"message": message})]
    lines += [
        json.dumps({"to": f"k{number}@example.com", "variables": {"name": f"{number}"}}) for number in range(size)
    ]
    for _ in range(10):
        reply = await balancer.ask(
            "POST",
            "/v1/messages/bulk",
            "\n".join(lines).encode(),
            content_type="application/jsonl",
            idempotency_key=_TAG,
        )
        if reply.status == 202 and reply.id is not None:
            return ids.decode_id("blk", reply.id)
        await asyncio.sleep(1)
    raise AssertionError(f"the upload was answered with {reply.status} {reply.document}")


async def _kill(cluster: Cluster, job_id: UUID, size: int, watch: _Watch, progress: Progress) -> None:
    """Kill a process whenever another part of the rows is accepted."""
    nemesis = Nemesis(cluster, cluster.ledger("bulk.jsonl"))
    for number, name in enumerate(KILLS):
        await _until_accepted(cluster, job_id, size * (number + 1) // (len(KILLS) + 1))
        began = now()
        await nemesis.inflict(Fault(number, 0.0, "kill", name))
        watch.faults.append((began - UNDER_WAY, now() + CALM))
        progress(f"{_TAG}: {name} was killed and is ready again")
    await _until_accepted(cluster, job_id, size)
    watch.unhealed = nemesis.unhealed


async def _until_accepted(cluster: Cluster, job_id: UUID, rows: int) -> None:
    """Wait until that many rows are messages."""
    deadline = time.monotonic() + 60 + rows / 50
    while time.monotonic() < deadline:
        async with database(cluster) as db:
            if await db.fetchval("SELECT accepted FROM bulk_jobs WHERE id = $1", job_id) >= rows:
                return
        await asyncio.sleep(0.2)
    raise AssertionError(f"fewer than {rows} rows are accepted")


async def _until_settled(cluster: Cluster, *, within: float, progress: Progress) -> bool:
    """Wait until no delivery of the job's project is due; looks seldom, because it counts the whole backlog."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        async with database(cluster) as db:
            left = await db.fetchval(
                "SELECT count(*) FROM deliveries WHERE project_id = $1 AND due_at IS NOT NULL", cluster.project.id
            )
        if not left:
            return True
        progress(f"{_TAG}: {left} are not settled")
        await asyncio.sleep(5)
    return False


async def _watch_memory(cluster: Cluster, watch: _Watch, over: asyncio.Event) -> None:
    """Note the most memory of each role, every second."""
    while not over.is_set():
        running = {name: found.pid for name, found in read_state(cluster.data_dir).items() if name in cluster.ops_ports}
        running |= {name: one.identity.pid for name, one in cluster.replicas.items() if one.identity is not None}
        for name, pid in running.items():
            with contextlib.suppress(psutil.Error):
                mib = psutil.Process(pid).memory_info().rss >> 20
                watch.memory[name] = max(mib, watch.memory.get(name, 0))
        await asyncio.sleep(1)


async def _latencies(cluster: Cluster, watch: _Watch) -> tuple[float, float | None]:
    """The other tenant's p95 before the job and beside it, outside of faults, in seconds; None of too few messages."""
    async with database(cluster) as db:
        rows = await db.fetch(
            "SELECT m.created_at AS at, extract(epoch FROM min(e.occurred_at) - m.created_at)::float8 AS took"
            "  FROM messages m JOIN deliveries d ON d.message_id = m.id"
            "  JOIN events e ON e.delivery_id = d.id AND e.type = 'sent'"
            " WHERE m.tags[1] = $1 GROUP BY m.id, m.created_at",
            _TENANT,
        )
    alone = [row["took"] for row in rows if row["at"] < watch.began]
    beside = [
        row["took"]
        for row in rows
        if row["at"] >= watch.began and not any(first <= row["at"] <= last for first, last in watch.faults)
    ]
    return percentile(alone, 0.95) or 0.0, percentile(beside, 0.95) if len(beside) >= LEAST_MESSAGES else None


async def _rows_once(cluster: Cluster, size: int) -> list[str]:
    """Violations: a row without a delivery, or with more than one."""
    async with database(cluster) as db:
        row = await db.fetchrow(
            "SELECT count(*) AS deliveries, count(DISTINCT d.recipient) AS recipients"
            "  FROM deliveries d JOIN messages m ON m.id = d.message_id WHERE m.tags[1] = $1",
            _TAG,
        )
    exact = (row["deliveries"], row["recipients"]) == (size, size)
    return [] if exact else [f"{row['deliveries']} deliveries to {row['recipients']} recipients of {size}"]
