"""The plan of a supervisor: programs found, jars fetched, ports chosen.

Made in the foreground, so that the command itself reports what is wrong.
"""

import importlib.util
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from sluice.runtime.errors import SluiceError
from sluice.runtime.paths import deploy_dir
from sluice.store.logins import LOGINS, OPERATOR, password_setting, with_login
from sluice_launcher import kafka_jars, programs
from sluice_launcher.ports import choose_ports, ephemeral_ports
from sluice_launcher.process_info import outgoing_range
from sluice_launcher.progress import Progress
from sluice_launcher.roles import ADDRESS_SETTINGS, ALL_ROLES, ROLES, SERVICES, ops_name, port_setting
from sluice_launcher.scaling import check_connections, check_roles, process_names
from sluice_launcher.secret_files import password
from sluice_launcher.settings import LauncherSettings

HOST = "127.0.0.1"
OWNER = "sluice_owner"
"""The login that owns the tables of a PostgreSQL that the launcher starts."""
PRODUCER = "producer"
"""The Kafka user of other services: it publishes on send.requests and reads delivery.events."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The input of a supervisor; stored as JSON in the run directory."""

    data_dir: Path
    key_file: Path
    testing: bool
    services: tuple[str, ...]
    roles: tuple[str, ...]
    external: Mapping[str, str]
    ports: Mapping[str, int]
    programs: Mapping[str, Path] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    postgres_passwords: Mapping[str, str] = field(default_factory=dict)  # by login
    redis_password: str | None = None
    kafka_password: str | None = None
    kafka_controller_password: str | None = None
    kafka_producer_password: str | None = None
    role_memory_limit: int | None = None  # bytes
    scale: Mapping[str, int] = field(default_factory=dict)  # processes of a role; one where it is not named
    postgres_pool_size: int = 8  # of each process

    @property
    def run_dir(self) -> Path:
        """Sockets, pids, generated configuration."""
        return self.data_dir / "run"

    @property
    def log_dir(self) -> Path:
        """The log files."""
        return self.data_dir / "logs"

    @property
    def role_processes(self) -> dict[str, str]:
        """The role of each process."""
        return {process: name for name in self.roles for process in process_names(self.scale, name)}

    def is_managed(self, service: str) -> bool:
        """Whether the supervisor starts this service; an address in the environment makes it external."""
        return service in self.services and service not in self.external

    def write(self, path: Path) -> None:
        """Store it, mode 600: it holds passwords."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(self), file, default=str)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Load it."""
        values = json.loads(path.read_text())
        return cls(
            **values
            | {
                "data_dir": Path(values["data_dir"]),
                "key_file": Path(values["key_file"]),
                "services": tuple(values["services"]),
                "roles": tuple(values["roles"]),
                "programs": {name: Path(path) for name, path in values["programs"].items()},
            }
        )


def make_plan(
    settings: LauncherSettings,
    progress: Progress,
    *,
    services: Collection[str] = SERVICES,
    roles: Collection[str] | None = None,
    scale: Mapping[str, int] | None = None,
) -> Plan:
    """Find or fetch what the services and roles need.

    Raises:
        SluiceError: one sentence with the reason why they cannot run.
    """
    chosen_roles = default_roles() if roles is None else tuple(roles)
    own = [service for service in SERVICES if service in services and service not in settings.external]
    _check_addresses(settings.external)
    make_directories(settings)
    found = _find_programs(settings, own, progress)
    numbers = {name: number for name, number in (scale or {}).items() if number > 1}
    check_scale(numbers, chosen_roles, settings.postgres_pool_size if "postgres" in own else None)
    ports = choose_ports(settings.ports, own, chosen_roles, numbers)
    for warning in ephemeral_ports(ports, outgoing_range()):
        progress(warning)
    return Plan(
        data_dir=settings.data_dir,
        key_file=settings.encryption_key_file,
        testing=settings.unsafe_fast_database,
        role_memory_limit=settings.role_memory_limit,
        services=tuple(service for service in SERVICES if service in services),
        roles=chosen_roles,
        external=dict(settings.external),
        ports=ports,
        scale=numbers,
        postgres_pool_size=settings.postgres_pool_size,
        programs={name: program.path for name, program in found.items()},
        versions={name: program.version for name, program in found.items()},
        postgres_passwords=_postgres_passwords(settings) if "postgres" in services else {},
        **({} if settings.unsafe_fast_database else _passwords(settings.data_dir)),
    )


def check_scale(scale: Mapping[str, int], roles: Collection[str], pool_size: int | None) -> None:
    """``pool_size``: None if PostgreSQL is not the launcher's.

    Raises:
        SluiceError: these numbers of processes cannot run.
    """
    check_roles(scale, roles)
    if pool_size is not None:
        check_connections(scale, roles, pool_size)


