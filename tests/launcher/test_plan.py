"""Settings, ports, keys: every error is one sentence before any process starts."""

import os
import socket
from urllib.parse import urlsplit

import pytest

from sluice.runtime.errors import SluiceError
from sluice.runtime.key_file import ensure_key_file
from sluice_launcher.plan import (
    Plan,
    addresses,
    endpoints_of,
    environment,
    make_plan,
    ops_ports,
    owner_environment,
    redact_password,
)
from sluice_launcher.ports import choose_ports
from sluice_launcher.process_info import outgoing_range
from sluice_launcher.process_specs import specs
from sluice_launcher.roles import ALL_ROLES
from sluice_launcher.settings import read_settings

# The ports are taken on a machine where Sluice runs.
ANY_PORT = {f"SLUICE_{name}_PORT": "0" for name in ("POSTGRES", "REDIS", "GATEWAY", "GATEWAY_OPS", "ROUTER")}


def silent(text: str) -> None:
    pass


@pytest.fixture
def taken_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_defaults_are_the_documented_ports(tmp_path):
    ports = read_settings({"SLUICE_DATA_DIR": str(tmp_path)}).ports

    assert (ports["postgres"], ports["redis"], ports["kafka"], ports["gateway"]) == (
        15432,
        16379,
        19092,
        8080,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLUICE_GATEWAY_PORT", "eighty"),
        ("SLUICE_KAFKA_PORT", "70000"),
        ("SLUICE_EMAIL_WORKER_PORT", "-1"),
        ("SLUICE_UNSAFE_FAST_DATABASE", "perhaps"),
    ],
)
def test_an_invalid_setting_is_named(name, value):
    with pytest.raises(SluiceError, match=f"{name} is '{value}'"):
        read_settings({name: value})


def test_two_services_on_one_port_are_an_error():
    with pytest.raises(SluiceError, match="SLUICE_GATEWAY_PORT and SLUICE_ROUTER_PORT are both 9000"):
        read_settings({"SLUICE_GATEWAY_PORT": "9000", "SLUICE_ROUTER_PORT": "9000"})


def test_the_cache_follows_the_desktop_standard():
    assert str(read_settings({"XDG_CACHE_HOME": "/elsewhere"}).cache_dir) == "/elsewhere/sluice"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("SLUICE_POSTGRES_OWNER_DSN", "localhost:5432"),
        ("SLUICE_REDIS_URL", "localhost"),
        ("SLUICE_KAFKA_BOOTSTRAP_SERVERS", "localhost"),
    ],
)
def test_an_invalid_address_is_named(name, address, tmp_path):
    settings = read_settings({name: address, "SLUICE_DATA_DIR": str(tmp_path)})

    with pytest.raises(SluiceError, match=name):
        make_plan(settings, silent, services=[], roles=[])


def test_a_port_in_use_is_named_with_its_setting_and_its_owner(taken_port):
    with pytest.raises(SluiceError) as refused:
        choose_ports({"router": taken_port}, own=[], roles=["router"])

    sentence = str(refused.value)
    assert f"port {taken_port}" in sentence
    assert "SLUICE_ROUTER_PORT" in sentence
    assert f"(pid {os.getpid()})" in sentence


def test_f9_a_port_that_outgoing_connections_may_take_is_named_with_its_setting(tmp_path):
    shown: list[str] = []
    inside = outgoing_range()[-1]
    variables = {"SLUICE_ROUTER_PORT": str(inside), "SLUICE_SMS_WORKER_PORT": "0", "SLUICE_DATA_DIR": str(tmp_path)}

    make_plan(read_settings(variables), shown.append, services=[], roles=["router", "sms-worker"])

    (warning,) = shown
    assert warning.startswith(f"port {inside}, which router has, may be taken by an outgoing connection ")
    assert warning.endswith(f": set one below {outgoing_range()[0]} in SLUICE_ROUTER_PORT")


def test_a_port_of_zero_becomes_a_free_one(taken_port):
    chosen = choose_ports({"gateway": 0, "gateway-ops": 0, "router": 0}, own=[], roles=["gateway", "router"])

    assert len({*chosen.values(), 0, taken_port}) == 5


def test_finding_21_the_ops_endpoints_of_the_gateway_have_a_port_of_their_own(tmp_path):
    settings = read_settings({"SLUICE_DATA_DIR": str(tmp_path), **ANY_PORT})
    plan = make_plan(settings, silent, services=[], roles=["gateway", "router"])

    gateway, router = specs(plan)

    assert ops_ports(plan) == {"gateway": plan.ports["gateway-ops"], "router": plan.ports["router"]}
    assert gateway.environment["SLUICE_OPS_PORT"] == environment(plan)["SLUICE_GATEWAY_OPS_PORT"]
    assert gateway.environment["SLUICE_PORT"] != gateway.environment["SLUICE_OPS_PORT"]
    assert "SLUICE_OPS_PORT" not in router.environment


