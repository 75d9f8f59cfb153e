"""The CPU time of each role: py-spy under load, a flame graph and a budget per step."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

from bench import flame, sink_client
from bench.environment import Environment
from bench.processes import ROOT, Failed, bench_program
from bench.report import DOCS, Report, print_line
from bench.runs import Load, Run, perform
from bench.scenarios import WINDOW
from bench.systems import ROLE_NAMES, Competitor, Sluice, Subject, start_floor_k
from bench.traffic import Shape, Stream

FOLDER = DOCS / "profile"
BUSY = ("gateway", "router", "email-worker", "health")
SAMPLES = 100  # per second


async def record_profiles(options: argparse.Namespace) -> int:
    """Record every busy role, and Floor K's two for comparison."""
    wanted: Sequence[str] = options.roles or (*BUSY, "floor-k")
    unknown = [name for name in wanted if name not in (*ROLE_NAMES, "floor-k")]
    if unknown:
        raise Failed(f"there is no role {unknown[0]}: there are {', '.join(ROLE_NAMES)}, floor-k")
    py_spy = bench_program("py-spy")
    report = Report("profile", provisional=options.provisional)
    found: dict[str, dict[str, Any]] = {}
    if not options.no_docs:
        FOLDER.mkdir(parents=True, exist_ok=True)
    async with Environment(keep=options.keep, limit=options.limit) as env:
        await env.sink.behave(sink_client.FAST)
        ours = await Sluice.start(env, "profile", channels=("email",))
        floor: Competitor | None = None
        try:
            await _load(env, ours, options.rate, 3.0)
            for name in wanted:
                if name != "floor-k":
                    found[name] = await _record(env, ours, name, py_spy, options)
            if "floor-k" in wanted:
                floor = await start_floor_k(env)
                await _load(env, floor, options.rate, 3.0)
                for part in floor.roots():
                    found[f"floor-k-{part}"] = await _record(env, floor, part, py_spy, options)
        finally:
            ours.end()
            if floor is not None:
                floor.end()
        report.seconds = env.took
    page = _page(report, found)
    if not options.no_docs:
        (FOLDER / "budget.md").write_text(page)
        (FOLDER / "budget.json").write_text(json.dumps({**report.short(), "roles": found}, indent=2) + "\n")
    print_line(page)
    return 0


async def _load(
    env: Environment, system: Subject, rate: float, seconds: float, actions: Sequence[Any] = (), warm: float = 1.0
) -> Run:
    run = env.next_run()
    kind = "poisson" if rate else "window"
    stream = Stream("all", Shape(run).template(), rate, kind, keys=system.keys)
    load = Load((stream,), seconds=seconds, warm=warm, run=run, window=0 if rate else WINDOW)
    return await perform(env, system, load, actions)


async def _record(
    env: Environment, system: Subject, role: str, py_spy: str, options: argparse.Namespace
) -> dict[str, Any]:
    path = env.folder / f"{system.name}-{role}.folded"
    pid = system.roots()[role]
    # The cost is measured without the profiler, the shares with it.
    plain = await _load(env, system, options.rate, max(4.0, options.seconds / 2))

    async def spy() -> None:
        process = await asyncio.create_subprocess_exec(
            *(py_spy, "record", "--pid", str(pid), "--duration", f"{options.seconds:.0f}", "--rate", str(SAMPLES)),
            *("--format", "raw", "--full-filenames", "--output", str(path)),
            *(["--native"] if options.native else []),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        if process.returncode or not path.exists():
            raise Failed(f"py-spy could not record {role}: {errors.decode(errors='replace').strip()[-300:]}")

    await _load(env, system, options.rate, options.seconds + 2.0, [(1.0, spy)])
    stacks = flame.parse(_anonymous(path.read_text()))
    name = role if isinstance(system, Sluice) else f"{system.name}-{role}"
    cost = plain.per_thousand(plain.cpu[role]) or 0.0
    env.say(f"{name}: {sum(stacks.values())} samples, {cost:.3f} CPU-s per 1,000")
    if not options.no_docs:
        (FOLDER / f"{name}.svg").write_text(flame.svg(stacks, name))
    return {
        "cpu_s_per_1000": round(cost, 4),
        "messages_per_s": round(plain.rate, 1),
        "samples": sum(stacks.values()),
        "steps": {step: round(share * cost, 4) for step, share in flame.budget(stacks).items()},
        "hottest": [[frame, round(share, 4)] for frame, share in flame.hottest(stacks)],
    }


def _anonymous(folded: str) -> str:
    """Paths as they are in any installation, not as on this machine."""
    found = re.sub(rf"{re.escape(str(ROOT))}/(libs|services)/[a-z-]+/src/", "", folded)
    found = re.sub(rf"{re.escape(str(ROOT))}/", "", found)
    return re.sub(r"[^ ;()]*/lib/python3\.\d+/(site-packages/)?", "", found)


def _page(report: Report, found: dict[str, dict[str, Any]]) -> str:
    short = report.short()
    lines = [
        "# Budget per step",
        "",
        *(["**Provisional: the machine was not quiet. Not to be quoted.**", ""] if report.provisional else []),
        f"`python -m bench profile` at {short['at']}, {short['versions']['sluice']}, "
        f"{short['machine']['cores']} cores. CPU seconds per 1,000 messages: the role's cost is measured without the "
        "profiler, its shares with py-spy "
        f"({SAMPLES} samples a second). The innermost frame that belongs to a step decides.",
        "",
        "| role | messages/s | CPU-s per 1,000 |",
        "|---|---|---|",
    ]
    for role, shown in found.items():
        lines.append(f"| [{role}]({role}.svg) | {shown['messages_per_s']:g} | {shown['cpu_s_per_1000']:.3f} |")
    steps = list(dict.fromkeys(step for shown in found.values() for step in shown["steps"]))
    lines += ["", "| step | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for step in steps:
        cells = [f"{shown['steps'].get(step, 0.0):.3f}" for shown in found.values()]
        lines.append(f"| {step} | " + " | ".join(cells) + " |")
    for role, shown in found.items():
        lines += ["", f"## {role}: where the samples ended", ""]
        lines += [f"- {share:.1%} `{frame}`" for frame, share in shown["hottest"]]
    return "\n".join([*lines, ""])
