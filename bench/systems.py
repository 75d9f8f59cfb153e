"""The measured systems behind one protocol: Sluice, the two floors and the Celery peer."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol
from uuid import UUID

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench import counters, results_db, usage
from bench.clock import now, wall_offset
from bench.environment import Environment, environment, wait_for_port
from bench.processes import Child, Failed, bench_program
from bench.results_db import Settled
from bench.traffic import Shape
from sluice.bus.connection import KafkaConnection
from sluice.model.ids import uuid7
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from sluice.runtime.settings import read_key_file
from sluice.store import api_keys, migrations, projects, providers
from sluice.store.cipher import CredentialCipher
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.process_info import free_port
from sluice_launcher.roles import ROLES, SERVICES
from sluice_launcher.state import read_state

ROLE_NAMES = tuple(role.name for role in ROLES)
PARTITIONS = 8


class Subject(Protocol):
    """One system under test."""

    name: str
    port: int
    keys: tuple[str, ...]

    def roots(self) -> dict[str, int]:
        """The root processes of its own Python roles."""
        ...

    async def rest(self, accepted: int, before: int, *, seconds: float) -> tuple[bool, float]:
        """Wait until all ``accepted`` messages are settled (the sink had accepted ``before`` of others).

        Returns whether they are, and the moment of bench.clock when that was so.
        """
        ...

    async def settled(self, run: int, since: float) -> list[Settled] | None:
        """The deliveries of a run in its database; None if it has none."""
        ...


# -- Sluice ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tenant:
    """A project with its key, and its providers by endpoint."""

    key: str
    providers: Mapping[str, str]


class Sluice:
    """The roles, as `sluice up` starts them, on the environment's servers and a database of their own."""

    name = "sluice"

    def __init__(self, env: Environment, folder: Path, stack: LocalStack, dsn: str, tenants: Sequence[Tenant]) -> None:
        self._env = env
        self._folder = folder
        self.stack = stack
        self.dsn = dsn
        self.tenants = tuple(tenants)
        self.keys = tuple(tenant.key for tenant in tenants)
        self.port = int(stack.addresses["gateway"].rpartition(":")[2])

    @classmethod
    async def start(
        cls,
        env: Environment,
        database: str,
        *,
        tenants: int = 1,
        settings: Mapping[str, str] | None = None,
        channels: Sequence[str] = ("email", "sms"),
        existing: Sequence[Tenant] | None = None,
    ) -> Sluice:
        """Start it on a new database, or on one that has its tenants already."""
        folder = env.folder / f"roles-{database}-{env.next_run()}"
        folder.mkdir(mode=0o700)
        key = env.folder / "services/credentials.key"
        shutil.copy2(key, folder / "credentials.key")
        if existing is None:
            dsn = await results_db.create_database(env.addresses["postgres"], database)
            await migrations.apply(dsn)
            existing = await make_tenants(dsn, env, key, tenants, channels)
        else:
            dsn = results_db.with_database(env.addresses["postgres"], database)
        with environment({"SLUICE_FAILPOINTS_FILE": "", "SLUICE_PUBLIC_URL": "", **(settings or {})}):
            stack = LocalStack(
                folder,
                services=SERVICES,
                roles=ROLE_NAMES,
                external={**env.addresses, "postgres": dsn},
                testing=False,
            )
            stack.start()
        return cls(env, folder, stack, dsn, existing)

    def roots(self) -> dict[str, int]:
        """The roles. The supervisor is idle while they run; its memory is reported separately."""
        found = read_state(self._folder)
        return {name: found[name].pid for name in ROLE_NAMES if name in found}

    async def rest(self, accepted: int, before: int, *, seconds: float) -> tuple[bool, float]:
        """Until nothing is due in the database."""
        quiet, at = await results_db.wait_until_settled(self.dsn, seconds=seconds)
        return quiet, at - wall_offset()

    async def settled(self, run: int, since: float) -> list[Settled] | None:
        """From the database."""
        return await results_db.messages(self.dsn, run, since)

    def memory(self) -> float:
        """PSS of the roles now, in MB."""
        return sum(usage.memory_bytes(self.roots()).values()) / 1e6

    def supervisor_memory(self) -> float:
        """PSS of the process above the roles, in MB."""
        return float(self.stack.control.process("supervisor")["memory"]) / 1e6

    def end(self) -> None:
        """Stop the roles; the database stays."""
        self.stack.stop()


