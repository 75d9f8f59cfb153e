"""The cost of a message as the database, the configuration and the backlog grow."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from bench import results_db, sink_client
from bench.environment import Environment
from bench.plots import draw
from bench.processes import Failed
from bench.profiles import FULL
from bench.report import DOCS, Report, print_line
from bench.runs import Load, Run, perform, verify
from bench.scenarios import Bench, drain_backlog
from bench.statistics import Spread, ratios, slope
from bench.systems import Sluice, Tenant, make_tenants
from bench.traffic import Shape, Stream
from sluice.model.message import Email
from sluice.runtime.clock import utc_now
from sluice.store import migrations, partitions

CHUNK = 50_000  # deliveries written by one statement
SPREAD = timedelta(days=2)  # the rows lie as far back as this, or to the week's beginning
BYTES_EACH = 3_000  # of a delivery with everything about it, generously

Point = dict[str, Any]


async def grow(options: argparse.Namespace) -> int:
    """Measure all kinds of growth, draw and store them."""
    report = Report("growth", provisional=options.provisional)
    found: dict[str, list[Point]] = {}
    sizes: list[dict[str, float]] = []
    async with Environment(keep=options.keep, limit=options.limit) as env:
        await env.sink.behave(sink_client.FAST)
        rate = options.rate or await _half_of_saturation(env, report)
        env.say(f"everything is measured at {rate:.0f} messages/s, except the backlogs")
        found["deliveries in the database"] = await _levels(env, report, "rows", options.rows, rate, options, sizes)
        _cost_ratio(report, found["deliveries in the database"])
        found["projects, with two providers each"] = await _levels(
            env, report, "accounts", options.accounts, rate, options, []
        )
        found["weeks of data, each a partition of every table"] = await _levels(
            env, report, "weeks", options.weeks, rate, options, []
        )
        found["messages that wait"] = await _backlogs(env, report, options.backlogs, 2 * rate)
        report.seconds = env.took
    for name, points in found.items():
        report.figure("growth", name, _shown(points))
    footprint = {name: _spread([size[name] for size in sizes]) for name in sizes[0]} if sizes else {}
    report.figure("growth", "bytes that one message leaves behind", footprint)
    slopes = {name: _slopes(points) for name, points in found.items()}
    document = {**report.short(), "growth": found, "slopes": slopes, "bytes_per_message": footprint}
    if not options.no_docs:
        DOCS.mkdir(parents=True, exist_ok=True)
        (DOCS / "growth.json").write_text(json.dumps(document, indent=2) + "\n")
        (DOCS / "growth.md").write_text(_page(report, found))
        draw(DOCS / "growth.json", {"growth": found, "provisional": options.provisional}, "growth")
    print(_page(report, found), file=sys.stderr)
    print_line(
        json.dumps({name: document[name] for name in ("slopes", "bytes_per_message", "ratios", "faults")}, default=str)
    )
    return 1 if document["faults"] else 0


async def _half_of_saturation(env: Environment, report: Report) -> float:
    bench = Bench(env, FULL, report)
    try:
        ours = await bench.start_sluice(tenants=1)
        await bench.at_limit("warm-up", ours, warm=0.5, seconds=2.0)
        made = await bench.at_limit("growth", ours, warm=1.5, seconds=4.0)
    finally:
        bench.end_sluice()
    if not made.rate:
        raise Failed("no message was delivered")
    return made.rate / 2


# -- the database and the configuration ----------------------------------------------------------------------------


async def _levels(
    env: Environment,
    report: Report,
    kind: str,
    sizes: Sequence[int],
    rate: float,
    options: argparse.Namespace,
    footprint: list[dict[str, float]],
) -> list[Point]:
    """Make a database of each size, then measure them in turn, round after round."""
    bases = {}
    for size in sizes:
        bases[size] = await _prepare(env, kind, size)
    costs: dict[int, list[Run]] = {size: [] for size in sizes}
    for number in range(options.rounds):
        for size in sizes:
            made = await _measure(env, report, f"{kind}_{size}", bases[size], rate, options.seconds, footprint)
            costs[size].append(made)
            env.say(
                f"round {number + 1}, {size} {kind}: python {made.per_thousand(made.python_cpu) or 0:.3f}, "
                f"postgres {made.per_thousand(made.cpu['postgres']) or 0:.3f} CPU-s per 1,000"
                + "".join(f"; FAULT: {fault}" for fault in made.faults)
            )
    return [_point(size, runs) for size, runs in costs.items()]


async def _prepare(env: Environment, kind: str, size: int) -> list[Tenant]:
    name = f"{kind}_{size}"
    dsn = await results_db.create_database(env.addresses["postgres"], name)
    await migrations.apply(dsn)
    key = env.folder / "services/credentials.key"
    tenants = await make_tenants(dsn, env, key, size if kind == "accounts" else 1, ("email",))
    if kind == "rows":
        await fill(env, dsn, size)
    if kind == "weeks":
        await _age(dsn, size)
    env.say(f"{name} is filled")
    return tenants


async def _age(dsn: str, weeks: int) -> None:
    """Add empty partitions for ``weeks`` weeks: every statement plans over all partitions."""
    connection = await asyncpg.connect(dsn)
    try:
        for ago in range(1, weeks + 1):
            await partitions.ensure(connection, utc_now() - timedelta(weeks=ago))
    finally:
        await connection.close()


async def _measure(
    env: Environment,
    report: Report,
    database: str,
    tenants: Sequence[Tenant],
    rate: float,
    seconds: float,
    footprint: list[dict[str, float]],
) -> Run:
    call_log = env.sink.position()
    ours = await Sluice.start(env, database, existing=tenants)
    try:
        # The first run fills caches and opens connections.
        for length, warm in ((2.0, 0.0), (seconds + 1.0, 1.0)):
            run = env.next_run()
            stream = Stream("all", Shape(run).template(), rate, keys=ours.keys)
            before = await _footprint(env, ours.dsn)
            made = await perform(env, ours, Load((stream,), seconds=length, warm=warm, run=run))
        after = await _footprint(env, ours.dsn)
        footprint.append({name: round((after[name] - before[name]) / max(1, made.accepted)) for name in after})
        report.ran(database, made)
        # The filled rows were not sent to this sink, so one verification is enough.
        if len(report.whole()["runs"][database]) == 1:
            report.verified(database, await verify(env, ours, call_log))
    finally:
        ours.end()
    return made


async def _footprint(env: Environment, dsn: str) -> dict[str, float]:
    """Bytes written so far: the log and the tables of PostgreSQL, and Kafka's log."""
    connection = await asyncpg.connect(dsn)
    try:
        log = await connection.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
        tables = await connection.fetchval("SELECT pg_database_size(current_database())")
    finally:
        await connection.close()
    kafka = (env.folder / "services/kafka").rglob("*.log")
    # A segment is made at its full size only in its index files, which are not counted.
    return {
        "WAL": float(log),
        "tables and indexes": float(tables),
        "Kafka": float(sum(path.stat().st_size for path in kafka)),
    }


