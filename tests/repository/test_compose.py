"""docker-compose.yml runs the processes of `sluice up` with the same configuration, published on 127.0.0.1 only.

docker-compose.laptop.yml publishes what the launcher has on loopback, except the roles' ops endpoints.
"""

import os
import re
import shutil
import subprocess

import pytest
import yaml

from sluice.runtime.settings import Settings
from sluice.store.logins import LOGINS, OPERATOR, password_setting
from sluice_launcher import postgres
from sluice_launcher.kafka import HEAP
from sluice_launcher.plan import OWNER, Plan, environment, owner_environment
from sluice_launcher.roles import ALL_ROLES, MAILBOX, ROLES, SERVICE_PORTS, SERVICES, port_setting
from tests.repository.files import ROOT, read_yaml

SERVICES_OF_COMPOSE = read_yaml("docker-compose.yml")["services"]


class _Loader(yaml.SafeLoader):
    """Knows Compose's own tags for a value that replaces the first file's."""

    def construct_list(self, node: yaml.SequenceNode) -> list[object]:
        return self.construct_sequence(node, deep=True)


for tag in ("!reset", "!override"):
    _Loader.add_constructor(tag, _Loader.construct_list)
LAPTOP = yaml.load((ROOT / "docker-compose.laptop.yml").read_text(), _Loader)["services"]
# The password of a role is no part of its address: it may have any character.
PASSWORDS = {"PGPASSWORD", "SLUICE_REDIS_PASSWORD"}
# Different in a container: names instead of 127.0.0.1, a listener for the host, a volume.
IN_CONTAINERS = {
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "inter.broker.listener.name",
    "controller.quorum.voters",
    "log.dirs",
}


def kafka_properties() -> dict[str, str]:
    lines = (ROOT / "deploy/kafka/server.properties").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name: value for name, _, value in pairs if name not in IN_CONTAINERS}


def compose_kafka_properties() -> dict[str, str]:
    variables = SERVICES_OF_COMPOSE["kafka"]["environment"]
    named = {
        name[6:].lower().replace("_", "."): value for name, value in variables.items() if name.startswith("KAFKA_")
    }
    return {name: value for name, value in named.items() if name not in IN_CONTAINERS and not name.endswith(".opts")}


def a_plan(tmp_path) -> Plan:
    passwords = dict.fromkeys([OWNER, *(login.name for login in LOGINS)], "secret")
    return Plan(tmp_path, tmp_path, False, SERVICES, (), {}, SERVICE_PORTS, postgres_passwords=passwords)


def launcher_environment(tmp_path, login) -> set[str]:
    # The image sets its own data directory. The launcher's other two are for the one who works on the machine.
    return set(environment(a_plan(tmp_path), login)) - {"SLUICE_DATA_DIR", "SLUICE_OUTGOING_ALLOW", "SLUICE_SIGN_UP"}


def required(name: str) -> str:
    return f"${{{name}:?run sh deploy/passwords.sh}}"


def dsn_of(login: str) -> str:
    return f"postgresql://{login}@postgres:5432/sluice"


def published(services) -> dict[str, list[str]]:
    return {name: service["ports"] for name, service in services.items() if service.get("ports")}


def test_compose_runs_every_service_and_role_of_the_launcher():
    assert set(SERVICES_OF_COMPOSE) == {*SERVICES, "setup", "cli", *(role.name for role in ALL_ROLES)}


@pytest.mark.parametrize("role", ALL_ROLES, ids=lambda role: role.name)
def test_a_role_runs_the_launchers_module_on_the_launchers_port(role):
    service = SERVICES_OF_COMPOSE[role.name]

    assert service["command"] == ["python", "-m", role.module]
    assert service["environment"]["SLUICE_ROLE"] == role.name
    assert service["environment"]["SLUICE_PORT"] == str(role.port)
    assert service["environment"].get("SLUICE_OPS_PORT") == (str(role.ops_port) if role.ops_port else None)


@pytest.mark.parametrize("role", ALL_ROLES, ids=lambda role: role.name)
def test_a_role_has_the_settings_of_the_launcher(role, tmp_path):
    variables = SERVICES_OF_COMPOSE[role.name]["environment"]

    own = {"SLUICE_ROLE", "SLUICE_PORT", *(["SLUICE_OPS_PORT"] if role.ops_port else [])}
    own |= {"SLUICE_DATA_DIR"} if role is MAILBOX else set()  # the commands read its mail
    assert set(variables) - PASSWORDS == launcher_environment(tmp_path, role.login) | own
    assert variables.get("SLUICE_POSTGRES_DSN") == (role.login and dsn_of(role.login))
    assert variables.get("PGPASSWORD") == (role.login and required(password_setting(role.login)))


