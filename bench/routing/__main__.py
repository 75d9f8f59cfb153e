"""``make simulate-routing``: routing policies in eight faults at two volumes: a table, plots, and one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from random import Random
from typing import Protocol

from bench.routing import plots, policies, report
from bench.routing.ours import Ours
from bench.routing.report import Case, Results
from bench.routing.score import Score, score_of
from bench.routing.world import DURATION, FAULTS, STANDARD, Message, Setting, World, varied
from sluice.delivery import replay

VOLUMES = (30.0, 2.0)  # messages a second
MAX_ATTEMPTS = 3  # providers for a message; one round


class Policy(replay.Policy[str, Message], Protocol):
    """A policy that is compared."""

    def ejections(self) -> list[float]:
        """When a provider lost its traffic on purpose."""


POLICIES: Mapping[str, Callable[[World], Policy]] = {
    "static": policies.Static,
    "weights": policies.Weights,
    "seed": policies.SeedRule,
    "seed, trial": policies.SeedRuleWithTrial,
    "ours": Ours,
}


def simulate(case: Case, wanted: Sequence[str], *, vary: bool) -> dict[str, Score]:
    """The score of every policy in one world."""
    setting = varied(case.rate, Random(f"setting {case.seed}")) if vary else Setting(case.rate)

    def run(policy: Callable[[World], Policy], oracle: Score | None = None) -> Score:
        world = World(setting, FAULTS[case.fault], case.seed)
        acting, messages = policy(world), world.messages()
        replay.Replay(acting, world.call, max_attempts=MAX_ATTEMPTS, until=DURATION + 60).run(messages)
        return score_of(world, messages, acting.ejections(), None if oracle is None else oracle.figures)

    best = run(policies.Oracle)
    return {name: run(POLICIES[name], best) for name in wanted}


def simulate_all(cases: Sequence[Case], wanted: Sequence[str], *, vary: bool, workers: int) -> Results:
    """The scores of all cases; progress on stderr."""
    found: Results = {}
    progress = Progress(sum(case.rate for case in cases))
    with ProcessPoolExecutor(workers, initializer=os.nice, initargs=(19,)) as pool:
        running = {pool.submit(simulate, case, wanted, vary=vary): case for case in cases}
        for done in as_completed(running):
            case = running[done]
            found[case] = done.result()
            progress.add(case.rate)
    return {case: found[case] for case in cases}


class Progress:
    """Writes the share of the work that is done and the time that is left: in place, or a line for each tenth."""

    def __init__(self, total: float) -> None:
        self._total, self._done, self._tenths = total, 0.0, 0
        self._began = time.monotonic()

    def add(self, work: float) -> None:
        """So much more is done."""
        self._done += work
        share = self._done / self._total
        left = (time.monotonic() - self._began) * (1 - share) / share
        text = f"{share:4.0%} simulated, about {left / 60:.0f} min left"
        if sys.stderr.isatty():
            print(f"\r{text}  ", end="" if share < 1 else "\n", file=sys.stderr, flush=True)
        elif int(10 * share) > self._tenths:
            print(text, file=sys.stderr, flush=True)
        self._tenths = int(10 * share)


def main() -> int:
    """Simulate, print the table, draw the plots, print the JSON object."""
    parser = argparse.ArgumentParser(prog="python -m bench.routing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each fault and volume (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--faults", nargs="*", default=list(STANDARD), choices=list(FAULTS))
    parser.add_argument("--policies", nargs="*", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--rates", nargs="*", type=float, default=list(VOLUMES), help="messages a second")
    parser.add_argument("--vary", action="store_true", help="other latencies, success rates and shares in each run")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--plots", type=Path, help="the folder of the plots; none are drawn without it")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    cases = [
        Case(fault, rate, seed)
        for rate in sorted(options.rates, reverse=True)
        for fault in options.faults
        for seed in seeds
    ]
    results = simulate_all(cases, options.policies, vary=options.vary, workers=options.workers)
    print(report.table(results))
    if options.plots:
        plots.draw(results, options.plots)
    print(json.dumps(report.summary(results) | {"seeds": [seeds.start, seeds.stop - 1], "varied": options.vary}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
