"""What processes use, from /proc: CPU seconds and proportional memory of whole process trees."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def cpu_seconds(roots: Mapping[str, int]) -> dict[str, float]:
    """User and system time of each tree, that of its ended children included."""
    stats = dict(_stats())
    children = _children(stats)
    return {
        name: sum(sum(map(int, stats[pid][11:15])) for pid in _tree(root, children) if pid in stats) / _TICKS
        for name, root in roots.items()
    }


def memory_bytes(roots: Mapping[str, int]) -> dict[str, int]:
    """PSS of each tree: a page that several processes share counts for each by its part."""
    children = _children(dict(_stats()))
    return {name: sum(_pss(pid) for pid in _tree(root, children)) for name, root in roots.items()}


def _stats() -> Iterator[tuple[int, list[str]]]:
    for entry in os.listdir(_PROC):
        if entry.isdecimal():
            try:
                # The name in parentheses may hold anything; the fields from the state on come after it.
                yield int(entry), (_PROC / entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue


def _children(stats: Mapping[int, list[str]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for pid, fields in stats.items():
        found.setdefault(int(fields[1]), []).append(pid)
    return found


def _tree(root: int, children: Mapping[int, list[int]]) -> list[int]:
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def _pss(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
