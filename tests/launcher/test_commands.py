"""The command line: each error is one sentence on standard error, without a traceback, and an exit code."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from sluice_launcher.control import supervisor_running
from sluice_launcher.process_info import Identity, free_port
from tests.programs import program

pytestmark = pytest.mark.server

TIMEOUT = 30.0


@pytest.fixture
def command(tmp_path):
    """Runs `sluice` with a data directory of its own and no roles; stops what it started."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")},
        "SLUICE_DATA_DIR": str(tmp_path / "data"),
        "SLUICE_REDIS_PORT": str(free_port()),
        "SLUICE_UNSAFE_FAST_DATABASE": "1",
    }

    def run(*words, **changes):
        program = [sys.executable, "-m", "sluice_cli.main", *words]
        return subprocess.run(
            program, env=environment | changes, capture_output=True, text=True, timeout=60, check=False
        )

    run.environment = environment
    yield run
    run("down")


def up(command):
    answer = command("up", "--services", "redis", "--roles", "")
    assert answer.returncode == 0, answer.stderr


def test_help_names_every_command(command):
    answer = command("--help")

    shown = {line.split()[0] for line in answer.stdout.splitlines() if line.startswith("    ")}
    launcher = {"up", "down", "status", "logs", "restart", "stop", "start", "env"}
    assert (
        launcher
        | {
            *("generate-key", "rotate-encryption-key", "migrate", "create-topics", "send", "publish", "captured"),
            *("message", "demo", "verify", "simulate"),
        }
        <= shown
    )


def test_the_command_line_is_built_without_heavy_libraries():
    program = "import sys, sluice_cli.main; sluice_cli.main.build_parser(); print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert "sluice_cli.send" in loaded
    assert set(loaded) & {"pydantic", "asyncpg", "aiokafka", "aiohttp", "fastapi", "cryptography"} == set()