def rescaled(plan: Plan, changes: Mapping[str, int]) -> Plan:
    """The plan with other numbers of processes; new ones have free ports.

    Raises:
        SluiceError: these numbers cannot run.
    """
    merged = {**plan.scale, **changes}
    scale = {name: number for name, number in merged.items() if number > 1}
    check_scale(merged, plan.roles, plan.postgres_pool_size if plan.is_managed("postgres") else None)
    own = [name for name in SERVICES if plan.is_managed(name)]
    return replace(plan, scale=scale, ports=choose_ports(plan.ports, own, plan.roles, scale, taken=plan.ports))


def _passwords(data_dir: Path) -> dict[str, str]:
    names = ("redis", "kafka", "kafka-controller", "kafka-producer")
    return {f"{name.replace('-', '_')}_password": password(data_dir / f"{name}.password") for name in names}


def _postgres_passwords(settings: LauncherSettings) -> dict[str, str]:
    """The passwords of the logins: given, or generated into files. The superuser's is for backups by hand."""
    password(settings.data_dir / "postgres.password")
    names = [OWNER, *(login.name for login in LOGINS)]
    return {name: settings.passwords.get(name) or password(_password_file(settings.data_dir, name)) for name in names}


def owner_dsn(data_dir: Path, dsn: str) -> str:
    """The address of the launcher's PostgreSQL for the owner of the tables; ``dsn`` is that for another login.

    Raises:
        SluiceError: the launcher does not run it.
    """
    path = _password_file(data_dir, OWNER)
    if not dsn or not path.exists():
        raise SluiceError(f"no PostgreSQL runs here: start it, or name one in {ADDRESS_SETTINGS['postgres']}")
    return with_login(dsn, OWNER, password(path))


def _password_file(data_dir: Path, login: str) -> Path:
    return data_dir / f"postgres-{login.removeprefix('sluice_').replace('_', '-')}.password"


def default_roles() -> tuple[str, ...]:
    """Every role, and the mailbox if the simulator is installed."""
    extra = [role.name for role in ALL_ROLES if role not in ROLES and importlib.util.find_spec(role.module)]
    return (*(role.name for role in ROLES), *extra)


def addresses(plan: Plan) -> dict[str, str]:
    """The address of each service and of each process of a role."""
    own = {
        "postgres": with_login(
            f"postgresql://{HOST}:{plan.ports.get('postgres')}/sluice", OWNER, plan.postgres_passwords.get(OWNER)
        ),
        "redis": f"redis://{_secret(plan.redis_password)}{'@' if plan.redis_password else ''}"
        f"{HOST}:{plan.ports.get('redis')}/0",
        "kafka": f"{HOST}:{plan.ports.get('kafka')}",
    }
    services = {name: plan.external.get(name, own[name]) for name in plan.services}
    roles = plan.role_processes.items()
    return services | {process: f"{_scheme(name)}://{HOST}:{plan.ports[process]}" for process, name in roles}


def ops_ports(plan: Plan) -> dict[str, int]:
    """The port of the ops endpoints of each process that speaks HTTP: its own, or one beside it."""
    speaks_http = {each.name for each in ALL_ROLES if each.probe == "http"}
    names = [process for process, name in plan.role_processes.items() if name in speaks_http]
    return {process: plan.ports.get(ops_name(process), plan.ports[process]) for process in names}


def environment(plan: Plan, login: str | None = OPERATOR.name) -> dict[str, str]:
    """The environment of a role, or of every command that works on the running system.

    ``login`` is its login in PostgreSQL.
    """
    where = addresses(plan)
    database = {}
    if login and "postgres" in plan.services:
        database["SLUICE_POSTGRES_DSN"] = with_login(where["postgres"], login, plan.postgres_passwords[login])
    return {
        **database,
        **{ADDRESS_SETTINGS[name]: where[name] for name in plan.services if name != "postgres"},
        **(_kafka_login(plan) if plan.is_managed("kafka") else {}),
        "SLUICE_ENCRYPTION_KEY_FILE": str(plan.key_file),
        "SLUICE_DATA_DIR": str(plan.data_dir),
        # The mailbox and the simulator listen on this machine. An empty setting allows no such address.
        "SLUICE_SIGN_UP": os.environ.get("SLUICE_SIGN_UP", "true"),
        "SLUICE_OUTGOING_ALLOW": os.environ.get("SLUICE_OUTGOING_ALLOW", "127.0.0.0/8,::1/128"),
        **{port_setting(name): str(plan.ports[name]) for name in _names_of_role_ports(plan)},
    }