def test_an_external_service_needs_no_program_and_no_port(tmp_path):
    settings = read_settings(
        {"SLUICE_KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "SLUICE_DATA_DIR": str(tmp_path), "PATH": "/nonexistent"}
    )

    plan = make_plan(settings, silent, services=["kafka"], roles=[])

    assert addresses(plan) == {"kafka": "broker:9092"}
    assert (plan.programs, plan.ports) == ({}, {})


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    settings = read_settings({"SLUICE_DATA_DIR": str(tmp_path / "file" / "data")})

    with pytest.raises(SluiceError, match="SLUICE_DATA_DIR"):
        make_plan(settings, silent, services=[], roles=[])


def test_a_plan_is_read_as_it_was_written(tmp_path):
    settings = read_settings({"SLUICE_DATA_DIR": str(tmp_path), **ANY_PORT})
    plan = make_plan(settings, silent, services=["postgres", "redis"], roles=["gateway"])

    plan.write(tmp_path / "plan.json")

    assert Plan.read(tmp_path / "plan.json") == plan


@pytest.mark.parametrize(
    ("given", "passed_on"), [(None, "127.0.0.0/8,::1/128"), ("", ""), ("10.1.0.0/16", "10.1.0.0/16")]
)
def test_the_roles_may_connect_to_this_machine_unless_the_operator_says_otherwise(
    tmp_path, monkeypatch, given, passed_on
):
    monkeypatch.delenv("SLUICE_OUTGOING_ALLOW", raising=False)
    if given is not None:
        monkeypatch.setenv("SLUICE_OUTGOING_ALLOW", given)

    plan = make_plan(read_settings({"SLUICE_DATA_DIR": str(tmp_path)}), silent, services=(), roles=())

    assert environment(plan)["SLUICE_OUTGOING_ALLOW"] == passed_on


def test_every_role_finds_the_addresses_and_the_key_in_its_environment(tmp_path):
    settings = read_settings({"SLUICE_DATA_DIR": str(tmp_path), **ANY_PORT})
    plan = make_plan(settings, silent, services=["redis"], roles=[])

    found = environment(plan)

    assert found["SLUICE_REDIS_URL"] == f"redis://:{plan.redis_password}@127.0.0.1:{plan.ports['redis']}/0"
    assert found["SLUICE_ENCRYPTION_KEY_FILE"] == str(tmp_path / "credentials.key")


OWNER_DSN = {"SLUICE_POSTGRES_OWNER_DSN": "postgresql://admin:s@db/sluice"}


def test_every_role_has_its_own_login_and_only_a_migration_has_the_owners(tmp_path):
    settings = read_settings({"SLUICE_DATA_DIR": str(tmp_path), **OWNER_DSN})
    plan = make_plan(settings, silent, services=["postgres"], roles=[])

    found = {role.name: environment(plan, role.login).get("SLUICE_POSTGRES_DSN") for role in ALL_ROLES}

    assert {name: dsn and urlsplit(dsn).username for name, dsn in found.items()} == {
        "gateway": "sluice_gateway",
        "router": "sluice_router",
        "email-worker": "sluice_worker",
        "sms-worker": "sluice_worker",
        "push-worker": "sluice_worker",
        "health": "sluice_health",
        "event-worker": "sluice_event_worker",
        "mailbox": None,
    }
    passwords = {urlsplit(dsn).username: urlsplit(dsn).password for dsn in found.values() if dsn}
    assert len({*passwords.values(), "s"}) == len(passwords) + 1
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("postgres-*.password")} == {0o600}
    assert urlsplit(environment(plan)["SLUICE_POSTGRES_DSN"]).username == "sluice_operator"
    assert owner_environment(plan)["SLUICE_POSTGRES_OWNER_DSN"] == OWNER_DSN["SLUICE_POSTGRES_OWNER_DSN"]


def test_a_role_does_not_inherit_the_owners_address_or_the_passwords(tmp_path):
    settings = read_settings({"SLUICE_DATA_DIR": str(tmp_path), **ANY_PORT, **OWNER_DSN})
    plan = make_plan(settings, silent, services=["postgres"], roles=["gateway"])

    (gateway,) = specs(plan)

    assert {gateway.environment[name] for name in owner_environment(plan)} == {""}


def test_a_given_password_is_not_generated(tmp_path):
    given = {"SLUICE_DATA_DIR": str(tmp_path), "SLUICE_POSTGRES_PASSWORD_ROUTER": "chosen", **OWNER_DSN}
    plan = make_plan(read_settings(given), silent, services=["postgres"], roles=[])

    assert plan.postgres_passwords["sluice_router"] == "chosen"


@pytest.mark.parametrize(
    ("service", "address", "places"),
    [
        ("postgres", "postgresql://sluice@db/sluice", [("db", 5432)]),
        ("postgres", "postgresql:///sluice?host=/run/postgresql", []),
        ("redis", "redis://:secret@cache:6400/0", [("cache", 6400)]),
        ("redis", "unix:///run/redis.sock", []),
        ("kafka", "one:9092,two:9093", [("one", 9092), ("two", 9093)]),
    ],
)
def test_the_endpoints_of_an_address(service, address, places):
    assert endpoints_of(service, address) == places


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://sluice:secret@127.0.0.1:15432/sluice", "postgresql://sluice@127.0.0.1:15432/sluice"),
        ("redis://:secret@127.0.0.1:16379/0", "redis://127.0.0.1:16379/0"),
        ("127.0.0.1:19092", "127.0.0.1:19092"),
    ],
)
def test_an_address_is_shown_without_its_password(address, shown):
    assert redact_password(address) == shown


def test_a_key_file_is_made_for_its_owner_alone(tmp_path):
    ensure_key_file(tmp_path / "key")

    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_key_file_is_made_once(tmp_path):
    ensure_key_file(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()

    ensure_key_file(tmp_path / "key")

    assert (tmp_path / "key").read_bytes() == before


def test_a_key_file_that_others_may_read_is_an_error(tmp_path):
    ensure_key_file(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)

    with pytest.raises(SluiceError, match=r"mode 640.*chmod 600"):
        ensure_key_file(tmp_path / "key")


def test_a_key_file_without_a_key_is_an_error(tmp_path):
    (tmp_path / "key").touch(mode=0o600)

    with pytest.raises(SluiceError, match="32 bytes in base64"):
        ensure_key_file(tmp_path / "key")
