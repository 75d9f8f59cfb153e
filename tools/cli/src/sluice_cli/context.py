"""Where a command finds the installation it speaks to: the environment first, then the running launcher."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from sluice.runtime.errors import SluiceError
from sluice_launcher.control import NotRunning, SupervisorClient
from sluice_launcher.settings import read_settings

DEMO_FILE = "demo.json"


def environment() -> dict[str, str]:
    """What a role would find in its environment. Addresses of the caller win over the launcher's; its ports do not:
    a port that was asked for as 0 is known to the launcher only.
    """
    try:
        running = SupervisorClient(read_settings(os.environ).data_dir).environment()
    except NotRunning:
        running = {}
    own = {name: value for name, value in os.environ.items() if name.startswith("SLUICE_") and value}
    return own | {name: value for name, value in running.items() if name not in own or name.endswith("_PORT")}


def address(name: str) -> str:
    """One address, such as ``SLUICE_POSTGRES_DSN``.

    Raises:
        SluiceError: it is not set and nothing is running here.
    """
    found = environment().get(name)
    if not found:
        raise SluiceError(f"{name} is not set and no installation runs here: start one with `sluice up`")
    return found


def api_url() -> str:
    """Base URL of the gateway."""
    named = os.environ.get("SLUICE_API_URL")
    if named:
        return named.rstrip("/")
    row = SupervisorClient(read_settings(os.environ).data_dir).process("gateway")
    return str(row["address"])


@dataclass(frozen=True, slots=True)
class Demo:
    """What the first contact made: kept beside the data, mode 600, so that commands need no key."""

    project: str
    key: str
    test_key: str


def demo_file() -> Path:
    """Where the demo's keys are kept."""
    return read_settings(os.environ).data_dir / DEMO_FILE


def read_demo() -> Demo | None:
    """The demo of this data directory, if it was made."""
    try:
        return Demo(**json.loads(demo_file().read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise SluiceError(
            f"{demo_file()} cannot be read ({type(error).__name__}): delete it and run `sluice demo`"
        ) from None


def api_key(given: str | None, *, is_test: bool = False) -> str:
    """The key to use: the one given, ``SLUICE_API_KEY``, or the demo's.

    Raises:
        SluiceError: there is none.
    """
    demo = read_demo()
    key = given or os.environ.get("SLUICE_API_KEY") or (demo and (demo.test_key if is_test else demo.key))
    if not key:
        raise SluiceError("no API key: give --key, set SLUICE_API_KEY, or make the demo project with `sluice demo`")
    return key
