"""The state file: the running processes, so that they can be stopped after the supervisor was killed."""

import json
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from sluice_launcher.process_info import Identity, process_tree

FILE = "run/state.json"
GRACE_SECONDS = 5.0


def write_state(data_dir: Path, children: Mapping[str, Identity]) -> None:
    """Replace the file atomically."""
    path = data_dir / FILE
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({name: asdict(identity) for name, identity in children.items()}))
    os.replace(draft, path)


def read_state(data_dir: Path) -> dict[str, Identity]:
    """The processes by name; empty if the file is missing or unreadable."""
    try:
        written = json.loads((data_dir / FILE).read_text())
        return {name: Identity(**fields) for name, fields in written.items()}
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def kill_orphans(data_dir: Path) -> list[str]:
    """Kill the processes of a dead supervisor, and no other process that has one of their pids; returns their names."""
    left = {name: identity for name, identity in read_state(data_dir).items() if identity.alive()}
    families = [member for identity in left.values() for member in _members(identity)]
    for name, identity in left.items():
        # At SIGQUIT PostgreSQL stops its backends; every other process may be killed.
        identity.kill(signal.SIGQUIT if name == "postgres" else signal.SIGKILL)
    _ensure_dead(families)
    return list(left)


def _members(identity: Identity) -> Iterable[Identity]:
    return filter(None, map(Identity.of, process_tree(identity.pid)))


def _ensure_dead(families: Iterable[Identity]) -> None:
    for identity in families:
        if not identity.wait_exit(GRACE_SECONDS):
            identity.kill(signal.SIGKILL)
            identity.wait_exit(GRACE_SECONDS)