def _point(size: int, runs: Sequence[Run]) -> Point:
    python = [cost for run in runs if (cost := run.per_thousand(run.python_cpu)) is not None]
    postgres = [cost for run in runs if (cost := run.per_thousand(run.cpu["postgres"])) is not None]
    return {
        "size": size,
        "python": _spread(python),
        "postgres": _spread(postgres),
        "both": _spread([one + other for one, other in zip(python, postgres, strict=True)]),
        "both_each": [round(one + other, 4) for one, other in zip(python, postgres, strict=True)],
        "memory_mb": _spread([run.python_memory for run in runs]),
    }


def _spread(values: Sequence[float]) -> dict[str, float | int] | None:
    found = Spread.of(values)
    return None if found is None else found.as_json()


def _cost_ratio(report: Report, points: Sequence[Point]) -> None:
    by_size = {point["size"]: point["both_each"] for point in points}
    if 10**4 in by_size and 10**6 in by_size:
        pairs = list(zip(by_size[10**6], by_size[10**4], strict=True))
        report.measure("cost_million_rows_over_ten_thousand", ratios(pairs))


async def fill(env: Environment, dsn: str, size: int) -> None:
    """Write ``size`` sent deliveries with their rows in every table, as if sent during the last two days.

    Raises:
        Failed: the disk is too small.
    """
    import shutil

    if shutil.disk_usage(env.folder).free < size * BYTES_EACH + 2**31:
        raise Failed(f"the disk is too small for {size} deliveries in {env.folder}: name another directory in TMPDIR")
    connection = await asyncpg.connect(dsn)
    try:
        project = await connection.fetchval("SELECT id FROM projects")
        first, second = [row["id"] for row in await connection.fetch("SELECT id FROM providers ORDER BY priority")]
        now = utc_now()
        monday = datetime.combine(now.date() - timedelta(days=now.weekday()), datetime.min.time(), UTC)
        start = max(now - SPREAD, monday)
        decision = json.dumps(
            {"provider": str(first), "reason": "healthy, priority 1", "excluded": {str(second): "lower priority"}},
            separators=(",", ":"),
        )
        content = Email(
            sender="Bench <bench@sluice.example>",
            to=("RECIPIENT",),
            subject="Order NUMBER",
            text="Your order is on its way and will be with you between nine and eleven tomorrow morning.",
        ).model_dump_json(exclude_none=True)
        for low in range(0, size, CHUNK):
            high = min(size, low + CHUNK)
            await connection.execute(
                _FILL, low, high, size, start, now - timedelta(seconds=30), project, first, decision, content,
                timeout=600,
            )  # fmt: skip
            if high % 200_000 == 0:
                env.say(f"    {high} of {size} deliveries are written")
        await connection.execute("VACUUM ANALYZE", timeout=1800)
        await connection.execute("CHECKPOINT", timeout=1800)
    finally:
        await connection.close()


