"""Runs campaigns on one system: the providers work before each, and everything is verified after the last."""

import json
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from sluice_launcher.progress import Progress
from tests.chaos.campaigns import (
    backlog,
    bulk,
    cancellation,
    data_loss,
    expiry,
    failover,
    idempotency,
    poison,
    providers,
    restarts,
)
from tests.chaos.cluster import Cluster, cluster, webhooks, with_replicas
from tests.chaos.nemesis import Nemesis
from tests.chaos.quiescence import wait_until_quiescent
from tests.chaos.simulation import hooked

Run = Callable[[Cluster, int, Progress], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Campaign:
    """Its name, the unit of its size, and its size in full and in CI."""

    name: str
    run: Run
    unit: str
    full: int
    small: int


CAMPAIGNS: Mapping[str, Campaign] = {
    one.name: one
    for one in (
        Campaign("idempotency", idempotency.run, "keys, with Redis and without", 10_000, 150),
        Campaign("cancel", cancellation.run, "races", 20_000, 500),
        Campaign("poison", poison.run, "good records, and a tenth of bad ones", 20_000, 400),
        Campaign("rolling", restarts.rolling, "restarts at 100 messages a second", 20, 3),
        Campaign("backlog", backlog.run, "messages in the dispatch queue", 20_000, 600),
        Campaign("wipe", data_loss.run, "wipes of Kafka and Redis", 3, 1),
        Campaign("storm", restarts.storm, "seconds", 300, 16),
        Campaign("providers", providers.run, "seconds", 60, 6),
        Campaign("expiry", expiry.run, "messages", 3_000, 400),
        Campaign("failing", failover.failing, "messages", 3_000, 120),
        Campaign("bulk", bulk.run, "recipients of one job, and 5 kills", 100_000, 2_000),
        Campaign("hanging", failover.hanging, "messages", 1_200, 300),
    )
}


def run(sizes: Mapping[str, int], folder: Path, progress: Progress) -> dict[str, Any]:
    """Run them; returns figures and violations."""
    began = time.monotonic()
    with cluster(folder, progress) as running:
        found = uvloop.run(_run(running, sizes, progress))
    found["seconds"] = round(time.monotonic() - began, 1)
    return found


async def _run(running: Cluster, sizes: Mapping[str, int], progress: Progress) -> dict[str, Any]:
    results: dict[str, Any] = {}
    async with with_replicas(running):
        await Nemesis(running, running.ledger("start.jsonl")).heal()
        for name, size in sizes.items():
            running.simulation.scenario(
                {"endpoints": hooked(*webhooks(running)), "default": {"receipts": {"kinds": []}}}
            )
            progress(f"{name}: {size} {CAMPAIGNS[name].unit}")
            began = time.monotonic()
            results[name] = await _one(CAMPAIGNS[name], running, size, progress)
            results[name]["took_s"] = round(time.monotonic() - began, 1)
            progress(f"{name}: {json.dumps(results[name])}")
        _, left = await wait_until_quiescent(running, within=180, progress=progress)
    verified = running.command("verify", "--at-rest", "--json", "--call-log", str(running.simulation.calls))
    report = json.loads(verified.stdout)
    violations = {name: result["violations"] for name, result in results.items() if result["violations"]}
    if report["violations"]:
        violations["verify"] = report["faults"]
    if not left.none:
        violations["quiescence"] = [str(left)]
    verify = {
        name: report[name] for name in ("deliveries", "attempts", "unknown_attempts", "calls", "states", "violations")
    }
    return {"campaigns": results, "verify": verify, "violations": violations}


async def _one(campaign: Campaign, running: Cluster, size: int, progress: Progress) -> dict[str, Any]:
    try:
        return await campaign.run(running, size, progress)
    except Exception as error:  # the other campaigns still run
        progress(traceback.format_exc())
        return {"size": size, "violations": [f"{type(error).__name__}: {error}"]}


def table(results: Mapping[str, Any]) -> str:
    """The table of docs/reliability.md."""
    lines = ["| campaign | size | held | seconds |", "| --- | --- | --- | --- |"]
    for name, result in results.items():
        size = next(value for key, value in result.items() if isinstance(value, int))
        held = "yes" if not result["violations"] else "**no**"
        lines.append(f"| {name} | {size} {CAMPAIGNS[name].unit} | {held} | {result['took_s']} |")
    return "\n".join(lines) + "\n"