def test_only_the_migration_has_the_owners_address_and_all_passwords(tmp_path):
    found = {
        name: sorted(set(service.get("environment", ())) & set(owner_environment(a_plan(tmp_path))))
        for name, service in SERVICES_OF_COMPOSE.items()
    }

    assert found == {name: [] for name in found} | {"setup": sorted(owner_environment(a_plan(tmp_path)))}
    assert SERVICES_OF_COMPOSE["setup"]["environment"]["SLUICE_POSTGRES_OWNER_DSN"] == dsn_of(OWNER)
    assert SERVICES_OF_COMPOSE["setup"]["environment"]["PGPASSWORD"] == required(password_setting(OWNER))


def test_the_commands_run_with_the_operators_login():
    assert SERVICES_OF_COMPOSE["cli"]["environment"]["SLUICE_POSTGRES_DSN"] == dsn_of(OPERATOR.name)
    assert SERVICES_OF_COMPOSE["cli"]["environment"]["PGPASSWORD"] == required(password_setting(OPERATOR.name))


SETTINGS_FILE = {"path": "sluice.env", "required": False}


@pytest.mark.parametrize("name", [*(role.name for role in ROLES), "setup", "cli"])
def test_every_setting_can_be_made_in_the_file_of_settings(name):
    """`environment` has precedence over the file: a variable with a default there would make the file's ineffective."""
    service = SERVICES_OF_COMPOSE[name]
    interpolated = {variable for variable, value in service["environment"].items() if "${" in value}

    assert service["env_file"] == [SETTINGS_FILE]
    assert {one for one in interpolated if one != "PGPASSWORD" and "_PASSWORD" not in one} == set()


def test_the_file_of_settings_is_kept_out_of_git_the_image_and_the_mailbox():
    ignored = (ROOT / ".gitignore").read_text().splitlines()

    assert {"sluice.env", ".env"} <= set(ignored)
    assert (ROOT / ".dockerignore").read_text().splitlines()[0] == "*"
    assert SERVICES_OF_COMPOSE["mailbox"]["env_file"] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_on_a_laptop_the_roles_reach_the_mailbox_unless_the_operator_says_otherwise(role):
    assert LAPTOP[role.name]["env_file"] == ["deploy/laptop.env", SETTINGS_FILE]
    assert "SLUICE_OUTGOING_ALLOW=172.16.0.0/12" in (ROOT / "deploy/laptop.env").read_text().splitlines()


def test_no_password_is_a_part_of_an_address():
    """There, `p@ss/word` would name another host."""
    found = [
        (name, variable)
        for name, service in SERVICES_OF_COMPOSE.items()
        for variable, value in service.get("environment", {}).items()
        if "://" in str(value) and "PASSWORD" in str(value)
    ]

    assert found == []


def test_no_password_has_a_default_and_the_script_creates_each(tmp_path):
    text = (ROOT / "docker-compose.yml").read_text()
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("kafka"))
    created = subprocess.run(["sh", tmp_path / "deploy/passwords.sh"], capture_output=True, check=True)
    lines = (tmp_path / ".env").read_text().splitlines()

    names = set(re.findall(r"\$\{(SLUICE_\w*PASSWORD\w*)", text))
    assert re.findall(r"\$\{(SLUICE_\w*PASSWORD\w*)(?!\w*:\?run sh deploy/passwords.sh\})", text) == []
    assert {line.partition("=")[0] for line in lines} == names
    assert {len(line.partition("=")[2]) for line in lines} == {48}
    assert len(set(lines)) == len(lines)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert b".env" in created.stderr
    assert subprocess.run(["sh", tmp_path / "deploy/passwords.sh"], capture_output=True).returncode == 1
    assert (tmp_path / ".env").read_text().splitlines() == lines


@pytest.mark.parametrize("name", SERVICES_OF_COMPOSE)
def test_finding_22_every_container_is_confined_and_bounded(name):
    service = SERVICES_OF_COMPOSE[name]

    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cap_drop"] == ["ALL"]
    assert "mem_limit" in service
    assert service["pids_limit"]
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("role", ALL_ROLES, ids=lambda role: role.name)
def test_finding_22_a_role_has_no_capability_and_writes_nowhere_but_in_memory(role):
    service = SERVICES_OF_COMPOSE[role.name]

    assert service["read_only"] is True
    assert "cap_add" not in service
    assert [folder.partition(":")[0] for folder in service["tmpfs"]] == ["/tmp"]  # the image's data directory is in it


def test_finding_22_the_mailbox_without_a_login_is_no_part_of_an_installation():
    started = [name for name, service in SERVICES_OF_COMPOSE.items() if not service.get("profiles")]

    assert set(SERVICES_OF_COMPOSE) - set(started) >= {"mailbox"}
    assert {*SERVICES, *(role.name for role in ROLES)} <= set(started)


def test_what_scales_has_no_fixed_port_on_the_host():
    """Only the gateway is reached from outside: each replica takes a port of a range."""
    assert published(SERVICES_OF_COMPOSE) == {"gateway": ["127.0.0.1:${SLUICE_GATEWAY_PORTS:-8080-8089}:8080"]}
    assert not {role.name for role in ROLES} & set(published(LAPTOP))


