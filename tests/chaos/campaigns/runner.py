"""Running campaigns on one system: before each the providers behave, after all of them everything is verified."""

import json
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from tests.chaos.campaigns import backlog, cancellation, data_loss, expiry, idempotency, poison, providers, restarts
from tests.chaos.campaigns.load import Tell
from tests.chaos.cluster import Cluster, cluster, doubled, webhooks
from tests.chaos.nemesis import Nemesis
from tests.chaos.quiescence import wait_until_quiescent
from tests.chaos.simulation import hooked

Run = Callable[[Cluster, int, Tell], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Campaign:
    """What it is called, what its size means, and how large it is in full and in CI."""

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
        Campaign("backlog", backlog.run, "messages on the conveyor", 20_000, 600),
        Campaign("wipe", data_loss.run, "wipes of Kafka and Redis", 3, 1),
        Campaign("storm", restarts.storm, "seconds", 300, 16),
        Campaign("providers", providers.run, "seconds", 60, 6),
        Campaign("expiry", expiry.run, "messages", 3_000, 400),
    )
}


def run(sizes: Mapping[str, int], folder: Path, tell: Tell) -> dict[str, Any]:
    """The figures of each, with what was broken."""
    began = time.monotonic()
    with cluster(folder, tell) as running:
        found = uvloop.run(_run(running, sizes, tell))
    found["seconds"] = round(time.monotonic() - began, 1)
    return found


async def _run(running: Cluster, sizes: Mapping[str, int], tell: Tell) -> dict[str, Any]:
    results: dict[str, Any] = {}
    async with doubled(running):
        await Nemesis(running, running.ledger("start.jsonl")).heal()
        for name, size in sizes.items():
            running.simulation.scenario(
                {"endpoints": hooked(*webhooks(running)), "default": {"receipts": {"kinds": []}}}
            )
            tell(f"{name}: {size} {CAMPAIGNS[name].unit}")
            began = time.monotonic()
            results[name] = await _one(CAMPAIGNS[name], running, size, tell)
            results[name]["took_s"] = round(time.monotonic() - began, 1)
            tell(f"{name}: {json.dumps(results[name])}")
        _, left = await wait_until_quiescent(running, within=180, tell=tell)
    verified = running.command("verify", "--at-rest", "--json", "--call-log", str(running.simulation.calls))
    report = json.loads(verified.stdout)
    violations = {name: result["violations"] for name, result in results.items() if result["violations"]}
    if report["violations"]:
        violations["verify"] = report["faults"]
    if not left.none:
        violations["quiet"] = [str(left)]
    verify = {
        name: report[name] for name in ("deliveries", "attempts", "unknown_attempts", "calls", "states", "violations")
    }
    return {"campaigns": results, "verify": verify, "violations": violations}


async def _one(campaign: Campaign, running: Cluster, size: int, tell: Tell) -> dict[str, Any]:
    try:
        return await campaign.run(running, size, tell)
    except Exception as error:  # the others are to run all the same
        tell(traceback.format_exc())
        return {"size": size, "violations": [f"{type(error).__name__}: {error}"]}


def table(results: Mapping[str, Any]) -> str:
    """For the page."""
    lines = ["| campaign | size | held | seconds |", "| --- | --- | --- | --- |"]
    for name, result in results.items():
        size = next(value for key, value in result.items() if isinstance(value, int))
        held = "yes" if not result["violations"] else "**no**"
        lines.append(f"| {name} | {size} {CAMPAIGNS[name].unit} | {held} | {result['took_s']} |")
    return "\n".join(lines) + "\n"
