"""The installation that is examined: its settings, and its processes where the launcher runs them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluice_cli import context

GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Installation:
    """``shell``: the variables of this command. ``environment``: the settings of a role.

    ``processes``: rows of the launcher's status; empty without a launcher.
    ``role_environments``: the variables that each running process of a role has, by name.
    """

    shell: Mapping[str, str]
    environment: Mapping[str, str]
    processes: Sequence[Mapping[str, Any]]
    role_environments: Mapping[str, Mapping[str, str]]
    data_dir: Path
    key_file: Path

    @property
    def public_url(self) -> str | None:
        """The public address, without a slash at its end."""
        return self.environment.get("SLUICE_PUBLIC_URL", "").rstrip("/") or None


def read_installation() -> Installation:
    """The installation of this machine, or the one that the environment describes."""
    processes = _processes()
    role_environments = {
        row["name"]: found
        for row in processes
        if row["kind"] == "role" and row["pid"] and (found := _variables_of(row["pid"]))
    }
    # The gateway has what only roles are given: its public address, the SMS link.
    gateway = {name: value for name, value in role_environments.get(GATEWAY, {}).items() if value}
    return Installation(
        shell={name: value for name, value in os.environ.items() if name.startswith("SLUICE_")},
        environment=gateway | context.environment(),
        processes=processes,
        role_environments=role_environments,
        data_dir=context.data_dir(),
        key_file=context.key_file(),
    )


def _processes() -> Sequence[Mapping[str, Any]]:
    supervisor = context.launcher()
    if supervisor is None:
        return []
    from sluice_launcher.control import NotRunning

    with suppress(NotRunning):
        rows: list[Mapping[str, Any]] = supervisor.status()["processes"]
        return rows
    return []


def _variables_of(pid: int) -> Mapping[str, str]:
    """The variables with which a process was started; none when another user owns it."""
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (entry.partition("=") for entry in content.decode("utf-8", "replace").split("\0") if "=" in entry)
    return {name: value for name, _, value in pairs if name.startswith("SLUICE_")}
