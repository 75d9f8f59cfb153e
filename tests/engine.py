"""Real PostgreSQL, Redis and Kafka for the tests, and the whole system; each started when first asked for.

An address in the environment (SLUICE_POSTGRES_OWNER_DSN, SLUICE_REDIS_URL, SLUICE_KAFKA_BOOTSTRAP_SERVERS) comes
first, then a container where a Docker engine answers, then a server started by the launcher. All of it ends with the
session.
"""

import asyncio
import gc
import os
import uuid
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from sluice.runtime.errors import SluiceError
from sluice.store.logins import LOGINS, Login, with_login
from sluice_launcher import probes
from sluice_launcher.control import SupervisorClient
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.plan import default_roles
from sluice_launcher.process_info import free_port
from tests.polling import wait_until

POSTGRES_IMAGE = "postgres:18"
REDIS_IMAGE = "redis:8"
KAFKA_IMAGE = "apache/kafka:4.3.1"

POSTGRES_CONTAINER = {"POSTGRES_USER": "sluice", "POSTGRES_HOST_AUTH_METHOD": "trust"}
CONTAINER_SECONDS = 120.0

LOGIN_NAMES = [login.name for login in LOGINS]
LOGIN_PASSWORD = "of every login of a test"

# Shorter timeouts: a recovery happens within the time of a test.
QUICK = {
    "SLUICE_ATTEMPT_LEASE": "5",
    "SLUICE_HTTP_TIMEOUT": "4",
    "SLUICE_CALL_TIMEOUT": "4",
    "SLUICE_URGENT_CALL_TIMEOUT": "4",
    "SLUICE_REQUEUE_AFTER": "3",
    "SLUICE_UNKNOWN_OUTCOME_WAIT": "2",
    "SLUICE_SAME_KEY_RETRY_DELAY": "1",
    "SLUICE_RETRY_SCHEDULE": "[0.5, 1, 2, 2]",
    "SLUICE_RECOVERY_INTERVAL": "0.5",
}

# The installation's SMS link, to a simulator that a test starts on this port; see tests/system/test_sms_link.py.
SMS_LINK = {
    "SLUICE_SMS_LINK_KIND": "smpp",
    "SLUICE_SMS_LINK_HOST": "127.0.0.1",
    "SLUICE_SMS_LINK_SYSTEM_ID": "acme",
    "SLUICE_SMS_LINK_PASSWORD": "secret",
    "SLUICE_SMS_LINK_BIND_TIMEOUT": "2",
    "SLUICE_SMS_LINK_RECONNECT_DELAY": "0.1",
}

# The fixtures that start a server, one for each worker of a parallel run.
SERVERS = {"postgres_dsn", "redis_url", "kafka_bootstrap", "running_system"}

Probe = Callable[[str, int], Awaitable[bool]]
MakeDatabase = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class System:
    """The running system: where everything answers, what a command needs in its environment, its control.

    ``gateway_environment``, ``worker_environment``: of another gateway, another email-worker.
    """

    addresses: dict[str, str]
    ops_addresses: dict[str, str]
    environment: dict[str, str]
    control: SupervisorClient
    data_dir: Path
    sms_link_port: int = 0
    collector_port: int = 0  # where a test starts a collector; a request with a sampled traceparent is traced
    gateway_environment: dict[str, str] = field(default_factory=dict)
    worker_environment: dict[str, str] = field(default_factory=dict)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks the tests that need a server, and deals the tests out to the workers of a parallel run."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")
    if hasattr(config, "workerinput"):
        # What takes minutes begins first, so that all workers end at about the same time.
        items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(scope="session")
def postgres_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server that tests may fill with databases, for the owner. Use `database` for one with our schema."""
    if given := os.environ.get("SLUICE_POSTGRES_OWNER_DSN"):
        yield given
    elif docker_answers():
        with _container(POSTGRES_IMAGE, 5432, probes.postgres, POSTGRES_CONTAINER) as place:
            yield f"postgresql://sluice@{place}/sluice"
    else:
        with LocalStack(tmp_path_factory.mktemp("postgres"), services=["postgres"]) as engine:
            yield engine.addresses["postgres"]


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if given := os.environ.get("SLUICE_REDIS_URL"):
        yield given
    elif docker_answers():
        with _container(REDIS_IMAGE, 6379, probes.redis, {}) as place:
            yield f"redis://{place}/0"
    else:
        with LocalStack(tmp_path_factory.mktemp("redis"), services=["redis"]) as engine:
            yield engine.addresses["redis"]


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker without topics: tests make their own, with names of their own."""
    if given := os.environ.get("SLUICE_KAFKA_BOOTSTRAP_SERVERS"):
        yield given
    elif docker_answers():
        with _kafka_container() as place:
            yield place
    else:
        with LocalStack(tmp_path_factory.mktemp("kafka"), services=["kafka"]) as engine:
            yield engine.addresses["kafka"]


@contextmanager
def _stopping(engine: LocalStack) -> Iterator[None]:
    try:
        yield
    finally:
        engine.stop()


