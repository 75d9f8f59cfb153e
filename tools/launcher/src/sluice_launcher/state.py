"""What is written down about the running processes, for the day the supervisor dies without a word."""

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
    path = data_dir / FILE
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps({name: asdict(identity) for name, identity in children.items()}))
    os.replace(draft, path)


def read_state(data_dir: Path) -> dict[str, Identity]:
    """Empty when there is none, or none that can be read."""
    try:
        written = json.loads((data_dir / FILE).read_text())
        return {name: Identity(**fields) for name, fields in written.items()}
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def kill_orphans(data_dir: Path) -> list[str]:
    """End what a dead supervisor left behind, and nothing that merely has its pid; returns the names."""
    left = {name: identity for name, identity in read_state(data_dir).items() if identity.alive()}
    families = [member for identity in left.values() for member in _members(identity)]
    for name, identity in left.items():
        # PostgreSQL tells its backends at this signal; everything else is safe to kill.
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
