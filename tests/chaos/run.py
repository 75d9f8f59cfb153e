"""``python -m tests.chaos chaos``: load, faults, heal, quiet, check."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from tests.chaos import db_snapshot, oracle, recovery_time
from tests.chaos.client import Client
from tests.chaos.cluster import Cluster, cluster, doubled, webhooks
from tests.chaos.ledgers import Ledger
from tests.chaos.nemesis import Nemesis, schedule
from tests.chaos.oracle import Findings
from tests.chaos.quiescence import Backlog, backlog, wait_until_quiescent
from tests.chaos.simulation import DOORS, faulty
from tests.chaos.workload_plan import plan

Tell = Callable[[str], None]
QUIET_WITHIN = 180.0  # seconds from the heal until nothing may be left to do
REDRIVEN_WITHIN = 15.0  # seconds from the heal, for 99 of 100
_SAMPLE_EVERY = 0.4  # seconds


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything. The same seed makes the same orders, the same faults and the same dice at the doors."""

    messages: int
    kills: int
    seed: int
    seconds: float  # that the load and the faults take


@dataclass(slots=True)
class Seen:
    """What the run itself saw, beside the ledgers."""

    waits: recovery_time.Waits = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    unhealed: list[str] = field(default_factory=list)
    quiet_s: float = 0.0
    left: Backlog = field(default_factory=lambda: Backlog(None, None, None))


def run(size: Size, folder: Path, tell: Tell) -> dict[str, Any]:
    """One whole run; the figures, with what was broken."""
    began = time.monotonic()
    with cluster(folder, tell, seed=size.seed) as running:
        running.simulation.scenario(faulty(*webhooks(running), seed=size.seed))
        figures = uvloop.run(_run(running, size, tell))
    figures["seconds"] = round(time.monotonic() - began, 1)
    return figures


async def _run(running: Cluster, size: Size, tell: Tell) -> dict[str, Any]:
    async with doubled(running):
        seen = await _load_and_faults(running, size, tell)
        tell(f"quiet after {seen.quiet_s:.1f} s; checking")
        return await _check(running, size, seen)


# -- load and faults ---------------------------------------------------------------------------------------------


async def _load_and_faults(running: Cluster, size: Size, tell: Tell) -> Seen:
    seen = Seen()
    clients, faults = Ledger(running.folder / "client.jsonl"), Ledger(running.folder / "nemesis.jsonl")
    client = Client(running, clients, seed=size.seed)
    nemesis = Nemesis(running, faults)
    await nemesis.heal()  # everything is up before the first fault
    planned_requests = plan(size.seed, messages=size.messages, seconds=size.seconds, endpoints=list(DOORS))
    planned = schedule(size.seed, kills=size.kills, seconds=size.seconds, targets=nemesis.names)
    faults.write(stage="begin", seed=size.seed, faults=len(planned))
    sampling = asyncio.create_task(_sample(running, seen.waits))
    showing = asyncio.create_task(_show(running, size, client, nemesis, tell))
    try:
        await asyncio.gather(client.run(planned_requests), nemesis.run(planned))
        await nemesis.heal()
        tell("healed; waiting for quiet")
        seen.quiet_s, seen.left = await wait_until_quiescent(running, within=QUIET_WITHIN, tell=tell)
        await _receipts_at_rest(running)
    finally:
        for task in (sampling, showing):
            task.cancel()
        await asyncio.gather(sampling, showing, return_exceptions=True)
    seen.counts, seen.faults, seen.unhealed = client.counts, nemesis.counts, nemesis.unhealed
    return seen


async def _sample(running: Cluster, waits: recovery_time.Waits) -> None:
    """Learn until when deliveries wait by policy: their history does not say it."""
    while True:
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await asyncpg.connect(running.postgres, timeout=2, command_timeout=2)
            try:
                while True:
                    for row in await connection.fetch(
                        "SELECT id, last_event_sequence, due_at FROM deliveries"
                        " WHERE due_at IS NOT NULL AND NOT in_flight AND enqueued_at IS NULL"
                    ):
                        waits[row["id"].hex, row["last_event_sequence"]] = row["due_at"]
                    await asyncio.sleep(_SAMPLE_EVERY)
            finally:
                connection.terminate()
        await asyncio.sleep(_SAMPLE_EVERY)


