"""How long `GET /v1/analytics` takes in a large project, and how fast deliveries are counted: without other load."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from tests.analytics_recount import DIFFERENCES

from bench import results_db
from bench.report import print_line
from bench.usage import cpu_seconds
from gateway.analytics import service
from gateway.analytics.v1_schemas import serialize
from sluice.runtime.clock import utc_now
from sluice.runtime.percentile import percentile
from sluice.store import analytics, migrations, partitions, projects
from sluice.store.analytics import Filter, Grouping
from sluice.store.db import Pool, open_pool
from sluice.store.logins import EVENT_WORKER, GATEWAY, OPERATOR, with_login
from sluice.store.projects import ProjectScope
from sluice_launcher.local_stack import LocalStack

GOAL_MS = 100.0
_CHUNK = 50_000  # deliveries written by one statement
_SPREAD = timedelta(days=30)
_PASSWORD = "of the benchmark"  # noqa: S105  of a server that ends with the command
_LATE = 20_000  # deliveries whose receipt arrives when they are counted already


class _Question(NamedTuple):
    """A request: its range of days, its interval, its filters and its groups."""

    days: float
    interval: str = "auto"
    filters: Filter = Filter()
    by: tuple[Grouping, ...] = ()


QUESTIONS = {
    "a day by the hour": _Question(1),
    "3 days by the hour, by provider": _Question(3, by=(Grouping.PROVIDER,)),
    "14 days by the hour": _Question(14, "hour"),
    "7 days by the hour, by provider": _Question(7, "hour", by=(Grouping.PROVIDER,)),
    "30 days": _Question(30),
    "30 days by channel": _Question(30, by=(Grouping.CHANNEL,)),
    "30 days by channel and provider": _Question(30, by=(Grouping.CHANNEL, Grouping.PROVIDER)),
    "30 days by tag": _Question(30, by=(Grouping.TAG,)),
    "30 days of a tag": _Question(30, filters=Filter(tag="tag 7")),
    "30 days of a provider": _Question(30, filters=Filter(provider_ids=(UUID(int=2),))),
    "2 years": _Question(730),
}


async def measure_analytics(options: argparse.Namespace) -> int:
    """Fill a database, count its deliveries, time each question, and print the figures as JSON."""
    with tempfile.TemporaryDirectory() as folder, LocalStack(Path(folder), services=["postgres"]) as stack:
        dsn = await results_db.create_database(stack.addresses["postgres"], "analytics")
        await migrations.apply(dsn, passwords={login.name: _PASSWORD for login in (GATEWAY, EVENT_WORKER, OPERATOR)})
        project_id = await _fill(dsn, options.deliveries)
        counted = await _count(dsn)
        async with open_pool(with_login(dsn, GATEWAY.name, _PASSWORD), size=1, name="bench") as pool:
            found = {
                name: await _measure(pool, project_id, question, options.reads) for name, question in QUESTIONS.items()
            }
        counted |= await _sizes(dsn, recount=options.recount)
    document = {"deliveries": options.deliveries, "reads": options.reads, "goal_ms": GOAL_MS, **counted, "ms": found}
    print_line(json.dumps(document))
    slow = [name for name, figures in found.items() if figures["p95"] > GOAL_MS]
    if slow:
        print(f"slower than {GOAL_MS:g} ms at p95: {', '.join(slow)}", file=sys.stderr)
    if counted.get("differences"):
        print("the rollups are not those of a recount", file=sys.stderr)
    return 1 if slow or counted.get("differences") else 0


async def _measure(pool: Pool, project_id: UUID, question: _Question, reads: int) -> dict[str, float | int]:
    """Milliseconds from the request to the bytes of its answer (``first``: without a cache), and CPU of both sides."""
    services: Any = _Part(pool=pool)
    principal: Any = _Part(scope=ProjectScope(project_id, False))
    config: Any = _Part(providers={})
    times: list[float] = []
    rows = 0
    service._percentiles.cache_clear()
    backend = {"postgres": await pool.fetchval("SELECT pg_backend_pid()")}
    own, before = time.process_time(), cpu_seconds(backend)["postgres"]
    for _ in range(reads):
        started = time.perf_counter()
        now = utc_now()
        since = now - timedelta(days=question.days) + timedelta(minutes=1)
        within = service.range_of(since, None, service.INTERVALS[question.interval], now=now)
        found = await service.read(services, principal, within, question.filters, question.by)
        serialize(found, config)
        times.append((time.perf_counter() - started) * 1000)
        rows = len(found.points)
    used = time.process_time() - own, cpu_seconds(backend)["postgres"] - before
    return {
        "p50": round(percentile(times, 0.5) or 0.0, 2),
        "p95": round(percentile(times, 0.95) or 0.0, 2),
        "max": round(max(times), 2),
        "first": round(times[0], 2),
        "cpu_python": round(used[0] * 1000 / reads, 1),
        "cpu_postgres": round(used[1] * 1000 / reads, 1),
        "rows": rows,
    }


class _Part:
    """The part of the services that a reading needs."""

    def __init__(self, **parts: object) -> None:
        self.__dict__.update(parts)


async def _count(dsn: str) -> dict[str, Any]:
    """Deliveries counted per second by a rebuild, and of batches as the event-worker gets them, one after the other."""
    started, used = time.perf_counter(), time.process_time()
    async with open_pool(with_login(dsn, OPERATOR.name, _PASSWORD), size=1, name="bench", command_timeout=60) as pool:
        deliveries, shown = 0, started
        backend = {"postgres": await pool.fetchval("SELECT pg_backend_pid()")}
        async for progress in analytics.rebuild(pool, since=utc_now() - _SPREAD, now=utc_now()):
            deliveries = progress.deliveries
            if time.perf_counter() - shown > 10:
                shown = time.perf_counter()
                print(f"{deliveries} deliveries are counted", file=sys.stderr)
        cpu = {"python": time.process_time() - used, **cpu_seconds(backend)}
    seconds = time.perf_counter() - started
    late, held = await _count_late(dsn)
    return {
        "rebuilt_per_s": round(deliveries / seconds),
        "cpu_ms_per_1000": {name: round(each * 1e6 / deliveries, 1) for name, each in cpu.items()},
        "late_per_s": round(late),
        "loop_held_ms": round(held, 1),
    }


async def _count_late(dsn: str) -> tuple[float, float]:
    """Deliveries with one more event: counted per second, and the longest time that the event loop is held, in ms."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(_LATE_EVENTS, _LATE, timeout=600)
    finally:
        await connection.close()
    ids = [row["delivery_id"] for row in rows]
    async with open_pool(with_login(dsn, EVENT_WORKER.name, _PASSWORD), size=2, name="bench") as pool:
        held = 0.0

        async def watch() -> None:
            nonlocal held
            while True:
                before = time.perf_counter()
                await asyncio.sleep(0)
                held = max(held, time.perf_counter() - before)
                await asyncio.sleep(0.001)

        watching = asyncio.create_task(watch())
        started = time.perf_counter()
        for first in range(0, len(ids), 2000):
            await analytics.count(pool, ids[first : first + 2000])
        seconds = time.perf_counter() - started
        watching.cancel()
    return len(ids) / max(seconds, 0.001), held * 1000