@pytest.fixture
async def system(running_system: System) -> System:
    """The whole system with everything ready, whatever the test before has stopped or killed."""
    control = running_system.control

    async def is_ready() -> bool:
        missing = await asyncio.to_thread(control.not_ready)
        for name in missing:
            try:
                await asyncio.to_thread(control.start, name)
            except SluiceError as fault:
                log = (running_system.data_dir / "logs" / f"{name}.log").read_text("utf-8", "replace")
                fault.add_note("\n".join([f"the end of the log of {name}:", *log.splitlines()[-40:]]))
                raise
        return not missing

    await wait_until(is_ready, within=60)
    return running_system


@pytest.fixture(scope="session")
def running_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Everything that `sluice up` starts, native in any case: its tests stop and wipe what it runs on."""
    data_dir, sms_link_port, collector_port = tmp_path_factory.mktemp("system"), free_port(), free_port()
    link = {**SMS_LINK, "SLUICE_SMS_LINK_PORT": str(sms_link_port)}
    traces = {
        "SLUICE_TRACING_ENDPOINT": f"http://127.0.0.1:{collector_port}/v1/traces",
        "SLUICE_TRACING_SAMPLE_RATIO": "0",
    }
    with pytest.MonkeyPatch.context() as setting:
        for name, value in {**QUICK, **link, **traces}.items():
            setting.setenv(name, value)
        engine = LocalStack(data_dir, roles=default_roles()).start()
    with _stopping(engine):
        yield System(
            engine.addresses,
            engine.ops_addresses,
            engine.environment,
            engine.control,
            data_dir,
            sms_link_port,
            collector_port,
            engine.environment_of("gateway"),
            engine.environment_of("email-worker"),
        )


@pytest.fixture(scope="session")
async def template_database(postgres_dsn: str) -> AsyncIterator[str]:
    """A database with every migration applied, to be copied and never connected to."""
    from sluice.store import migrations

    name = f"template_{uuid.uuid4().hex[:12]}"
    await _execute(postgres_dsn, f"CREATE DATABASE {name}")
    await migrations.apply(with_database(postgres_dsn, name), passwords=dict.fromkeys(LOGIN_NAMES, LOGIN_PASSWORD))
    yield name
    await _execute(postgres_dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def make_database(postgres_dsn: str, template_database: str) -> AsyncIterator[MakeDatabase]:
    """Makes empty databases with our schema, as many as a test needs; returns their DSNs."""
    made: list[str] = []

    async def make() -> str:
        made.append(name := f"test_{uuid.uuid4().hex[:12]}")
        await _execute(postgres_dsn, f"CREATE DATABASE {name} TEMPLATE {template_database}")
        return with_database(postgres_dsn, name)

    yield make
    for name in made:
        await _execute(postgres_dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(make_database: MakeDatabase) -> str:
    """The DSN of an empty database with our schema, for this test alone."""
    return await make_database()


@cache
def docker_answers() -> bool:
    """Is there a Docker engine, and not only its command?"""
    with warnings.catch_warnings():
        # docker-py drops the socket of a refused connection without closing it; here, and not in some
        # later test, is where that may be said and ignored.
        warnings.simplefilter("ignore", ResourceWarning)
        answers = _docker_pings()
        gc.collect()
    return answers


def _docker_pings() -> bool:
    import docker

    try:
        client = docker.from_env(timeout=5)
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    except (docker.errors.DockerException, OSError):
        return False
    finally:
        client.close()


def as_login(dsn: str, login: Login) -> str:
    """The DSN of the same database for the login of a role."""
    return with_login(dsn, login.name, LOGIN_PASSWORD)


def with_database(dsn: str, name: str) -> str:
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection until the block ends."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def _execute(dsn: str, statement: str) -> None:
    async with connected(dsn) as connection:
        await connection.execute(statement)


@contextmanager
def _container(
    image: str, port: int, probe: Probe, environment: dict[str, str], published: int | None = None
) -> Iterator[str]:
    """Runs an image until its server is ready; gives host:port."""
    from testcontainers.core.container import DockerContainer

    container = DockerContainer(image).with_bind_ports(port, published)
    for name, value in environment.items():
        container.with_env(name, value)
    with container:
        host, outside = container.get_container_host_ip(), int(container.get_exposed_port(port))
        asyncio.run(_wait(probe, host, outside))
        yield f"{host}:{outside}"


async def _wait(probe: Probe, host: str, port: int) -> None:
    async with asyncio.timeout(CONTAINER_SECONDS):
        while not await probe(host, port):
            await asyncio.sleep(0.1)


@contextmanager
def _kafka_container() -> Iterator[str]:
    """Its advertised address must be known beforehand, hence a port of our choosing. testcontainers' own
    KafkaContainer runs another vendor's scripts, which this image does not have."""
    port = free_port()
    environment = {
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_NODE_ID": "1",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_TRANSACTION_MAX_TIMEOUT_MS": "60000",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "1000",
    }
    with _container(KAFKA_IMAGE, 9092, probes.kafka, environment, published=port) as place:
        yield place