def owner_environment(plan: Plan) -> dict[str, str]:
    """What only `sluice migrate` gets: the owner's address, and the passwords of the logins."""
    passwords = {password_setting(login.name): plan.postgres_passwords.get(login.name, "") for login in LOGINS}
    return {ADDRESS_SETTINGS["postgres"]: addresses(plan).get("postgres", ""), **passwords}


def _names_of_role_ports(plan: Plan) -> list[str]:
    return [name for role in plan.roles for name in (role, ops_name(role)) if name in plan.ports]


def _kafka_login(plan: Plan) -> dict[str, str]:
    if plan.kafka_password is None:
        return {"SLUICE_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}
    return {
        "SLUICE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SLUICE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "SLUICE_KAFKA_USERNAME": "sluice",
        "SLUICE_KAFKA_PASSWORD": plan.kafka_password,
    }


def kafka_login(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an installation's environment with which a client logs in to its Kafka."""
    names = ("SECURITY_PROTOCOL", "SASL_MECHANISM", "USERNAME", "PASSWORD")
    found = {name: environment.get(name, "") for name in (f"SLUICE_KAFKA_{part}" for part in names)}
    return {name: value for name, value in found.items() if value}


def redact_password(address: str) -> str:
    """The address without its password."""
    if "://" not in address or "@" not in address:
        return address
    parts = urlsplit(address)
    user = f"{parts.username}@" if parts.username else ""
    return parts._replace(netloc=user + parts.netloc.rpartition("@")[2]).geturl()


def endpoints_of(service: str, address: str) -> list[tuple[str, int]]:
    """The hosts and ports of an address; none for a socket in the file system."""
    default = {"postgres": 5432, "redis": 6379, "kafka": 9092}[service]
    urls = [f"//{part}" for part in address.split(",")] if service == "kafka" else [address]
    parts = [urlsplit(url) for url in urls]
    return [(part.hostname, part.port or default) for part in parts if part.hostname]


def _check_addresses(external: Mapping[str, str]) -> None:
    schemes = {"postgres": ("postgresql", "postgres"), "redis": ("redis", "rediss", "unix")}
    for service, address in external.items():
        wanted = schemes.get(service)
        if wanted and urlsplit(address).scheme not in wanted:
            raise SluiceError(f"{ADDRESS_SETTINGS[service]} must begin with {wanted[0]}:// to be an address")
        if service == "kafka" and not all(part.rpartition(":")[2].isdecimal() for part in address.split(",")):
            raise SluiceError(
                f"SLUICE_KAFKA_BOOTSTRAP_SERVERS is {address!r}: it must be host:port, or several, separated by commas"
            )


def make_directories(settings: LauncherSettings) -> None:
    """Create the data directory.

    Raises:
        SluiceError: it cannot be created.
    """
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("run", "logs"):
            (settings.data_dir / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as fault:
        raise SluiceError(
            f"the data directory {settings.data_dir} cannot be made ({fault.strerror}): name another in SLUICE_DATA_DIR"
        ) from fault


def _find_programs(settings: LauncherSettings, own: Collection[str], progress: Progress) -> dict[str, programs.Program]:
    found = {}
    if "postgres" in own:
        found["postgres"] = programs.find_postgres(settings.search_path, settings.data_dir / "postgres")
    if "redis" in own:
        found["redis"] = programs.find_redis(settings.search_path)
    if "kafka" in own:
        found["java"] = programs.find_java(settings.java, settings.search_path)
        found["kafka"] = _kafka(settings, progress)
    return found


def _kafka(settings: LauncherSettings, progress: Progress) -> programs.Program:
    """The directory with all jars."""
    jars = kafka_jars.read_jar_list(deploy_dir() / "kafka/kafka.jars")
    directory = kafka_jars.jar_directory(settings.cache_dir, jars)
    try:
        kafka_jars.fetch_jars(
            jars, directory, partial(kafka_jars.maven_download, mirror=settings.maven_mirror), progress
        )
    except OSError as fault:
        raise SluiceError(
            f"Kafka's jars cannot be kept in {settings.cache_dir} ({fault.strerror}): "
            "name another directory in SLUICE_CACHE_DIR"
        ) from fault
    version = next(jar.version for jar in jars if jar.artifact == "kafka_2.13")
    return programs.Program(directory, version)


def _secret(password: str | None) -> str:
    return f":{password}" if password else ""


def _scheme(role: str) -> str:
    return next({"http": "http", "smtp": "smtp"}[each.probe] for each in ALL_ROLES if each.name == role)
