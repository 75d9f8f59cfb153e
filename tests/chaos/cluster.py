"""A whole system: services, roles, second replicas, a simulator, a project with its providers."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from sluice.model import ids
from sluice.model.message import Channel
from sluice.runtime.settings import read_key_file
from sluice.store import api_keys, projects, providers
from sluice.store.cipher import CredentialCipher
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.plan import kafka_login
from sluice_launcher.process_info import free_port
from sluice_launcher.progress import Progress
from sluice_launcher.roles import role
from sluice_simulator.accounts import every_account
from tests.chaos.ledgers import Ledger, now
from tests.chaos.replicas import Replica
from tests.chaos.simulation import ENDPOINTS, Simulation

ROLES = ("gateway", "router", "email-worker", "sms-worker", "push-worker", "health", "event-worker")
REPLICATED = ("gateway", "router", "email-worker", "sms-worker", "health")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the simulator signs with it
ACCOUNT = "AC" + "0" * 32
ACCOUNTS = {account.dialect: account for account in every_account().values()}

# Shorter than by default, so that a run ends in minutes; everything else is at its default.
# A server that hangs in SMTP holds a mail for ten seconds, and not for the ten minutes that the default allows.
TIMING = {
    "SLUICE_UNKNOWN_OUTCOME_WAIT": "5",
    "SLUICE_RETRY_SCHEDULE": "[2, 4, 8, 15, 30]",
    "SLUICE_CALL_TIMEOUT": "10",
    "SLUICE_URGENT_CALL_TIMEOUT": "10",
    "SLUICE_WEBHOOK_TIMEOUT": "5",
    "SLUICE_WEBHOOK_LEASE": "15",
    "SLUICE_WEBHOOK_RETRY_SCHEDULE": "[0.5, 1, 2, 4, 8, 15]",
}


@dataclass(frozen=True, slots=True)
class Project:
    """A project with its keys and providers."""

    id: UUID
    key: str
    sandbox_key: str
    providers: Mapping[str, UUID]  # by the name of their endpoint

    def named(self, source: str) -> str:
        """The provider of an endpoint, as the API shows its id."""
        return ids.encode_id("prv", self.providers[source])


@dataclass(slots=True)
class Cluster:
    """Everything that runs, with its addresses."""

    folder: Path
    stack: LocalStack
    simulation: Simulation
    project: Project
    replicas: dict[str, Replica] = field(default_factory=dict)
    gateways: list[str] = field(default_factory=list)
    ops_addresses: dict[str, str] = field(default_factory=dict)  # of each gateway
    ops_ports: dict[str, int] = field(default_factory=dict)  # of each role and replica, for /readyz
    customer_url: str = ""

    @property
    def postgres(self) -> str:
        """The DSN."""
        return self.stack.addresses["postgres"]

    @property
    def kafka(self) -> str:
        """The bootstrap servers."""
        return self.stack.addresses["kafka"]

    @property
    def data_dir(self) -> Path:
        """The data directory of the local stack."""
        return self.folder / "system"

    @property
    def key_file(self) -> Path:
        """The file of the encryption key."""
        return Path(self.stack.environment["SLUICE_ENCRYPTION_KEY_FILE"])

    def ledger(self, name: str) -> Ledger:
        """A new ledger in the folder of the run."""
        return Ledger(self.folder / name)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``sluice`` against this system."""
        return subprocess.run(
            [sys.executable, "-m", "sluice_cli.main", *words],
            env={**os.environ, **self.stack.environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


@contextmanager
def cluster(
    folder: Path,
    progress: Progress,
    *,
    seed: int = 0,
    environment: Mapping[str, str] = TIMING,
    roles: Collection[str] = ROLES,
    endpoints: Mapping[str, str] = ENDPOINTS,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Cluster]:
    """Start everything but the second replicas; it ends with the block, or with this process.

    Call it from the main thread: the parent-death signal of the processes follows it.
    """
    os.environ.update(environment)
    with ExitStack() as exits:
        simulation = exits.enter_context(Simulation(folder / "simulator", seed=seed, endpoints=endpoints))
        os.environ.update(_sms_link(simulation, endpoints))
        stack = LocalStack(folder / "system", roles=roles, testing=False, progress=progress)
        exits.callback(stack.stop)
        stack.start()
        os.environ.update(kafka_login(stack.environment))
        project = asyncio.run(_configure(stack, simulation, endpoints, settings))
        running = Cluster(folder, stack, simulation, project)
        running.ops_ports = {name: int(stack.ops_addresses[name].rpartition(":")[2]) for name in roles}
        if "gateway" in roles:
            running.gateways = [stack.addresses["gateway"]]
            running.ops_addresses = {stack.addresses["gateway"]: stack.ops_addresses["gateway"]}
        yield running


@asynccontextmanager
async def with_replicas(cluster: Cluster, roles: Sequence[str] = REPLICATED) -> AsyncIterator[None]:
    """Run a second replica of some roles while the block runs."""
    for name in roles:
        port, ops_port = free_port(), free_port()
        replica = replica_of(cluster, name, port, f"{name}-2", ops_port)
        cluster.replicas[replica.name] = replica
        cluster.ops_ports[replica.name] = ops_port if name == "gateway" else port
        if name == "gateway":
            cluster.gateways.append(address := f"http://127.0.0.1:{port}")
            cluster.ops_addresses[address] = f"http://127.0.0.1:{ops_port}"
        replica.start()
    try:
        yield
    finally:
        await asyncio.gather(*(replica.stop() for replica in cluster.replicas.values()))


def replica_of(cluster: Cluster, name: str, port: int, called: str, ops_port: int = 0) -> Replica:
    """Another process of a role, not started yet."""
    return Replica(
        called,
        role(name).module,
        _environment(cluster, name, port, ops_port),
        cluster.data_dir / "logs" / f"{called}.log",
        optimised="SLUICE_FAILPOINTS_FILE" not in os.environ,
    )


def _environment(cluster: Cluster, name: str, port: int, ops_port: int) -> dict[str, str]:
    return {
        **os.environ,
        **cluster.stack.environment_of(name),
        "SLUICE_HOST": "127.0.0.1",
        "SLUICE_PORT": str(port),
        "SLUICE_OPS_PORT": str(ops_port),
        "SLUICE_ROLE": name,
        "SLUICE_PUBLIC_URL": cluster.stack.addresses["gateway"],
        "PYTHONUNBUFFERED": "1",
    }


def _sms_link(simulation: Simulation, endpoints: Mapping[str, str]) -> dict[str, str]:
    """The variables of the installation's SMS link, to the first SMPP endpoint; none without one."""
    port = next((simulation.ports[source] for source, kind in endpoints.items() if kind == "smpp"), None)
    if port is None:
        return {}
    link = {"kind": "smpp", "host": "127.0.0.1", "port": str(port), "system_id": "acme", "password": "secret"}
    return {f"SLUICE_SMS_LINK_{name.upper()}": value for name, value in link.items()}


async def _configure(
    stack: LocalStack, simulation: Simulation, endpoints: Mapping[str, str], settings: Mapping[str, Any] | None
) -> Project:
    cipher = CredentialCipher(partial(read_key_file, Path(stack.environment["SLUICE_ENCRYPTION_KEY_FILE"])))
    connection = await asyncpg.connect(stack.addresses["postgres"])
    try:
        project = await projects.create_project(connection, organization="Chaos", slug="chaos", name="Chaos", now=now())
        providers = {
            source: await add_provider(connection, cipher, project.id, simulation, source, kind, settings=settings)
            for source, kind in endpoints.items()
        }
        key = await api_keys.create_key(connection, project.id, name="load", is_test=False, now=now())
        sandbox = await api_keys.create_key(connection, project.id, name="sandbox", is_test=True, now=now())
    finally:
        await connection.close()
    return Project(project.id, key, sandbox, providers)


async def add_provider(
    connection: Any,
    cipher: CredentialCipher,
    project_id: UUID,
    simulation: Simulation,
    source: str,
    kind: str,
    *,
    settings: Mapping[str, Any] | None = None,
    priority: int | None = None,
) -> UUID:
    """An account at an endpoint of the simulator."""
    package, channel, credentials = account(kind, simulation.ports[source], source)
    provider_id = ids.uuid7()
    await providers.create_provider(
        connection,
        provider_id,
        project_id,
        package=package,
        channel=channel,
        name=source,
        encrypted_credentials=cipher.encrypt_credentials(credentials, project_id=project_id, provider_id=provider_id),
        settings=settings,
        priority=priority,
        now=now(),
    )
    return provider_id


def account(kind: str, port: int, source: str) -> tuple[str, Channel, dict[str, Any]]:
    """Package, channel and credentials of an account at an endpoint."""
    url = f"http://127.0.0.1:{port}"
    match kind:
        case "resend":
            credentials = {"apiKey": f"re_{source}", "webhookSecret": SECRET, "baseUrl": url}
            return "provider-resend", Channel.EMAIL, credentials
        case "twilio":
            return (
                "provider-twilio",
                Channel.SMS,
                {"accountSid": ACCOUNT, "authToken": f"token-{source}", "baseUrl": url},
            )
        case "smtp":
            return (
                "provider-smtp",
                Channel.EMAIL,
                {"host": "127.0.0.1", "port": port, "secure": False, "requireTLS": False},
            )
        case _:
            found = ACCOUNTS[kind]
            return found.package, found.channel, found.credentials_at("127.0.0.1", port)


def webhooks(cluster: Cluster, endpoints: Mapping[str, str] = ENDPOINTS) -> tuple[dict[str, str], dict[str, str]]:
    """URLs and secrets of the webhooks in the dashboards of the endpoints. The other providers get theirs in each call,
    or have none."""
    base = cluster.gateways[0]
    secrets = {
        source: SECRET if kind == "resend" else ACCOUNTS[kind].webhook_secret
        for source, kind in endpoints.items()
        if kind not in ("smtp", "twilio", "smpp")
    }
    return {source: f"{base}/v1/receipts/{cluster.project.named(source)}" for source in secrets}, secrets