async def _sizes(dsn: str, *, recount: bool) -> dict[str, Any]:
    connection = await asyncpg.connect(dsn)
    try:
        found = {
            "rollups": await connection.fetchval("SELECT count(*) FROM analytics_rollups"),
            "rollup_bytes": await connection.fetchval("SELECT pg_total_relation_size('analytics_rollups')"),
            "progress_bytes": await connection.fetchval(
                "SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits"
                " WHERE inhparent = 'analytics_progress'::regclass"
            ),
        }
        if recount:
            found["differences"] = len(await connection.fetch(DIFFERENCES, timeout=3600))
    finally:
        await connection.close()
    return found


async def _fill(dsn: str, size: int) -> UUID:
    connection = await asyncpg.connect(dsn)
    now = utc_now()
    try:
        for ago in range(6):
            await partitions.ensure(connection, now - timedelta(weeks=ago))
        project = await projects.create_project(connection, organization="x", slug="x", name="x", now=now)
        for low in range(0, size, _CHUNK):
            high = min(size, low + _CHUNK)
            await connection.execute(
                _FILL, low, high - 1, size, now - _SPREAD + timedelta(hours=1), now, project.id, timeout=900
            )
            print(f"{high} of {size} deliveries are written", file=sys.stderr)
        await connection.execute("VACUUM ANALYZE", timeout=1800)
    finally:
        await connection.close()
    return project.id


