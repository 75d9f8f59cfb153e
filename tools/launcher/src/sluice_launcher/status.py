"""The rows of `sluice status`."""

import os
from collections.abc import Iterable
from typing import Any

from sluice_launcher.control import SOCKET
from sluice_launcher.managed_process import ManagedProcess
from sluice_launcher.plan import HOST, Plan, ops_ports, redact_password
from sluice_launcher.process_info import memory


def rows(plan: Plan, phase: str, processes: Iterable[ManagedProcess]) -> list[dict[str, Any]]:
    """One row for the supervisor, one for each external service, one for each process.

    ``memory``: in bytes. ``ops``: the URL of the ops endpoints of a role that speaks HTTP.
    """
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
    ports = ops_ports(plan)
    return [own, *external, *(_process_row(process, ports.get(process.spec.name)) for process in processes)]


def _process_row(process: ManagedProcess, ops_port: int | None) -> dict[str, Any]:
    spec, identity = process.spec, process.identity
    pid = identity.pid if identity else None
    used = memory(pid) if pid else None
    row = _row(spec.name, spec.kind, pid, redact_password(spec.address), process.state, used)
    ops = None if ops_port is None else f"http://{HOST}:{ops_port}"
    return row | {"ops": ops, "restarts": process.restarts, "last_exit": process.last_exit}


def _row(name: str, kind: str, pid: int | None, address: str, state: str, memory: int | None) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "pid": pid,
        "address": address,
        "ops": None,
        "state": state,
        "memory": memory,
        "restarts": 0,
        "last_exit": None,
    }
