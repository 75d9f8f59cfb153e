"""Finds the installation that a command works on: the environment first, then the running launcher, if installed."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.runtime.errors import SluiceError

if TYPE_CHECKING:
    import asyncpg

    from sluice.bus.connection import KafkaConnection
    from sluice_launcher.control import SupervisorClient

GATEWAY_PORT = "8080"
DEMO_FILE = "demo.json"
KEY_FILE = "credentials.key"


def environment() -> dict[str, str]:
    """The settings of a role of this installation. The caller's win over the launcher's, except ports: a port that
    was requested as 0 is known to the launcher only.
    """
    supervisor = launcher()
    running: dict[str, str] = {}
    if supervisor is not None:
        from sluice_launcher.control import NotRunning

        with suppress(NotRunning):
            running = supervisor.environment()
    own = {name: value for name, value in os.environ.items() if name.startswith("SLUICE_") and value}
    return own | {name: value for name, value in running.items() if name not in own or name.endswith("_PORT")}


def launcher() -> SupervisorClient | None:
    """None where the launcher is not installed, as in the image."""
    try:
        from sluice_launcher.control import SupervisorClient
        from sluice_launcher.settings import read_settings
    except ModuleNotFoundError:
        return None
    return SupervisorClient(read_settings(os.environ).data_dir)


def address(name: str) -> str:
    """One address, such as ``SLUICE_POSTGRES_DSN``.

    Raises:
        SluiceError: it is not set and nothing is running here.
    """
    found = environment().get(name)
    if not found:
        hint = "" if launcher() is None else " and no installation runs here: start one with `sluice up`"
        raise SluiceError(f"{name} is not set{hint}")
    return found


def kafka() -> KafkaConnection:
    """The connection to Kafka.

    Raises:
        SluiceError: its address is not known, or its settings do not fit each other.
    """
    from sluice.bus.connection import KafkaConnection

    found = environment()
    return KafkaConnection.of(found | {"SLUICE_KAFKA_BOOTSTRAP_SERVERS": address("SLUICE_KAFKA_BOOTSTRAP_SERVERS")})


def api_url() -> str:
    """Base URL of the gateway: ``SLUICE_API_URL``, the running launcher's, or the default port of this machine.

    Raises:
        SluiceError: the launcher is installed and nothing is running.
    """
    named = os.environ.get("SLUICE_API_URL")
    if named:
        return named.rstrip("/")
    supervisor = launcher()
    if supervisor is None:
        return f"http://127.0.0.1:{os.environ.get('SLUICE_GATEWAY_PORT') or GATEWAY_PORT}"
    return str(supervisor.process("gateway")["address"])


def data_dir() -> Path:
    """``SLUICE_DATA_DIR``, the launcher's data directory, or ``.sluice`` in the working directory."""
    supervisor = launcher()
    if supervisor is not None:
        return supervisor.data_dir
    return Path(os.environ.get("SLUICE_DATA_DIR") or ".sluice").expanduser().absolute()


def key_file() -> Path:
    """The file of the encryption key: ``SLUICE_ENCRYPTION_KEY_FILE``, or ``credentials.key`` in the data directory."""
    named = environment().get("SLUICE_ENCRYPTION_KEY_FILE")
    return Path(named).expanduser().absolute() if named else data_dir() / KEY_FILE


@asynccontextmanager
async def database() -> AsyncIterator[asyncpg.Connection]:
    """A connection to PostgreSQL.

    Raises:
        SluiceError: its address is not known, or it cannot be reached.
    """
    from sluice.store.db import connect

    connection = await connect(address("SLUICE_POSTGRES_DSN"), timeout=5.0)
    try:
        yield connection
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo project and its API keys: stored in the data directory, mode 600, so that commands need no key."""

    project: str
    key: str
    test_key: str


def demo_file() -> Path:
    """The file with the demo's keys."""
    return data_dir() / DEMO_FILE


def read_demo() -> Demo | None:
    """The demo of this data directory; None if there is none.

    Raises:
        SluiceError: its file cannot be read.
    """
    try:
        return Demo(**json.loads(demo_file().read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise SluiceError(
            f"{demo_file()} cannot be read ({type(error).__name__}): delete it and run `sluice demo`"
        ) from None


def api_key(given: str | None, *, is_test: bool = False) -> str:
    """The API key of a command: the given one, ``SLUICE_API_KEY``, or the demo's.

    Raises:
        SluiceError: there is none, or it cannot be one.
    """
    demo = read_demo()
    key = given or os.environ.get("SLUICE_API_KEY") or (demo and (demo.test_key if is_test else demo.key))
    if not key:
        raise SluiceError("no API key: give --key, set SLUICE_API_KEY, or make the demo project with `sluice demo`")
    if not (key.isascii() and key.isprintable()) or " " in key:  # such as the "ses_…" of an example
        place = "--key" if given else "SLUICE_API_KEY"
        raise SluiceError(f"{place}: {key!r} is no API key (sp_live_…, sp_test_…, mzl_…) and no session (ses_…)")
    return key