def test_the_laptop_has_the_servers_where_the_launcher_has_them():
    names = (*SERVICES, "mailbox")
    ports = SERVICE_PORTS | {"mailbox": 1025}
    inside = {"postgres": 5432, "redis": 6379, "kafka": 19092, "mailbox": 1025}

    assert published(LAPTOP) == {
        name: [f"127.0.0.1:${{{port_setting(name)}:-{ports[name]}}}:{inside[name]}"] for name in names
    }
    assert LAPTOP["mailbox"]["profiles"] == []


def test_kafka_is_configured_as_the_launcher_configures_it():
    assert compose_kafka_properties() == kafka_properties()


def test_kafka_gets_the_launchers_heap():
    variables = SERVICES_OF_COMPOSE["kafka"]["environment"]

    assert f"{variables['KAFKA_HEAP_OPTS']} {variables['KAFKA_JVM_PERFORMANCE_OPTS']}" == " ".join(HEAP)


def test_postgres_has_the_launchers_size_of_wal_segments():
    words = SERVICES_OF_COMPOSE["postgres"]["environment"]["POSTGRES_INITDB_ARGS"].split()

    assert f"--wal-segsize={postgres.WAL_SEGMENT}" in words


@pytest.mark.parametrize("name", SERVICES)
def test_a_server_has_the_launchers_time_to_stop(name):
    given = int(SERVICES_OF_COMPOSE[name].get("stop_grace_period", "10s").removesuffix("s"))

    # Redis needs none: it appends each write to a file.
    assert given >= {"postgres": 25, "kafka": 20, "redis": 10}[name]


def test_the_roles_have_more_time_to_stop_than_they_use():
    used = Settings.model_fields["shutdown_timeout"].default
    given = [int(SERVICES_OF_COMPOSE[role.name]["stop_grace_period"].removesuffix("s")) for role in ALL_ROLES]

    assert min(given) >= 2 * used


def test_a_failed_setup_ends_the_start():
    assert SERVICES_OF_COMPOSE["setup"]["restart"] == "no"


def test_no_health_check_starts_a_java_or_a_python():
    checks = {name: service.get("healthcheck", {}).get("test", []) for name, service in SERVICES_OF_COMPOSE.items()}

    assert checks["kafka"][:2] == ["CMD", "bash"]
    assert {tuple(checks[role.name]) for role in ROLES} == {("CMD", "sluice-ready")}
    assert (ROOT / "deploy/ready.sh").read_text().startswith("#!/bin/bash\n")


def test_only_the_users_of_redis_wait_for_it_and_not_for_its_health():
    waiting = {
        name: service["depends_on"]["redis"]
        for name, service in SERVICES_OF_COMPOSE.items()
        if "redis" in service.get("depends_on", {})
    }

    users = ("gateway", "router", "email-worker", "sms-worker", "push-worker", "health")
    assert waiting == {name: {"condition": "service_started"} for name in users}


def test_postgres_is_configured_as_the_launcher_configures_it():
    options = (word.removeprefix("-c").partition("=") for word in SERVICES_OF_COMPOSE["postgres"]["command"][1:])
    places = {"listen_addresses", "unix_socket_directories"}

    assert {name: value for name, _, value in options} == {
        name: value for name, value in postgres.SETTINGS.items() if name not in places
    }


def test_redis_is_configured_as_the_launcher_configures_it():
    words = SERVICES_OF_COMPOSE["redis"]["command"][1:]
    given = dict(zip(words[::2], words[1::2], strict=True))

    assert given == {
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--requirepass": required("SLUICE_REDIS_PASSWORD"),
    }
    config = (ROOT / "tools/launcher/src/sluice_launcher/redis.py").read_text()
    assert re.findall(r"^(appendonly|appendfsync|save) (.*)$", config, re.MULTILINE) == [
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("save", '""'),
    ]


def test_the_roles_wait_for_the_schema_and_the_topics():
    assert (
        SERVICES_OF_COMPOSE["setup"]["command"][-1] == "sluice generate-key && sluice migrate && sluice create-topics"
    )
    for role in ALL_ROLES:
        needed = SERVICES_OF_COMPOSE[role.name]["depends_on"]["setup"]
        assert needed == {"condition": "service_completed_successfully"}, role.name


@pytest.mark.parametrize("overlay", [(), ("-f", "docker-compose.laptop.yml")], ids=["host", "laptop"])
def test_docker_understands_the_files(overlay):
    compose = ["docker", "compose"]
    if not shutil.which("docker") or subprocess.run([*compose, "version"], capture_output=True).returncode:
        pytest.skip("docker compose is not installed")

    names = re.findall(r"\$\{(SLUICE_\w+PASSWORD\w*)", (ROOT / "docker-compose.yml").read_text())
    result = subprocess.run(
        [*compose, "-f", "docker-compose.yml", *overlay, "config", "--quiet"],
        cwd=ROOT,
        env=os.environ | dict.fromkeys(names, "secret"),
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stderr
