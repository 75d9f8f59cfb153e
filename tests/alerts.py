"""The alert rules on recorded metrics: ``python -m tests.alerts FILE FAULT``, with promtool in the PATH.

FILE: of `sluice game-day FAULT --record-metrics FILE`. The alerts that fire must be those that the section "Game days"
of docs/runbook.md lists for the fault, and no other. Exit code 0: they are, 1: they are not, 2: it cannot be checked.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import yaml
from prometheus_client.parser import text_string_to_metric_families

from sluice_cli.game_day.recording import INTERVAL
from tests.repository.files import ROOT

RULES = ROOT / "deploy/prometheus/sluice.rules.yml"
RUNBOOK = ROOT / "docs/runbook.md"
_EVALUATED_EVERY = 15.0  # seconds, as in the ServiceMonitor's Prometheus

Series = dict[tuple[str, ...], dict[int, float]]


def main() -> int:
    """Print the difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.alerts", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("fault")
    options = parser.parse_args()
    promtool = shutil.which("promtool")
    if promtool is None:
        print("promtool is not in the PATH (Debian: prometheus)", file=sys.stderr)
        return 2
    expected = expected_alerts(options.fault)
    difference = check(promtool, options.file, expected)
    print(difference or f"exactly these alerts fired: {', '.join(sorted(expected))}")
    return 1 if difference else 0


def expected_alerts(fault: str) -> set[str]:
    """The alerts that the runbook lists for a fault of a game day.

    Raises:
        SystemExit: it lists none for it.
    """
    row = re.search(rf"^\| `{re.escape(fault)}` \|(.*)\|$", RUNBOOK.read_text(), re.MULTILINE)
    if row is None:
        raise SystemExit(f"{fault}: docs/runbook.md has no row for this fault")
    return set(re.findall(r"\[(Sluice\w+)\]", row[1]))


def check(
    promtool: str, record: Path, expected: Collection[str], *, stretch: float = 1, but: Collection[str] = ()
) -> str:
    """What promtool says when other alerts fire than ``expected``; empty when exactly these do.

    ``stretch``: a second of the record counts as so many, so that a fault of a minute is one of a quarter of an hour.
    Rates per second are smaller by it; ratios, ages and statuses are what they were. ``but``: alerts that may fire.
    """
    series = read(record)
    last = max(index for values in series.values() for index in values)
    interval = INTERVAL * stretch
    test = {
        "interval": f"{interval:g}s",
        "input_series": [{"series": _name(key), "values": _values(values, last)} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": "max by (alertname) (max_over_time("
                f'ALERTS{{alertstate="firing", alertname!~"{"|".join(but)}"}}[{last * interval:.0f}s]))',
                "eval_time": f"{last * interval:.0f}s",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected],
            }
        ],
    }
    with tempfile.TemporaryDirectory(prefix="sluice-alerts-") as folder:
        file = Path(folder, "test.yml")
        document = {"rule_files": [str(RULES)], "evaluation_interval": f"{_EVALUATED_EVERY:g}s", "tests": [test]}
        file.write_text(yaml.safe_dump(document, width=10**9))
        done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def read(record: Path) -> Series:
    """The series that the rules use: by name and labels in turn, the value of each interval since the first read."""
    used = set(re.findall(r"\bsluice_\w+", RULES.read_text()))
    found: Series = {}
    began: float | None = None
    for scrape in map(json.loads, record.read_text().splitlines()):
        began = scrape["at"] if began is None else began
        index = round((scrape["at"] - began) / INTERVAL)
        for name, labels, value in _samples(scrape["metrics"]):
            if name in used:
                pairs = sorted({**labels, "instance": scrape["instance"]}.items())
                found.setdefault((name, *(part for pair in pairs for part in pair)), {})[index] = value
    return found


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(text + "\n"):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def _name(key: tuple[str, ...]) -> str:
    name, *parts = key
    labels = ", ".join(f"{label}={json.dumps(value)}" for label, value in zip(parts[::2], parts[1::2], strict=True))
    return f"{name}{{{labels}}}"


def _values(values: dict[int, float], last: int) -> str:
    return " ".join(f"{values[index]:.17g}" if index in values else "_" for index in range(last + 1))


if __name__ == "__main__":
    sys.exit(main())
