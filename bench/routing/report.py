"""The table of a simulation and its totals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from bench.routing.score import Figures, Score

RETURN_LIMIT = 120.0  # seconds after the repair within which the first provider is used again


class Case(NamedTuple):
    """One world: a fault, a volume (messages a second) and a seed."""

    fault: str
    rate: float
    seed: int


Results = dict[Case, dict[str, Score]]
"""The score of every policy in every world."""


def scenarios(results: Results) -> dict[tuple[str, float], list[dict[str, Score]]]:
    """The runs of each fault and volume."""
    found: dict[tuple[str, float], list[dict[str, Score]]] = {}
    for case, scores in results.items():
        found.setdefault((case.fault, case.rate), []).append(scores)
    return found


def mean_j(runs: Sequence[Mapping[str, Score]], policy: str) -> float:
    """The mean J of a policy over some runs."""
    return _mean([run[policy].j for run in runs])


def table(results: Results) -> str:
    """One block for each fault and volume, one line for each policy: J and the means of the figures."""
    lines = []
    for (fault, rate), runs in scenarios(results).items():
        lines.append(f"\n{fault} at {rate:g}/s")
        for policy in runs[0]:
            found = [run[policy].figures for run in runs]
            lines.append(f"  {policy:12} J {mean_j(runs, policy):7.2f}  {_line(found)}")
    return "\n".join(lines)


def summary(results: Results) -> dict[str, Any]:
    """J of each policy over all faults and volumes, and how ours compares with the seed rule, where both were run."""
    blocks = scenarios(results)
    names = next(iter(results.values())).keys()
    j = {name: sum(mean_j(runs, name) for runs in blocks.values()) for name in names}
    found: dict[str, Any] = {"j": {name: round(total, 2) for name, total in j.items()}}
    if "ours" not in j:
        return found
    if "seed" in j:
        worse = {where: mean_j(runs, "ours") - mean_j(runs, "seed") for where, runs in blocks.items()}
        fault, rate = max(worse, key=lambda where: worse[where])
        found |= {
            "j_over_seed": round(j["ours"] / j["seed"], 3),
            "worst_scenario_points": round(worse[fault, rate], 2),
            "worst_scenario": f"{fault} at {rate:g}/s",
        }
    if "seed, trial" in j:
        found["j_over_seed_with_trial"] = round(j["ours"] / j["seed, trial"], 3)
    ours = {case: scores["ours"].figures for case, scores in results.items()}
    returned = [each.returned is not None and each.returned <= RETURN_LIMIT for each in ours.values()]
    return found | {
        "false_ejections": sum(each.false_ejections for case, each in ours.items() if case.fault == "badlist"),
        "returned_percent": round(100 * _mean(returned), 1),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _line(runs: Sequence[Figures]) -> str:
    text = []
    for field in fields(Figures):
        values = [getattr(run, field.name) for run in runs]
        known = [value for value in values if value is not None]
        never = len(values) - len(known)
        text.append(f"{field.name} {_mean(known):.2f}" + (f" ({never} never)" if never else ""))
    return "  ".join(text)
