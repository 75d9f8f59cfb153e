"""The machine: disk space, and the processes that the launcher runs on it."""

from __future__ import annotations

import shutil

from sluice_cli.diagnosis.finding import Finding, fail, ok, warn
from sluice_cli.diagnosis.installation import Installation

_FULL, _LOW = 256 << 20, 2 << 30  # bytes; a Kafka segment is 64 MiB, PostgreSQL's WAL up to 2 GiB
_LOW_SHARE = 0.05  # of the disk


async def check_disk(installation: Installation) -> list[Finding]:
    """The space that is left for the data directory."""
    folder = next(path for path in (installation.data_dir, *installation.data_dir.parents) if path.is_dir())
    usage = shutil.disk_usage(folder)
    text = f"{usage.free / 1e9:.1f} GB of {usage.total / 1e9:.0f} GB are free in {folder}"
    if usage.free < _FULL:
        return [fail("disk", text, "free space: PostgreSQL and Kafka stop on a full disk")]
    if usage.free < min(_LOW, usage.total * _LOW_SHARE):
        return [warn("disk", text, "free space, or keep less (`sluice retention`)")]
    return [ok("disk", text)]


async def check_processes(installation: Installation) -> list[Finding]:
    """Each process of the launcher that is not ready, or that was restarted."""
    if not installation.processes:
        return [ok("processes", "none is run by `sluice up` here: look at the orchestrator that runs them")]
    found: list[Finding] = []
    for row in installation.processes:
        name, state = row["name"], row["state"]
        if row["kind"] == "supervisor" or state == "external":
            continue
        if state != "ready":
            last = f" (last exit: {row['last_exit']})" if state != "stopped" and row["last_exit"] else ""
            advice = f"`sluice start {name}`" if state == "stopped" else f"look at `sluice logs {name}`"
            found.append(fail("processes", f"{name} is {state}{last}", advice))
        elif row["restarts"]:
            text = f"{name} was restarted {row['restarts']} times (last exit: {row['last_exit']})"
            found.append(warn("processes", text, f"look at `sluice logs {name}`"))
    return found or [ok("processes", f"all {len(installation.processes) - 1} are ready")]