_FILL = """
    WITH n AS MATERIALIZED (
        SELECT i, at, lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') AS clock,
               md5('m' || i) AS one, md5('d' || i) AS other
          FROM generate_series($1::bigint, $2::bigint - 1) AS i,
               LATERAL (SELECT $4::timestamptz + ($5::timestamptz - $4) * (i::float8 / $3::bigint) AS at) AS moment
    ), ids AS MATERIALIZED (
        SELECT i, at, (clock || '7' || substr(one, 1, 3) || 'a' || substr(one, 4, 15))::uuid AS message_id,
               (clock || '7' || substr(other, 1, 3) || 'a' || substr(other, 4, 15))::uuid AS id,
               'old' || lpad(i::text, 9, '0') || '@load.example' AS recipient
          FROM n
    ), messages_written AS (
        INSERT INTO messages (id, project_id, channel, delivery_class, sender, content, tags, metadata, idempotency_key,
                              sandbox, send_at, expires_at, created_at)
        SELECT message_id, $6::uuid, 'email', 'standard', 'Bench <bench@sluice.example>',
               replace(replace($9::text, 'RECIPIENT', recipient), 'NUMBER', lpad(i::text, 9, '0')), '{}', NULL,
               'old-' || i, false, NULL, at + interval '72 hours', at
          FROM ids
    ), keys_written AS (
        INSERT INTO idempotency_keys (project_id, key, fingerprint, message_id, expires_at)
        SELECT $6, 'old-' || i, sha256(recipient::bytea), message_id, at + interval '24 hours' FROM ids
         WHERE at > $5 - interval '23 hours'  -- older ones would have been forgotten
    ), deliveries_written AS (
        INSERT INTO deliveries (id, message_id, project_id, channel, delivery_class, recipient, preferred_provider_id,
                                sandbox, state, attempt_count, last_event_sequence, retry_round, unknown_attempts,
                                in_flight, provider_id, due_at, enqueued_at, expires_at)
        SELECT id, message_id, $6, 'email', 'standard', recipient, NULL, false, 'SENT', 1, 3, 1, 0, false, $7::uuid,
               NULL, at, at + interval '72 hours'
          FROM ids
    ), attempts_written AS (
        INSERT INTO attempts (delivery_id, number, project_id, provider_id, retry_round, client_reference,
                              routing_decision, started_at, finished_at, outcome, error, provider_message_id)
        SELECT id, 1, $6, $7, 1, 'att_' || replace(id::text, '-', '') || '_1', $8::text, at + interval '20 ms',
               at + interval '70 ms', 'accepted', '', md5('ref' || i)
          FROM ids
    )
    INSERT INTO events (delivery_id, sequence, project_id, type, state, occurred_at, attempt, provider_id, detail)
    SELECT id, step.number, $6, step.type, step.state, at + step.after, step.attempt,
           CASE WHEN step.number > 1 THEN $7 END, ''
      FROM ids, (VALUES (1, 'accepted', 'QUEUED', interval '0 ms', NULL), (2, 'sending', 'SENDING', '20 ms', 1),
                        (3, 'sent', 'SENT', '70 ms', 1)) AS step (number, type, state, after, attempt)
"""


# -- the backlog ---------------------------------------------------------------------------------------------------


async def _backlogs(env: Environment, report: Report, sizes: Sequence[int], whole: float) -> list[Point]:
    points = []
    bench = Bench(env, FULL, report)
    try:
        await bench.start_sluice(tenants=len(sizes) + 1)
        for size in sizes:
            tenant = bench.next_tenant()
            _, drained, _ = await drain_backlog(bench, f"backlog of {size}", tenant, whole, 0.0, most=size)
            env.say(f"a backlog of {size}: {drained}")
            point: Point = {"size": size, "rate_per_s": drained["drain rate per s"]}
            point |= {name: _spread([drained[name]]) for name in ("python", "postgres") if name in drained}
            points.append(point)
        await bench.check("backlogs")
    finally:
        bench.end_sluice()
    return points


# -- the report ----------------------------------------------------------------------------------------------------


def _slopes(points: Sequence[Point]) -> dict[str, float | None]:
    """CPU seconds per 1,000 messages more for each tenfold growth."""
    found: dict[str, float | None] = {}
    for key in ("python", "postgres"):
        value = slope([(point["size"], point[key]["median"]) for point in points if point.get(key)])
        found[key] = None if value is None else round(value, 4)
    return found


def _shown(points: Sequence[Point]) -> dict[str, Point]:
    return {
        f"{point['size']:,}": {key: value for key, value in point.items() if key not in ("size", "both_each")}
        for point in points
    }


def _page(report: Report, found: dict[str, list[Point]]) -> str:
    lines = [report.markdown(), "## Slopes", "", "CPU seconds per 1,000 messages more for each tenfold growth.", ""]
    lines += ["| growth of | Python | PostgreSQL |", "|---|---|---|"]
    for name, points in found.items():
        slopes = _slopes(points)
        lines.append(f"| {name} | {_number(slopes['python'])} | {_number(slopes['postgres'])} |")
    return "\n".join([*lines, "", "![growth](growth-growth.png)", ""])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"