WITHOUT_LAUNCHER = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "sluice_launcher":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from sluice_cli import main
installed = main.entry_points
main.entry_points = lambda group: [each for each in installed(group=group) if "launcher" not in each.value]
sys.exit(main.main())
"""


def test_the_command_line_works_without_the_launcher_as_in_the_image(command, tmp_path):
    def run(*words):
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_LAUNCHER, *words],
            env=command.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    assert "up" not in {line.strip().partition(" ")[0] for line in run("--help").stdout.splitlines()}
    assert run("generate-key").stdout == f"the encryption key is in {tmp_path / 'data/credentials.key'}\n"
    assert run("migrate").stderr.startswith("sluice: SLUICE_POSTGRES_OWNER_DSN is not set")
    assert run("verify").stderr == "sluice: SLUICE_POSTGRES_DSN is not set\n"


def test_the_demo_commits_nothing_when_its_keys_cannot_be_stored(command, tmp_path):
    (tmp_path / "file").touch()
    answer = command("demo", SLUICE_DATA_DIR=str(tmp_path / "file"))

    assert answer.returncode == 1
    assert answer.stderr.startswith(f"sluice: {tmp_path / 'file'}")
    assert "Traceback" not in answer.stderr


def test_generate_key_creates_the_key_once(command, tmp_path):
    command("generate-key")
    key = (tmp_path / "data/credentials.key").read_bytes()

    assert command("generate-key").returncode == 0
    assert (tmp_path / "data/credentials.key").read_bytes() == key


@pytest.mark.parametrize("words", [("status",), ("restart", "kafka"), ("env",)])
def test_a_command_on_a_running_system_reports_that_there_is_none(command, words):
    answer = command(*words)

    assert answer.returncode == 1
    assert answer.stderr == "sluice: nothing is running: `sluice up` starts everything\n"


def test_down_without_a_system_is_no_error(command):
    answer = command("down")

    assert (answer.returncode, answer.stdout) == (0, "nothing was running\n")


def test_a_port_in_use_is_one_sentence(command):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        answer = command("up", "--services", "redis", "--roles", "", SLUICE_REDIS_PORT=str(port))

    assert answer.returncode == 1
    assert answer.stderr.startswith(f"sluice: port {port}, which redis needs, is in use by ")
    assert answer.stderr.count("\n") == 1


def test_a_wrong_key_file_is_one_sentence(command, tmp_path):
    (tmp_path / "key").write_text("no key")
    (tmp_path / "key").chmod(0o600)

    answer = command("up", "--services", "redis", "--roles", "", SLUICE_ENCRYPTION_KEY_FILE=str(tmp_path / "key"))

    assert answer.returncode == 1
    assert answer.stderr.endswith("is not an encryption key: it must contain 32 bytes in base64\n")
    assert answer.stderr.count("\n") == 1


def test_a_java_that_is_too_old_is_one_sentence(command, tmp_path):
    (tmp_path / "java").write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    (tmp_path / "java").chmod(0o755)

    answer = command("up", "--services", "kafka", "--roles", "", SLUICE_JAVA=str(tmp_path / "java"))

    assert answer.returncode == 1
    assert answer.stderr == "sluice: SLUICE_JAVA names Java 11, which is too old: Kafka needs 17 or newer\n"


def test_jars_that_cannot_be_fetched_are_one_sentence(command, tmp_path):
    unreachable = f"http://127.0.0.1:{free_port()}/maven"

    answer = command(
        "up",
        "--services",
        "kafka",
        "--roles",
        "",
        SLUICE_MAVEN_MIRROR=unreachable,
        SLUICE_CACHE_DIR=str(tmp_path / "cache"),
    )

    assert answer.returncode == 1
    assert answer.stderr.startswith("sluice: Kafka's jar ")
    assert answer.stderr.count("\n") == 1


def test_status_is_a_table(command):
    up(command)

    heading, *rows = command("status").stdout.splitlines()

    assert heading.split() == ["name", "pid", "address", "state", "memory", "restarts", "last", "exit"]
    assert [row.split()[0] for row in rows] == ["supervisor", "redis"]


def test_a_second_up_reports_that_it_runs(command):
    up(command)
    before = command("status", "--json").stdout

    answer = command("up")

    assert answer.returncode == 0
    assert "already running" in answer.stdout
    pids = [
        [row["pid"] for row in json.loads(text)["processes"]] for text in (before, command("status", "--json").stdout)
    ]
    assert pids[0] == pids[1]


def test_a_second_up_starts_a_stopped_process(command):
    up(command)
    command("stop", "redis")

    answer = command("up")

    assert "redis was stopped and is started again" in answer.stdout


def test_logs_are_shown_by_name(command):
    up(command)

    assert "Ready to accept connections" in command("logs", "redis").stdout


def test_an_unknown_log_is_an_error_with_the_known_names(command):
    up(command)

    answer = command("logs", "toaster")

    assert answer.returncode == 1
    assert "there are: redis, supervisor" in answer.stderr


def test_the_environment_of_the_system_is_printed_for_a_shell(command):
    up(command)

    assert (
        f"export SLUICE_REDIS_URL=redis://127.0.0.1:{command.environment['SLUICE_REDIS_PORT']}/0"
        in command("env").stdout
    )


def test_ctrl_c_in_the_foreground_ends_everything(command, tmp_path):
    words = [sys.executable, "-m", "sluice_cli.main", "up", "--foreground", "--services", "redis", "--roles", ""]
    with program(words, command.environment) as foreground:
        assert any("all services are up" in line for line in iter(foreground.stdout.readline, ""))
        redis = redis_of(command)

        foreground.send_signal(signal.SIGINT)
        foreground.communicate(timeout=TIMEOUT)

    assert foreground.returncode == 0
    assert not redis.alive()


def test_ctrl_c_during_the_start_ends_what_was_started(command, tmp_path, gateway_that):
    gateway_that("import time; time.sleep(600)")
    environment = command.environment | {"PYTHONPATH": os.environ["PYTHONPATH"], "SLUICE_GATEWAY_PORT": "0"}
    words = [sys.executable, "-m", "sluice_cli.main", "up", "--services", "redis", "--roles", "gateway"]
    with program(words, environment) as starting:
        assert any("redis" in line for line in iter(starting.stdout.readline, ""))
        redis = redis_of(command)

        starting.send_signal(signal.SIGINT)
        starting.communicate(timeout=TIMEOUT)

    assert starting.returncode == 130
    assert not redis.alive()
    assert not supervisor_running(tmp_path / "data")


def redis_of(command):
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        answer = command("status", "--json")
        rows = json.loads(answer.stdout)["processes"] if answer.returncode == 0 else []
        for row in rows:
            if row["name"] == "redis" and row["pid"]:
                found = Identity.of(row["pid"])
                assert found
                return found
    raise AssertionError("redis did not start")