async def make_tenants(
    dsn: str, env: Environment, key_file: Path, count: int, channels: Sequence[str] = ("email", "sms")
) -> list[Tenant]:
    """Projects with a key and two providers for each channel."""
    cipher = CredentialCipher(partial(read_key_file, key_file))
    when = utc_now()
    made = []
    connection = await asyncpg.connect(dsn)
    try:
        for start in range(0, count, 500):
            async with connection.transaction():
                for number in range(start, min(count, start + 500)):
                    project = await projects.create_project(
                        connection, organization="Bench", slug=f"bench-{number}", name="Bench", now=when
                    )
                    provider_ids = {
                        endpoint: await _create_provider(connection, cipher, project.id, endpoint, port)
                        for endpoint, port in env.sink.ports.items()
                        if endpoint.partition("-")[0] in channels
                    }
                    key = await api_keys.create_key(connection, project.id, name="bench", is_test=False, now=when)
                    made.append(Tenant(key, provider_ids))
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    return made


async def _create_provider(
    connection: asyncpg.Connection, cipher: CredentialCipher, project_id: UUID, endpoint: str, port: int
) -> str:
    channel, provider_id = Channel(endpoint.partition("-")[0]), uuid7()
    await providers.create_provider(
        connection,
        provider_id,
        project_id,
        package="provider-resend" if channel is Channel.EMAIL else "provider-twilio",
        channel=channel,
        name=endpoint,
        encrypted_credentials=cipher.encrypt_credentials(
            _credentials(channel, f"http://127.0.0.1:{port}"), project_id=project_id, provider_id=provider_id
        ),
        now=utc_now(),
    )
    return str(provider_id)


def _credentials(channel: Channel, url: str) -> dict[str, str]:
    if channel is Channel.EMAIL:
        return {"apiKey": "re_bench", "baseUrl": url}
    return {"accountSid": "AC" + "0" * 32, "authToken": "bench", "from": "+15005550006", "baseUrl": url}


# -- floors and peers --------------------------------------------------------------------------------------------


class Competitor:
    """A system of one or more processes of ours, started from a command line."""

    def __init__(self, env: Environment, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.keys: tuple[str, ...] = ("none",)
        self._env = env
        self._children: dict[str, Child] = {}

    def spawn(self, part: str, command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        """Start one of its processes."""
        log = self._env.folder / f"{self.name}-{part}.log"
        self._children[part] = Child(command, log=log, environment=variables)

    async def wait(self) -> None:
        """Until a first message is delivered: a worker may start later than the HTTP server.

        Raises:
            Failed: none does.
        """
        before = self._env.counters[counters.ACCEPTED]
        deadline = time.monotonic() + 30.0
        if wait_for_port(self.port, self._alive):
            request = (Shape(self._env.next_run()).template() % {"n": f"{0:09d}", "key": self.keys[0]}).encode()
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(request)
            await reader.read(1)
            writer.close()
            while time.monotonic() < deadline and self._alive():
                if self._env.counters[counters.ACCEPTED] > before:
                    return
                await asyncio.sleep(0.1)
        words = " ".join(f"{part}: {child.log_tail()}" for part, child in self._children.items())
        self.end()
        raise Failed(f"{self.name} does not start: {words}")

    def _alive(self) -> bool:
        return all(child.alive for child in self._children.values())

    def roots(self) -> dict[str, int]:
        """Its processes."""
        return {part: child.pid for part, child in self._children.items()}

    async def rest(self, accepted: int, before: int, *, seconds: float) -> tuple[bool, float]:
        """Until the sink has accepted everything; a competitor that lost a message never returns True."""
        counted = self._env.counters
        deadline = time.monotonic() + seconds
        seen, moved = -1, now()
        while True:
            done = counted[counters.ACCEPTED] - before
            if done != seen:
                seen, moved = done, now()
            if done >= accepted:
                return True, moved
            if now() - moved > 3.0 or time.monotonic() > deadline:
                return False, moved
            await asyncio.sleep(0.05)

    async def settled(self, run: int, since: float) -> list[Settled] | None:
        """It has no database: only the sink's call log counts."""
        return None

    def end(self) -> None:
        """End its processes."""
        for child in self._children.values():
            child.end()


async def create_topic(servers: str, name: str, partitions: int) -> None:
    """A topic with the deployed settings."""
    admin = AIOKafkaAdminClient(**KafkaConnection.to(servers).options())
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs={"retention.ms": "604800000"})])
    finally:
        await admin.close()


