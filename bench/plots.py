"""Pictures of what was found. matplotlib lives in .venv-bench, so this module runs itself there."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.measures import BY_NAME, MEASURES

INK, GOOD, FAIR, BAD = "#1f2937", "#15803d", "#ca8a04", "#b91c1c"
PALETTE = (
    *("#1d4ed8", "#60a5fa", "#15803d", "#86efac", "#9ca3af", "#d1d5db", "#b91c1c", "#f59e0b"),
    *("#7c3aed", "#fca5a5", "#0f766e", "#111827", "#a16207", "#5eead4"),
)


def draw(beside: Path, document: Mapping[str, Any], name: str) -> None:
    """Draw the plots of a document as PNG files into the folder of ``beside``."""
    from bench.processes import ROOT, bench_program

    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(document, file)
        file.flush()
        subprocess.run(  # noqa: S603
            [bench_program("python"), "-m", "bench.plots", file.name, str(beside.parent), name], cwd=ROOT, check=True
        )


def _figure(width: float = 8.0, height: float = 4.5, *, columns: int = 0) -> Any:
    """A figure and its axes: one, or a row of ``columns`` in a grid."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    return pyplot.subplots(1, columns or 1, figsize=(width, height), layout="constrained", squeeze=not columns)


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)


def measures(document: Mapping[str, Any], path: Path) -> None:
    """Every ratio against its must (1 on the axis; beyond it is better)."""
    spread = document["spread"]
    named = [measure for measure in MEASURES if measure.name in spread and measure.must]
    if not named:
        return
    figure, axes = _figure(height=0.4 * len(named) + 1.4)
    colours = {"goal": GOOD, "must": FAIR, "missed": BAD}
    for place, measure in enumerate(reversed(named)):
        values = [spread[measure.name][word] / measure.must for word in ("min", "median", "max")]
        if not measure.at_least:
            values = sorted(1 / value if value else 10 for value in values)
        low, middle, high = (min(max(value, 0.05), 20) for value in values)
        colour = colours[BY_NAME[measure.name].reached(spread[measure.name]["median"])]
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        axes.plot([middle], [place], "o", color=colour)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(named)), [measure.words for measure in reversed(named)], fontsize=8)
    axes.set_xlabel("times the must (right of the line: reached)")
    axes.set_title(_title(document, "What is reached"))
    _save(figure, path)


def _title(document: Mapping[str, Any], text: str) -> str:
    return f"{text}{' (PROVISIONAL)' if document.get('provisional') else ''}"


def budget(document: Mapping[str, Any], path: Path) -> None:
    """CPU seconds per 1,000 messages, by process, ours beside Floor K."""
    figures = document.get("scenarios", {}).get("1", {})
    columns = [("Sluice", figures.get("cpu_s_per_1000")), ("Floor K", figures.get("cpu_s_per_1000_floor_k"))]
    columns = [(name, costs) for name, costs in columns if costs]
    if not columns:
        return
    figure, axes = _figure()
    axes.set_prop_cycle(color=PALETTE)
    names = sorted({name for _, costs in columns for name in costs or {} if name != "python"})
    bottoms = [0.0] * len(columns)
    for name in names:
        heights = [((costs or {}).get(name) or {}).get("median", 0.0) for _, costs in columns]
        if max(heights) < 0.002:
            continue
        axes.bar([label for label, _ in columns], heights, bottom=bottoms, label=name, width=0.5)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    axes.set_ylabel("CPU seconds per 1,000 messages, at saturation")
    axes.legend(loc="upper right", fontsize=8, frameon=False)
    axes.set_title(_title(document, "Where the time goes"))
    _save(figure, path)


def latencies(document: Mapping[str, Any], path: Path) -> None:
    """p50 and p99 at fixed loads, ours and Floor K's at the same rate."""
    figures = document.get("scenarios", {}).get("2", {})
    if not figures:
        return
    figure, axes = _figure()
    rates = [each["rate_per_s"] for each in figures.values()]
    for system, colour in (("sluice", GOOD), ("floor-k", INK)):
        for what, style in (("accept", "--"), ("provider", "-")):
            found = [each.get(f"{system} {what} p99 ms") for each in figures.values()]
            if all(found):
                _line(axes, list(zip(rates, found, strict=True)), f"{system}: {what} p99", colour, style)
    axes.set_yscale("log")
    axes.set_xlabel("offered, messages per second (Poisson)")
    axes.set_ylabel("ms from the intended send")
    axes.legend(fontsize=8, frameon=False)
    axes.set_title(_title(document, "Latency at a fixed load"))
    _save(figure, path)


def growth(document: Mapping[str, Any], path: Path) -> None:
    """Cost per message against each kind of growth."""
    kinds = document.get("growth", {})
    drawn = [(name, points) for name, points in kinds.items() if points]
    if not drawn:
        return
    figure, all_axes = _figure(4.2 * len(drawn), 4.0, columns=len(drawn))
    for axes, (name, points) in zip(all_axes[0], drawn, strict=True):
        for key, colour in (("python", GOOD), ("postgres", INK), ("both", BAD)):
            ordered = [(point["size"], point[key]) for point in points if point.get(key)]
            if not ordered:
                continue
            _line(axes, ordered, key, colour)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(name)
        axes.legend(fontsize=8, frameon=False)
    all_axes[0][0].set_ylabel("CPU seconds per 1,000 messages")
    figure.suptitle(_title(document, "Cost per message as things grow"))
    _save(figure, path)


def _line(
    axes: Any, points: Sequence[tuple[float, Mapping[str, float]]], label: str, colour: str, style: str = "-"
) -> None:
    """Medians with their range."""
    middle = [spread["median"] for _, spread in points]
    axes.errorbar(
        [size for size, _ in points],
        middle,
        yerr=[
            [spread["median"] - spread["min"] for _, spread in points],
            [spread["max"] - spread["median"] for _, spread in points],
        ],
        fmt="o",
        linestyle=style,
        color=colour,
        label=label,
        capsize=3,
    )


def main(document: Path, folder: Path, name: str) -> None:
    """Draw whatever the document has figures for."""
    read = json.loads(document.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    for plot in (measures, budget, latencies, growth):
        if plot is not measures or "spread" in read:
            plot(read, folder / f"{name}-{plot.__name__}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
