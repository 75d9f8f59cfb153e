"""The rows of `sluice status`."""

import os
from collections.abc import Iterable
from typing import Any

from sluice_launcher.control import SOCKET
from sluice_launcher.managed_process import ManagedProcess
from sluice_launcher.plan import Plan, redact_password
from sluice_launcher.process_info import memory


def rows(plan: Plan, phase: str, processes: Iterable[ManagedProcess]) -> list[dict[str, Any]]:
    """One row for the supervisor, one for each external service, one for each process. Memory in bytes."""
    own = _row(
        "supervisor",
        "supervisor",
        os.getpid(),
        str(plan.data_dir / SOCKET),
        phase,
        memory(os.getpid(), alone=True),
    )
    external = [
        _row(name, "service", None, redact_password(address), "external", None)
        for name, address in plan.external.items()
        if name in plan.services
    ]
    return [own, *external, *map(_process_row, processes)]


def _process_row(process: ManagedProcess) -> dict[str, Any]:
    spec, identity = process.spec, process.identity
    pid = identity.pid if identity else None
    used = memory(pid) if pid else None
    row = _row(spec.name, spec.kind, pid, redact_password(spec.address), process.state, used)
    return row | {"restarts": process.restarts, "last_exit": process.last_exit}


def _row(name: str, kind: str, pid: int | None, address: str, state: str, memory: int | None) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "pid": pid,
        "address": address,
        "state": state,
        "memory": memory,
        "restarts": 0,
        "last_exit": None,
    }
