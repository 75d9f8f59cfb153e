"""The report of a measurement, as JSON and Markdown."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measures import BY_NAME, MEASURES
from bench.processes import ROOT
from bench.runs import Run
from bench.statistics import Spread

DOCS = ROOT / "docs/benchmarks"
VERSIONS = ("aiohttp", "aiokafka", "asyncpg", "pydantic", "starlette", "uvicorn", "uvloop")
PEER_VERSIONS = ("celery", "taskiq", "taskiq-redis")


class Report:
    """Grows while scenarios run; can be written at any time."""

    def __init__(self, profile: str, *, provisional: bool) -> None:
        self.profile = profile
        self.provisional = provisional
        self.seconds = 0.0
        self._began = datetime.now(UTC)
        self._load_before = os.getloadavg()[0]
        self._measures: dict[str, Spread] = {}
        self._figures: dict[str, dict[str, Any]] = {}
        self._runs: dict[str, list[dict[str, Any]]] = {}
        self._verified: dict[str, dict[str, Any]] = {}
        self._versions: dict[str, str] = {}
        self.failures: list[str] = []

    def measure(self, name: str, values: Sequence[float]) -> None:
        """A measure of the result table; no effect without values."""
        assert name in BY_NAME, name
        spread = Spread.of(values)
        if spread is not None:
            self._measures[name] = spread

    def figure(self, scenario: str, name: str, value: Any) -> None:
        """Any other figure."""
        self._figures.setdefault(scenario, {})[name] = value

    def ran(self, scenario: str, run: Run) -> None:
        """Add a run, for the JSON."""
        self._runs.setdefault(scenario, []).append(run.summary())

    def verified(self, scenario: str, found: dict[str, Any]) -> None:
        """Add the report of `sluice verify` after a scenario."""
        self._verified[scenario] = found

    def add_versions(self, versions: Mapping[str, str]) -> None:
        """Add versions of measured systems."""
        self._versions.update(versions)

    @property
    def ratios(self) -> dict[str, float | None]:
        """Every measure under its stable name; None if it was not measured."""
        found = {name: self._measures.get(name) for name in BY_NAME}
        return {name: None if spread is None else round(spread.median, 4) for name, spread in found.items()}

    def short(self) -> dict[str, Any]:
        """The ratios, with their spread and circumstances."""
        return {
            "form": self.profile,
            "provisional": self.provisional,
            "at": self._began.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 1),
            "ratios": self.ratios,
            "spread": {name: spread.as_json() for name, spread in self._measures.items()},
            "reached": {name: BY_NAME[name].reached(spread.median) for name, spread in self._measures.items()},
            "void_runs": sum(bool(run["void"]) for runs in self._open_loop() for run in runs),
            "faults": [*self._faults(), *self.failures],
            "machine": machine(self._load_before),
            "versions": {**versions(VERSIONS), **self._versions, "sluice": commit()},
        }

    def whole(self) -> dict[str, Any]:
        """The short report with all figures and runs."""
        return {**self.short(), "scenarios": self._figures, "verify": self._verified, "runs": self._runs}

    def _open_loop(self) -> Iterable[list[dict[str, Any]]]:
        return ([run for run in runs if run["lag_p99_ms"]] for runs in self._runs.values())

    def _faults(self) -> list[str]:
        found = [
            f"scenario {scenario}, {run['subject']}: {fault}"
            for scenario, runs in self._runs.items()
            for run in runs
            for fault in run["faults"]
        ]
        found += [
            f"scenario {scenario}: sluice verify found {said['violations']} violations"
            for scenario, said in self._verified.items()
            if said["violations"]
        ]
        return found

    def markdown(self) -> str:
        """The page."""
        short = self.short()
        about = short["machine"]
        lines = [
            f"# Benchmark: the {self.profile} form",
            "",
            *(["**Provisional: the machine was busy, or durations were shortened. Not to be quoted.**", ""]
              if self.provisional else []),
            f"Made by `python -m bench` at {short['at']} in {short['seconds']:.0f} s on {about['cores']} cores "
            f"({about['processor']}), {about['memory_gb']:.0f} GB, load {about['load_before']:.1f} before the start. "
            "Every ratio comes from alternating runs of one measurement: median, least and most of its pairs. "
            "Absolute figures belong to this machine and this hour only.",
            "",
            "| measure | must | goal | median | least … most | pairs | |",
            "|---|---|---|---|---|---|---|",
            *(self._row(measure.name) for measure in MEASURES if measure.name in self._measures or self._decides),
            "",
            f"Runs whose generator was late (their percentiles are not used): {short['void_runs']}.",
            "",
            "## Conservation",
            "",
            *(self._verify_row(scenario, said) for scenario, said in self._verified.items()),
            *([f"- **{fault}**" for fault in short["faults"]] or ["- nothing lost and nothing unsettled in any run"]),
            "",
        ]  # fmt: skip
        for scenario, figures in sorted(self._figures.items()):
            lines += [f"## Scenario {scenario}" if scenario.isdecimal() else f"## {scenario}", ""]
            for name, value in figures.items():
                lines += [f"### {name}", "", *_table(value), ""]
        lines += ["## Versions", "", ", ".join(f"{name} {value}" for name, value in short["versions"].items()), ""]
        return "\n".join(lines)

    @property
    def _decides(self) -> bool:
        """Whether this form must have every measure."""
        return self.profile == "full"

    def _row(self, name: str) -> str:
        measure, spread = BY_NAME[name], self._measures.get(name)
        sign = ">=" if measure.at_least else "<="
        bounds = f"| {measure.words} | {sign} {measure.must:g} | {sign} {measure.goal:g} |"
        if spread is None:
            return f"{bounds} not measured | | | |"
        return (
            f"{bounds} {spread.median:.3g} | {spread.least:.3g} … {spread.most:.3g} | {spread.count} "
            f"| {measure.reached(spread.median)} |"
        )

    def _verify_row(self, scenario: str, said: Mapping[str, Any]) -> str:
        result = "every invariant holds" if not said["violations"] else f"**{said['violations']} violations**"
        return (
            f"- after scenario {scenario}: {said['deliveries']} deliveries, {said['attempts']} attempts, "
            f"{said['calls']} calls, {said['duplicates']} duplicates: {result}"
        )

    def write(self, name: str) -> list[Path]:
        """Write ``name``.json and ``name``.md into docs/benchmarks; the short JSON for the quick form."""
        DOCS.mkdir(parents=True, exist_ok=True)
        document = self.short() if name == "quick" else self.whole()
        paths = [DOCS / f"{name}.json", DOCS / f"{name}.md"]
        paths[0].write_text(json.dumps(document, indent=2) + "\n")
        paths[1].write_text(self.markdown())
        return paths


def _table(value: Any) -> list[str]:
    """Any figure as Markdown: nested mappings become a table, one row a name."""
    if not isinstance(value, Mapping):
        return [_cell(value)]
    if value and all(isinstance(row, Mapping) and "median" not in row for row in value.values()):
        columns = list(dict.fromkeys(column for row in value.values() for column in row))
        return [
            "| | " + " | ".join(columns) + " |",
            "|---" * (len(columns) + 1) + "|",
            *(
                f"| {name} | " + " | ".join(_cell(row.get(column)) for column in columns) + " |"
                for name, row in value.items()
            ),
        ]
    return ["| | |", "|---|---|", *(f"| {name} | {_cell(each)} |" for name, each in value.items())]


def _cell(value: Any) -> str:
    if isinstance(value, Mapping) and "median" in value:
        return f"{value['median']:.4g} ({value['min']:.4g} … {value['max']:.4g})"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_cell(each)}" for name, each in value.items())
    if value is None:
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def machine(load_before: float) -> dict[str, Any]:
    """The machine of the run."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages * size / 2**30, 1),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": round(load_before, 2),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def versions(names: Iterable[str]) -> dict[str, str]:
    """Of Python and of installed packages."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def peer_versions(python: str) -> dict[str, str]:
    """Of the packages in .venv-bench."""
    question = (
        f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {PEER_VERSIONS!r}}}))"
    )
    asked = subprocess.run(  # noqa: S603
        [python, "-c", question],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return dict(json.loads(asked.stdout)) if asked.returncode == 0 else {}


def commit() -> str:
    """The measured commit; marked if files differ from it."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        changed = subprocess.run(
            ["git", "status", "--porcelain", "libs", "services"],  # noqa: S607
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} and changes" if changed else head


def print_line(text: str) -> None:
    """Print a line to stdout."""
    print(text, file=sys.stdout, flush=True)
