"""A whole system of one's own: services, roles, second replicas, a simulator, a project with its providers."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from sluice.model import ids
from sluice.model.message import Channel
from sluice.runtime.settings import read_key_file
from sluice.store import configuration
from sluice.store.cipher import Vault
from sluice_launcher.local_stack import Engine
from sluice_launcher.process_info import free_port
from sluice_launcher.roles import role
from tests.chaos.ledgers import Ledger, now
from tests.chaos.replicas import Replica
from tests.chaos.simulation import DOORS, Simulation

ROLES = ("gateway", "router", "email-worker", "sms-worker", "push-worker", "health")
DOUBLED = ("gateway", "router", "email-worker", "sms-worker")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # any; the simulator signs with it
ACCOUNT = "AC" + "0" * 32

# Shorter than in a real installation, so that a run ends in minutes; everything else is at its default.
TIMING = {"SLUICE_RECEIPT_WAIT": "5", "SLUICE_RETRY_ROUNDS": "[2, 4, 8, 15, 30]"}


@dataclass(frozen=True, slots=True)
class Project:
    """What a client needs."""

    id: UUID
    key: str
    sandbox_key: str
    providers: Mapping[str, UUID]  # by the name of their door

    def named(self, door: str) -> str:
        """The provider behind a door as the API shows it."""
        return ids.shown("prv", self.providers[door])


@dataclass(slots=True)
class Machine:
    """Everything that runs, and where it answers."""

    folder: Path
    engine: Engine
    simulation: Simulation
    project: Project
    replicas: dict[str, Replica] = field(default_factory=dict)
    gateways: list[str] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def postgres(self) -> str:
        return self.engine.addresses["postgres"]

    @property
    def kafka(self) -> str:
        return self.engine.addresses["kafka"]

    @property
    def data_dir(self) -> Path:
        return self.folder / "system"

    @property
    def key_file(self) -> Path:
        return Path(self.engine.environment["SLUICE_KEY_FILE"])

    def ledger(self, name: str) -> Ledger:
        """A new ledger in the folder of the run."""
        return Ledger(self.folder / name)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``sluice`` against this system."""
        return subprocess.run(
            [sys.executable, "-m", "sluice_cli.main", *words],
            env={**os.environ, **self.engine.environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


Tell = Callable[[str], None]


@contextmanager
def machine(
    folder: Path,
    tell: Tell,
    *,
    seed: int = 0,
    environment: Mapping[str, str] = TIMING,
    roles: Collection[str] = ROLES,
    doors: Mapping[str, str] = DOORS,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Machine]:
    """Start everything but the second replicas; it ends with the block, or with this process.

    Must be called from the main thread: what is started is on its leash.
    """
    os.environ.update(environment)
    with ExitStack() as stack:
        simulation = stack.enter_context(Simulation(folder / "simulator", seed=seed, doors=doors))
        engine = Engine(folder / "system", roles=roles, testing=False, progress=tell)
        stack.callback(engine.stop)
        engine.start()
        project = asyncio.run(_configure(engine, simulation, doors, settings))
        running = Machine(folder, engine, simulation, project)
        running.ports = {name: int(engine.addresses[name].rpartition(":")[2]) for name in roles}
        running.gateways = [engine.addresses["gateway"]] if "gateway" in roles else []
        yield running


@asynccontextmanager
async def doubled(machine: Machine, roles: Sequence[str] = DOUBLED) -> AsyncIterator[None]:
    """Run a second replica of some roles while the block runs."""
    for name in roles:
        port = free_port()
        replica = replica_of(machine, name, port, f"{name}-2")
        machine.replicas[replica.name] = replica
        machine.ports[replica.name] = port
        if name == "gateway":
            machine.gateways.append(f"http://127.0.0.1:{port}")
        replica.start()
    try:
        yield
    finally:
        await asyncio.gather(*(replica.stop() for replica in machine.replicas.values()))


def replica_of(machine: Machine, name: str, port: int, called: str) -> Replica:
    """Another process of a role, not started yet."""
    return Replica(
        called,
        role(name).module,
        _environment(machine, name, port),
        machine.data_dir / "logs" / f"{called}.log",
        optimised="SLUICE_CRASH_FILE" not in os.environ,
    )


def _environment(machine: Machine, name: str, port: int) -> dict[str, str]:
    return {
        **os.environ,
        **machine.engine.environment,
        "SLUICE_HOST": "127.0.0.1",
        "SLUICE_PORT": str(port),
        "SLUICE_ROLE": name,
        "SLUICE_CALLBACK_BASE": machine.engine.addresses["gateway"],
        "PYTHONUNBUFFERED": "1",
    }


async def _configure(
    engine: Engine, simulation: Simulation, doors: Mapping[str, str], settings: Mapping[str, Any] | None
) -> Project:
    vault = Vault(read_key_file(Path(engine.environment["SLUICE_KEY_FILE"])))
    connection = await asyncpg.connect(engine.addresses["postgres"])
    try:
        project = await configuration.create_project(
            connection, organization="Chaos", slug="chaos", name="Chaos", now=now()
        )
        providers = {
            door: await add_provider(connection, vault, project.id, simulation, door, kind, settings=settings)
            for door, kind in doors.items()
        }
        key = await configuration.create_key(connection, project.id, name="load", sandbox=False, now=now())
        sandbox = await configuration.create_key(connection, project.id, name="sandbox", sandbox=True, now=now())
    finally:
        await connection.close()
    return Project(project.id, key, sandbox, providers)


async def add_provider(
    connection: Any,
    vault: Vault,
    project_id: UUID,
    simulation: Simulation,
    door: str,
    kind: str,
    *,
    settings: Mapping[str, Any] | None = None,
    priority: int | None = None,
) -> UUID:
    """An account at a door of the simulator."""
    package, channel, credentials = account(kind, simulation.ports[door], door)
    return await configuration.create_provider(
        connection,
        vault,
        project_id,
        package=package,
        channel=channel,
        name=door,
        credentials=credentials,
        settings=settings,
        priority=priority,
        now=now(),
    )


def account(kind: str, port: int, door: str) -> tuple[str, Channel, dict[str, Any]]:
    """Package, channel and credentials of an account at a door."""
    url = f"http://127.0.0.1:{port}"
    match kind:
        case "resend":
            credentials = {"apiKey": f"re_{door}", "webhookSecret": SECRET, "baseUrl": url}
            return "provider-resend", Channel.EMAIL, credentials
        case "twilio":
            return "provider-twilio", Channel.SMS, {"accountSid": ACCOUNT, "authToken": f"token-{door}", "baseUrl": url}
        case _:
            return "provider-smtp", Channel.EMAIL, {"host": "127.0.0.1", "port": port, "secure": False}


def webhooks(machine: Machine, doors: Mapping[str, str] = DOORS) -> tuple[dict[str, str], dict[str, str]]:
    """URL and secret for the dashboards of the Resend doors."""
    base = machine.gateways[0]
    resend = [door for door, kind in doors.items() if kind == "resend"]
    return (
        {door: f"{base}/v1/receipts/{machine.project.named(door)}" for door in resend},
        dict.fromkeys(resend, SECRET),
    )
