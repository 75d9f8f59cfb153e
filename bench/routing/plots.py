"""Plots of a simulation. matplotlib lives in .venv-bench, so this module runs itself there."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SHOWN = ("seed", "seed, trial", "ours")  # in the timelines
COLOURS = {"static": "#9ca3af", "weights": "#ca8a04", "seed": "#b91c1c", "seed, trial": "#7c3aed", "ours": "#15803d"}


def draw(results: Any, folder: Path) -> None:
    """Draw ``j.png`` and ``share.png`` into the folder; without the tools of the benchmarks, say so on stderr."""
    from bench.processes import BENCH_BIN, ROOT
    from bench.routing.report import mean_j, scenarios

    blocks = scenarios(results)
    document = {
        "j": [
            {"fault": fault, "rate": rate, "j": {name: mean_j(runs, name) for name in runs[0]}}
            for (fault, rate), runs in blocks.items()
        ],
        # The run with the first seed of each fault, at the higher volume.
        "share": {
            fault: {name: list(runs[0][name].shares) for name in runs[0] if name in SHOWN}
            for (fault, rate), runs in blocks.items()
            if rate == max(rate for _, rate in blocks)
        },
    }
    python = BENCH_BIN / "python"
    if not python.exists():
        print("no plots: the tools of the benchmarks are not installed", file=sys.stderr)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(document, file)
        file.flush()
        subprocess.run(  # noqa: S603
            [str(python), "-m", "bench.routing.plots", file.name, str(folder)], cwd=ROOT, check=True
        )


def scores(document: Any, path: Path) -> None:
    """J of every policy by fault, one row for each volume; lower is better."""
    from matplotlib import pyplot

    rates = sorted({block["rate"] for block in document["j"]}, reverse=True)
    figure, rows = pyplot.subplots(len(rates), 1, figsize=(9, 3.2 * len(rates)), layout="constrained", squeeze=False)
    for (axes,), rate in zip(rows, rates, strict=True):
        blocks = [block for block in document["j"] if block["rate"] == rate]
        policies = list(blocks[0]["j"])
        width = 0.8 / len(policies)
        for place, policy in enumerate(policies):
            heights = [max(block["j"][policy], 0.02) for block in blocks]
            at = [number + (place - (len(policies) - 1) / 2) * width for number in range(len(blocks))]
            axes.bar(at, heights, width, label=policy, color=COLOURS.get(policy))
        axes.set_yscale("log")
        axes.set_ylabel("J (lower is better)")
        axes.set_xticks(range(len(blocks)), [block["fault"] for block in blocks])
        axes.set_title(f"{rate:g} messages a second", loc="left")
    rows[0][0].legend(ncols=5, frameon=False)
    _save(figure, path)


def shares(document: Any, path: Path) -> None:
    """The first provider's share of first attempts over time, one panel for each fault."""
    from matplotlib import pyplot

    faults = list(document["share"])
    count = (len(faults) + 1) // 2
    figure, grid = pyplot.subplots(count, 2, figsize=(9, 1.9 * count), layout="constrained", squeeze=False, sharex=True)
    panels = [axes for row in grid for axes in row]
    for axes, fault in zip(panels, faults, strict=False):
        for policy, values in document["share"][fault].items():
            axes.plot([10 * number for number in range(len(values))], values, label=policy, color=COLOURS.get(policy))
        axes.axvline(300, color="#1f2937", linewidth=0.6, linestyle=":")
        axes.set_title(fault, loc="left", fontsize=9)
        axes.set_ylim(-0.05, 1.05)
    for axes in panels[len(faults) :]:
        axes.axis("off")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(SHOWN), frameon=False)
    figure.supxlabel("seconds; the fault begins at the dotted line")
    figure.supylabel("share of first attempts at the first provider")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def main() -> None:
    """``python -m bench.routing.plots RESULTS.json FOLDER``."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    document, folder = json.loads(Path(sys.argv[1]).read_text("utf-8")), Path(sys.argv[2])
    scores(document, folder / "j.png")
    shares(document, folder / "share.png")


if __name__ == "__main__":
    main()