async def recreate_topics(servers: str, names: Sequence[str], partitions: int) -> None:
    """Recreate topics, empty, with another number of partitions. They must not be in use."""
    admin = AIOKafkaAdminClient(**KafkaConnection.to(servers).options())
    await admin.start()
    try:
        await admin.delete_topics(list(names))
        for _ in range(50):
            await asyncio.sleep(0.2)
            if not set(names) & set(await admin.list_topics()):
                break
    finally:
        await admin.close()
    for name in names:
        await create_topic(servers, name, partitions)


async def start_floor_k(env: Environment) -> Competitor:
    """Accept -> Kafka -> POST, and nothing else."""
    name = "floor-k"
    servers = env.addresses["kafka"]
    topic = f"bench.{name}.{env.next_run()}"
    await create_topic(servers, topic, PARTITIONS)
    competitor = Competitor(env, name, free_port())
    python = [sys.executable, "-O", "-m"]
    competitor.spawn("accept", [*python, "bench.baselines.kafka_accept", str(competitor.port), servers, topic])
    competitor.spawn(
        "drain", [*python, "bench.baselines.kafka_drain", servers, topic, f"{env.sink.url('email-a')}/emails"]
    )
    await competitor.wait()
    return competitor


async def _start_peer(env: Environment, name: str, database: int, worker: Sequence[str]) -> Competitor:
    dsn = await results_db.create_database(env.addresses["postgres"], f"peer_{env.next_run()}")
    connection = await asyncpg.connect(dsn)
    try:
        from bench.peers.settings import SCHEMA

        await connection.execute(SCHEMA)
    finally:
        await connection.close()
    redis = env.addresses["redis"].rpartition("/")[0]
    variables = {
        "BENCH_POSTGRES": dsn,
        "BENCH_REDIS": f"{redis}/{database}",
        "BENCH_PROVIDERS": f"{env.sink.url('email-a')},{env.sink.url('email-b')}",
        "PYTHONOPTIMIZE": "1",
    }
    competitor = Competitor(env, name, free_port())
    module = {"floor-c": "bench.peers.taskiq_app", "celery": "bench.peers.celery_app"}[name]
    competitor.spawn(
        "accept",
        [
            *(bench_program("python"), "-m", "uvicorn", f"{module}:app", "--host", "127.0.0.1"),
            *("--port", str(competitor.port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"),
            *("--log-level", "warning", "--backlog", "4096"),
        ],
        variables,
    )
    competitor.spawn("worker", [bench_program("python"), "-m", *worker], variables)
    await competitor.wait()
    return competitor


async def start_floor_c(env: Environment) -> Competitor:
    """Taskiq on a Redis stream, asyncpg, aiohttp, two providers in a fixed order."""
    return await _start_peer(
        env,
        "floor-c",
        1,
        ["taskiq", "worker", "bench.peers.taskiq_app:broker", "--workers", "1", "--log-level", "WARNING"],
    )


async def start_celery(env: Environment) -> Competitor:
    """Celery on Redis, eight processes, requests, psycopg2, one provider."""
    return await _start_peer(
        env,
        "celery",
        2,
        ["celery", "-A", "bench.peers.celery_app:celery", "worker", "-P", "prefork", "-c", "8", "-l", "WARNING"],
    )