# Four providers on two channels, 20 tags. One delivery in 50 fails over, one in 100 fails, one in 40 bounces.
_FILL = """
    WITH n AS MATERIALIZED (
        SELECT i, at, lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS clock, md5('d' || i) AS digest,
               CASE WHEN i % 5 = 0 THEN 'sms' ELSE 'email' END AS channel,
               lpad(to_hex(1 + i % 5 / 3 + CASE WHEN i % 5 = 0 THEN 2 ELSE 0 END), 32, '0')::uuid AS provider,
               lpad('4', 32, '0')::uuid AS other, i % 50 = 7 AS fails_over, i % 100 = 9 AS fails,
               i % 40 = 11 AS bounces,
               interval '20 ms' + interval '150 ms' * -ln(1 - random()) AS to_sent,
               interval '300 ms' + interval '4 s' * -ln(1 - random()) AS to_delivered
          FROM generate_series($1::bigint, $2::bigint) AS i,
               LATERAL (SELECT $4::timestamptz + ($5::timestamptz - $4) * (i::float8 / $3::bigint) AS at) AS moment
    ), ids AS MATERIALIZED (
        SELECT *, (clock || '7' || substr(digest, 1, 3) || 'a' || substr(digest, 4, 15))::uuid AS id FROM n
    ), messages_written AS (
        INSERT INTO messages (id, project_id, channel, delivery_class, content, tags, sandbox, expires_at, created_at)
        SELECT id, $6::uuid, channel, 'standard', '{}', ARRAY['tag ' || i % 20], false, at + interval '72 hours', at
          FROM ids
    ), deliveries_written AS (
        INSERT INTO deliveries (id, message_id, project_id, channel, delivery_class, recipient, sandbox, state,
                                attempt_count, last_event_sequence, provider_id, expires_at)
        SELECT id, id, $6, channel, 'standard', 'a', false, 'DELIVERED', 1, 4, provider, at + interval '72 hours'
          FROM ids
    )
    INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at, provider_id)
    SELECT id, row_number() OVER (PARTITION BY id ORDER BY step.number), $6, step.type, step.state, at + step.after,
           step.provider
      FROM ids
     CROSS JOIN LATERAL (VALUES
           (1, 'accepted', 'QUEUED', interval '0', NULL, true),
           (2, 'sending', 'SENDING', interval '10 ms', other, fails_over),
           (3, 'attempt_failed', NULL, interval '15 ms', other, fails_over),
           (4, 'sending', 'SENDING', interval '20 ms', provider, true),
           (5, 'failed', 'FAILED', to_sent, provider, fails),
           (6, 'sent', 'SENT', to_sent, provider, NOT fails),
           (7, 'delivered', 'DELIVERED', to_sent + to_delivered, provider, NOT fails AND NOT bounces),
           (8, 'bounced', 'BOUNCED', to_sent + to_delivered, provider, NOT fails AND bounces)
           ) AS step (number, type, state, after, provider, happens)
     WHERE step.happens
"""

_LATE_EVENTS = """
    WITH newest AS (SELECT id, project_id FROM deliveries ORDER BY id DESC LIMIT $1)
    INSERT INTO events (delivery_id, sequence, project_id, type, occurred_at, provider_id)
    SELECT n.id, e.last + 1, n.project_id, 'opened', now(), e.provider_id
      FROM newest n
     CROSS JOIN LATERAL (
           SELECT max(sequence) AS last, (array_agg(provider_id ORDER BY sequence DESC))[1] AS provider_id
             FROM events WHERE delivery_id = n.id) e
    RETURNING delivery_id
"""
