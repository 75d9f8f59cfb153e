"""``python -m bench.routing``: the table of policies and faults, and one JSON object as the last line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from random import Random
from typing import Any

from bench.routing import policies
from bench.routing.engine import Policy, Run
from bench.routing.ours import Ours
from bench.routing.score import Figures, figures, j
from bench.routing.world import FAULTS, STANDARD, Setting, World, varied

VOLUMES = (30.0, 2.0)
POLICIES: dict[str, Callable[[World], Policy]] = {
    "static": policies.Static,
    "weights": policies.Weights,
    "seed, all errors": lambda world: policies.SeedRule(world, all_errors=True),
    "seed": policies.SeedRule,
    "seed, trial": lambda world: policies.SeedRule(world, trial=True),
    "ours": Ours,
}


def one(case: tuple[str, float, int, bool, tuple[str, ...]]) -> dict[str, tuple[Figures, float]]:
    """The figures and J of every policy in one world."""
    name, rate, seed, vary, wanted = case
    setting = varied(rate, Random(f"setting {seed}")) if vary else Setting(rate)

    def run(policy: Callable[[World], Policy]) -> Figures:
        world = World(setting, FAULTS[name], seed)
        acting = policy(world)
        return figures(world, Run(world, acting).run(), acting.ejections())

    oracle = run(policies.Oracle)
    found = {policy: run(POLICIES[policy]) for policy in wanted}
    return {policy: (each, j(each, oracle)) for policy, each in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.routing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each fault and volume (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--faults", nargs="*", default=list(STANDARD), choices=list(FAULTS))
    parser.add_argument("--policies", nargs="*", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--rates", nargs="*", type=float, default=list(VOLUMES))
    parser.add_argument("--vary", action="store_true", help="other latencies, success rates and shares in each run")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    cases = [
        (fault, rate, seed, options.vary, tuple(options.policies))
        for fault in options.faults
        for rate in options.rates
        for seed in seeds
    ]
    with ProcessPoolExecutor(options.workers) as pool:
        results = dict(zip(cases, pool.map(one, cases), strict=True))
    print(json.dumps(report(results, options)))
    return 0


def report(results: dict[Any, dict[str, tuple[Figures, float]]], options: argparse.Namespace) -> dict[str, Any]:
    """Print the table; the totals."""
    table: dict[tuple[str, float, str], float] = {}
    for fault in options.faults:
        for rate in options.rates:
            print(f"\n{fault} at {rate:g}/s")
            for policy in options.policies:
                runs = [found[policy] for case, found in results.items() if case[:2] == (fault, rate)]
                table[fault, rate, policy] = mean([score for _, score in runs])
                print(f"  {policy:18} J {table[fault, rate, policy]:7.2f}  {line([each for each, _ in runs])}")
    sums = {policy: sum(v for (_, _, name), v in table.items() if name == policy) for policy in options.policies}
    print("\n" + "  ".join(f"{policy}: {total:.1f}" for policy, total in sums.items()))
    totals: dict[str, Any] = {"j": {policy: round(total, 2) for policy, total in sums.items()}}
    if {"ours", "seed", "seed, trial"} <= sums.keys():
        ours = [
            (fault, rate, table[fault, rate, "ours"] - table[fault, rate, "seed"])
            for fault in options.faults
            for rate in options.rates
        ]
        runs = [(case, found["ours"][0]) for case, found in results.items() if case[0] in ("outage", "hang")]
        totals |= {
            "j_over_seed": round(sums["ours"] / sums["seed"], 3),
            "j_over_seed_with_trial": round(sums["ours"] / sums["seed, trial"], 3),
            "worst_scenario_points": round(max(more for _, _, more in ours), 2),
            "false_ejections": sum(
                found["ours"][0].false_ejections for case, found in results.items() if case[0] == "badlist"
            ),
            "returned_percent": round(
                100 * mean([each.returned is not None and each.returned <= 120 for _, each in runs]), 1
            ),
        }
    return totals


def mean(values: list[Any]) -> float:
    return sum(values) / len(values) if values else 0.0


def line(runs: list[Figures]) -> str:
    """The means of some runs."""
    fields = asdict(runs[0])
    text = []
    for name in fields:
        values = [getattr(run, name) for run in runs]
        known = [value for value in values if value is not None]
        missing = len(values) - len(known)
        text.append(f"{name} {mean(known):.2f}" + (f" ({missing} never)" if missing else ""))
    return "  ".join(text)


if __name__ == "__main__":
    sys.exit(main())