async def _show(running: Cluster, size: Size, client: Client, nemesis: Nemesis, tell: Tell) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(5)
        left = await backlog(running, bus=False)
        done = ", ".join(f"{number} {kind}s" for kind, number in sorted(nemesis.counts.items()))
        unsettled = "?" if left.unsettled is None else left.unsettled
        tell(
            f"{time.monotonic() - began:4.0f} s  {client.counts['placed']}/{size.messages} messages, "
            f"{done or 'no fault yet'} (newest: {nemesis.newest}), {unsettled} unsettled"
        )


async def _receipts_at_rest(running: Cluster) -> None:
    """The simulator says what it has to say within a second or so of an acceptance, and repeats what we refused."""
    size = -1
    for _ in range(30):
        found = running.simulation.receipts.stat().st_size if running.simulation.receipts.exists() else 0
        if found == size:
            return
        size = found
        await asyncio.sleep(2.0)


# -- the check ---------------------------------------------------------------------------------------------------


async def _check(running: Cluster, size: Size, seen: Seen) -> dict[str, Any]:
    clients, faults = running.folder / "client.jsonl", running.folder / "nemesis.jsonl"
    verified = await asyncio.to_thread(
        running.command, "verify", "--at-rest", "--json", "--call-log", str(running.simulation.calls)
    )
    report = json.loads(verified.stdout) if verified.stdout.startswith("{") else {"violations": 1, "faults": []}
    spans = oracle.spans(faults)
    known = await db_snapshot.load(running)
    checked = [
        oracle.check_client(clients, known, spans),
        oracle.check_calls(running.simulation.calls, clients, known),
        oracle.check_receipts(running.simulation.receipts, known),
        oracle.check_ambiguity(running.simulation.calls, known, spans),
        _check_end(seen, report),
    ]
    measured, stalled = recovery_time.recovery_times(known, spans, seen.waits)
    checked.append(_check_redrive(measured))
    counts: Counter[str] = sum((one.counts for one in checked), Counter())
    violations: Counter[str] = sum((one.violations for one in checked), Counter())
    return {
        "messages": known.messages,
        "kills": seen.faults["kill"],
        "seed": size.seed,
        "lost": counts["lost"],
        "terminal": counts["terminal"],
        "calls": counts["calls"],
        "unknown_attempts": report.get("unknown_attempts"),
        "extra_calls": report.get("extra_calls"),
        "duplicates_once": report.get("duplicates_once"),
        "duplicates_idempotent": report.get("duplicates_idempotent"),
        "recovery_p99_s": measured.p99,
        "seconds": 0.0,
        "planned": size.messages,
        "acknowledged": counts["ok"],
        "faults": dict(seen.faults),
        "answers": dict(seen.counts),
        "states": report.get("states"),
        "attempts": report.get("attempts"),
        "duplicates": counts["duplicates"],
        "unknown_by_scenario": counts["unknown_by_scenario"],
        "unknown_by_fault": counts["unknown_by_fault"],
        "revoked": counts["revoked"],
        "refused_yet_sent": counts["refused_yet_sent"],
        "wiped_before_read": counts["wiped_before_read"],
        "receipts": counts["receipts"],
        "forged": counts["forged"],
        "conflicts": counts["conflicts"],
        "cancels": {name[7:]: number for name, number in counts.items() if name.startswith("cancel ")},
        "recovered": measured.n,
        "recovery_p50_s": measured.p50,
        "recovery_max_s": measured.longest,
        "stalled_p99_s": stalled.p99,
        "quiescence_s": round(seen.quiet_s, 1),
        "violations": dict(violations),
        "evidence": [fault for one in checked for fault in one.faults],
    }


def _check_redrive(measured: recovery_time.Spread) -> Findings:
    findings = Findings()
    if measured.p99 > REDRIVEN_WITHIN:
        findings.add("I12", f"one delivery in a hundred was driven again only {measured.p99} s after the heal")
    return findings


def _check_end(seen: Seen, report: dict[str, Any]) -> Findings:
    findings = Findings()
    for fault in report["faults"]:
        findings.add("verify", f"{fault['id']}: {fault['fault']}")
    if report["violations"] > len(report["faults"]):
        findings.add("verify", f"{report['violations']} faults in all")
    if not seen.left.none:
        findings.add("I12", f"not quiet {QUIET_WITHIN:.0f} s after the heal: {seen.left}")
    for name in seen.unhealed:
        findings.add("I12", f"{name} did not come back")
    return findings
