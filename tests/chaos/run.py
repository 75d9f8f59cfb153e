"""``python -m tests.chaos chaos``: load, faults, heal, quiescence, check."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from sluice.store.db import DATABASE_ERRORS
from sluice_launcher.progress import Progress
from tests.chaos import attribution, db_snapshot, oracle, recovery_time
from tests.chaos.analytics import check_analytics
from tests.chaos.client import Client
from tests.chaos.cluster import ACCOUNTS, Cluster, cluster, webhooks, with_replicas
from tests.chaos.customer import WEBHOOKS, check_webhooks, customer
from tests.chaos.ledgers import Ledger, read
from tests.chaos.nemesis import Nemesis, schedule
from tests.chaos.oracle import Findings
from tests.chaos.quiescence import Backlog, backlog, wait_until_quiescent
from tests.chaos.simulation import EVERY_ENDPOINT, faulty
from tests.chaos.workload_plan import plan

QUIESCENT_WITHIN = 180.0  # seconds from the heal
RECOVERED_WITHIN = 15.0  # seconds from the heal, for 99 of 100
_SAMPLE_EVERY = 0.4  # seconds
# Figures of the oracle, and of `sluice verify`.
COUNTED = (
    *(
        "packages",
        "channels",
        "lost",
        "terminal",
        "calls",
        "duplicates",
        "unknown_by_scenario",
        "unknown_by_fault",
        "revoked",
    ),
    *("refused_yet_sent", "wiped_before_read", "receipts", "forged", "conflicts"),
    *("webhooks", "webhook_requests", "webhooks_of_wiped_events", "rollups"),
)
VERIFIED = ("states", "attempts", "unknown_attempts", "extra_calls", "duplicates_once", "duplicates_idempotent")


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a run. Equal seeds give equal requests, faults and simulator decisions."""

    messages: int
    kills: int
    seed: int
    seconds: float  # duration of load and faults
    recovered_within: float = RECOVERED_WITHIN


@dataclass(slots=True)
class Seen:
    """Observations of the run itself, beside the ledgers."""

    waits: recovery_time.Waits = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    unhealed: list[str] = field(default_factory=list)
    quiescence_s: float = 0.0
    left: Backlog = field(default_factory=lambda: Backlog(None, None, None))


def run(size: Size, folder: Path, progress: Progress) -> dict[str, Any]:
    """One whole run; returns its figures and violations."""
    began = time.monotonic()
    started = cluster(folder, progress, seed=size.seed, endpoints=EVERY_ENDPOINT)
    with started as running, customer(running):
        running.simulation.scenario(faulty(*webhooks(running, EVERY_ENDPOINT), seed=size.seed))
        figures = uvloop.run(_run(running, size, progress))
    figures["seconds"] = round(time.monotonic() - began, 1)
    return figures


async def _run(running: Cluster, size: Size, progress: Progress) -> dict[str, Any]:
    async with with_replicas(running):
        seen = await _load_and_faults(running, size, progress)
        progress(f"quiescent after {seen.quiescence_s:.1f} s; checking")
        return await _check(running, size, seen)


# -- load and faults ---------------------------------------------------------------------------------------------


async def _load_and_faults(running: Cluster, size: Size, progress: Progress) -> Seen:
    seen = Seen()
    clients, faults = Ledger(running.folder / "client.jsonl"), Ledger(running.folder / "nemesis.jsonl")
    client = Client(running, clients, seed=size.seed)
    nemesis = Nemesis(running, faults)
    await nemesis.heal()  # everything is up before the first fault
    channels = {source: ACCOUNTS[kind].channel.value for source, kind in EVERY_ENDPOINT.items()}
    planned_requests = plan(size.seed, messages=size.messages, seconds=size.seconds, endpoints=channels)
    planned = schedule(size.seed, kills=size.kills, seconds=size.seconds, targets=nemesis.names)
    faults.write(stage="begin", seed=size.seed, faults=len(planned))
    sampling = asyncio.create_task(_sample(running, seen.waits))
    showing = asyncio.create_task(_show(running, size, client, nemesis, progress))
    try:
        await asyncio.gather(client.run(planned_requests), nemesis.run(planned))
        await nemesis.heal()
        progress("healed; waiting for quiescence")
        seen.quiescence_s, seen.left = await wait_until_quiescent(running, within=QUIESCENT_WITHIN, progress=progress)
        await _receipts_at_rest(running)
    finally:
        for task in (sampling, showing):
            task.cancel()
        await asyncio.gather(sampling, showing, return_exceptions=True)
    seen.counts, seen.faults, seen.unhealed = client.counts, nemesis.counts, nemesis.unhealed
    return seen


async def _sample(running: Cluster, waits: recovery_time.Waits) -> None:
    """Sample the due times of deliveries that wait by policy: their history does not contain them."""
    while True:
        with contextlib.suppress(*DATABASE_ERRORS):
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


async def _show(running: Cluster, size: Size, client: Client, nemesis: Nemesis, progress: Progress) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(5)
        left = await backlog(running, bus=False)
        done = ", ".join(f"{number} {kind}s" for kind, number in sorted(nemesis.counts.items()))
        unsettled = "?" if left.unsettled is None else left.unsettled
        progress(
            f"{time.monotonic() - began:4.0f} s  {client.counts['placed']}/{size.messages} messages, "
            f"{done or 'no fault yet'} (newest: {nemesis.newest}), {unsettled} unsettled"
        )


async def _receipts_at_rest(running: Cluster) -> None:
    """Wait until the simulator sends no receipt any more: it repeats those that were not answered 2xx."""
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
    known = await db_snapshot.load(running)
    calls, receipts = attribution.attribute(running, known)
    report = await asyncio.to_thread(_verify, running, calls)
    spans = oracle.spans(faults)
    recovered, stalled = recovery_time.recovery_times(known, spans, seen.waits)
    findings = [
        oracle.check_client(clients, known, spans),
        *_check_calls(calls, clients, known, spans),
        oracle.check_receipts(receipts, known),
        oracle.check_failovers(known),
        check_webhooks(running.folder / WEBHOOKS, known, spans),
        await check_analytics(running, spans),
        _check_end(seen, report),
        _check_recovery(recovered, size.recovered_within),
    ]
    counts: Counter[str] = sum((one.counts for one in findings), Counter())
    violations: Counter[str] = sum((one.violations for one in findings), Counter())
    return {
        "messages": known.messages,
        "kills": seen.faults["kill"],
        "seed": size.seed,
        "seconds": 0.0,
        "planned": size.messages,
        "acknowledged": counts["ok"],
        **{name: counts[name] for name in COUNTED},
        **{name: report.get(name) for name in VERIFIED},
        "faults": dict(seen.faults),
        "answers": dict(seen.counts),
        "cancels": {name[7:]: number for name, number in counts.items() if name.startswith("cancel ")},
        "recovered": recovered.n,
        "recovery_p50_s": recovered.p50,
        "recovery_p99_s": recovered.p99,
        "recovery_max_s": recovered.longest,
        "stalled_p99_s": stalled.p99,
        "quiescence_s": round(seen.quiescence_s, 1),
        "violations": dict(violations),
        "evidence": [fault for one in findings for fault in one.faults],
    }


def _check_calls(calls: Path, clients: Path, known: db_snapshot.DbSnapshot, spans: list[oracle.Span]) -> list[Findings]:
    return [
        oracle.check_calls(calls, clients, known),
        oracle.check_unknown_attempts(calls, known, spans),
        oracle.check_outcomes(calls, known),
        _check_packages(calls),
    ]


def _check_packages(calls: Path) -> Findings:
    """Every package took messages: a run whose providers are not used proves nothing about them."""
    findings = Findings()
    used = {EVERY_ENDPOINT[line["endpoint"]] for line in read(calls) if line["accepted"]}
    findings.counts["packages"] = len({ACCOUNTS[kind].package for kind in used})
    findings.counts["channels"] = len({ACCOUNTS[kind].channel for kind in used})
    for kind in sorted({*EVERY_ENDPOINT.values()} - used):
        findings.add("coverage", f"no message was accepted by {ACCOUNTS[kind].package}")
    return findings


def _verify(running: Cluster, calls: Path) -> dict[str, Any]:
    """The report of ``sluice verify``, or its error as a violation."""
    done = running.command("verify", "--at-rest", "--json", "--call-log", str(calls))
    if done.stdout.startswith("{"):
        report: dict[str, Any] = json.loads(done.stdout)
        return report
    return {"violations": 1, "faults": [{"id": "sluice verify", "fault": done.stderr[-500:]}]}


def _check_recovery(measured: recovery_time.Spread, within: float) -> Findings:
    findings = Findings()
    if measured.p99 > within:
        findings.add("I12", f"the 99th percentile of the recovery times is {measured.p99} s")
    return findings


def _check_end(seen: Seen, report: dict[str, Any]) -> Findings:
    findings = Findings()
    for fault in report["faults"]:
        findings.add("verify", f"{fault['id']}: {fault['fault']}")
    if report["violations"] > len(report["faults"]):
        findings.add("verify", f"{report['violations']} violations in all")
    if not seen.left.none:
        findings.add("I12", f"not quiescent {QUIESCENT_WITHIN:.0f} s after the heal: {seen.left}")
    for name in seen.unhealed:
        findings.add("I12", f"{name} is not ready again")
    return findings
