"""The supervisor with a real Redis, its smallest server."""

import signal
import socket
import sys
import time
from urllib.parse import urlsplit

import pytest

from sluice.runtime.errors import SluiceError
from sluice_launcher.control import SOCKET, NotRunning, SupervisorClient, short_path, supervisor_running
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.process_info import Identity, free_port
from sluice_launcher.teardown import stop_all
from tests.programs import program

pytestmark = pytest.mark.server

PATIENCE = 30.0

STARTER = """
import sys, time
from pathlib import Path
from sluice_launcher.local_stack import Engine
stack = Engine(Path(sys.argv[1]), services=["redis"]).start()
print(stack.control.pid("redis"), stack.control.pid("supervisor"), flush=True)
time.sleep(600)
"""


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def stack(data_dir):
    with LocalStack(data_dir, services=["redis"]) as stack:
        yield stack


def identity(stack, name):
    found = Identity.of(stack.control.pid(name))
    assert found
    return found


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def ask_redis(stack, command):
    place = urlsplit(stack.addresses["redis"])
    with socket.create_connection((place.hostname, place.port), timeout=5) as connection:
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(4096).decode().strip()


def test_status_has_a_row_for_each_process(stack):
    rows = {row["name"]: row for row in stack.control.status()["processes"]}

    assert set(rows) == {"supervisor", "redis"}
    assert set(rows["redis"]) == {
        "name",
        "kind",
        "pid",
        "address",
        "ops",
        "state",
        "memory",
        "restarts",
        "last_exit",
    }
    assert rows["redis"]["state"] == "ready"
    assert rows["redis"]["memory"] > 500_000


def test_a_crash_is_shown_and_followed_by_a_restart(stack):
    before = identity(stack, "redis")

    before.kill(signal.SIGKILL)
    until(lambda: stack.control.process("redis")["restarts"] == 1)
    until(lambda: stack.control.process("redis")["state"] == "ready")

    assert stack.control.process("redis")["last_exit"] == "SIGKILL"
    assert identity(stack, "redis") != before


def test_a_stopped_process_stays_stopped_until_it_is_started(stack):
    stack.control.stop("redis")
    stopped = stack.control.process("redis")

    stack.control.start("redis")

    assert (stopped["state"], stopped["pid"]) == ("stopped", None)
    assert ask_redis(stack, "PING") == "+PONG"


def test_data_survives_a_restart(stack):
    ask_redis(stack, "SET word kept")

    stack.control.restart("redis")

    assert ask_redis(stack, "EXISTS word") == ":1"


def test_a_wipe_deletes_the_data(stack):
    ask_redis(stack, "SET word lost")

    stack.control.restart("redis", wipe=True)

    assert ask_redis(stack, "EXISTS word") == ":0"


def test_data_survives_down_and_up(data_dir):
    with LocalStack(data_dir, services=["redis"]) as stack:
        ask_redis(stack, "SET word kept")

    with LocalStack(data_dir, services=["redis"]) as stack:
        assert ask_redis(stack, "EXISTS word") == ":1"


def test_an_unknown_process_is_an_error(stack):
    with pytest.raises(SluiceError, match="there is no process called toaster"):
        stack.control.stop("toaster")


def test_an_external_service_cannot_be_stopped(stack, tmp_path):
    theirs = {"redis": stack.addresses["redis"]}

    with (
        LocalStack(tmp_path / "second", services=["redis"], external=theirs) as second,
        pytest.raises(SluiceError, match="redis is external"),
    ):
        second.control.stop("redis")


def test_an_unreachable_external_service_is_named(data_dir):
    nowhere = {"redis": f"redis://:secret@127.0.0.1:{free_port()}/0"}

    with pytest.raises(SluiceError, match=r"SLUICE_REDIS_URL names redis://127\.0\.0\.1:\d+/0, which is not reachable"):
        LocalStack(data_dir, services=["redis"], external=nowhere).start()


def test_an_invalid_command_is_an_error(stack, data_dir):
    with short_path(data_dir / SOCKET) as name, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(name)
        connection.sendall(b"\xff\n")
        answer = connection.recv(4096)

    assert b"error" in answer
    assert stack.control.status()["phase"] == "running"


def test_down_ends_everything(stack, data_dir):
    processes = [identity(stack, name) for name in ("supervisor", "redis")]

    stop_all(data_dir)

    assert not any(process.alive() for process in processes)
    with pytest.raises(NotRunning):
        SupervisorClient(data_dir).status()


def test_the_children_of_a_killed_supervisor_end_with_it(stack):
    redis = identity(stack, "redis")

    identity(stack, "supervisor").kill(signal.SIGKILL)

    assert redis.wait_exit(PATIENCE)


def test_down_after_the_supervisor_was_killed_leaves_nothing(stack, data_dir):
    supervisor, redis = identity(stack, "supervisor"), identity(stack, "redis")
    # Paused, it cannot end at the kernel's signal: `down` finds it.
    redis.kill(signal.SIGSTOP)
    supervisor.kill(signal.SIGKILL)
    supervisor.wait_exit(PATIENCE)

    stop_all(data_dir)

    assert not redis.alive()


def test_a_supervisor_starts_after_another_was_killed(stack, data_dir):
    identity(stack, "supervisor").kill(signal.SIGKILL)
    until(lambda: not supervisor_running(data_dir))

    with LocalStack(data_dir, services=["redis"]) as second:
        assert ask_redis(second, "PING") == "+PONG"


def test_a_second_supervisor_of_the_same_directory_is_an_error(stack, data_dir):
    with pytest.raises(SluiceError, match="another supervisor uses"):
        LocalStack(data_dir, services=["redis"]).start()

    assert ask_redis(stack, "PING") == "+PONG"


def test_a_local_stack_ends_with_the_process_that_started_it(data_dir):
    with program([sys.executable, "-c", STARTER, str(data_dir)]) as starter:
        pids = [int(word) for word in starter.stdout.readline().split()]
        processes = [Identity.of(pid) for pid in pids]

    assert all(process.wait_exit(PATIENCE) for process in processes)


def test_a_directory_may_be_longer_than_a_socket_name(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)

    with LocalStack(deep, services=["redis"]) as stack:
        assert ask_redis(stack, "PING") == "+PONG"


def test_a_role_that_cannot_start_fails_the_start_with_its_last_line(data_dir, gateway_that):
    gateway_that("raise SystemExit('SLUICE_SOMETHING is not set')")

    with pytest.raises(SluiceError, match=r"gateway ended with exit 1; .* is: SLUICE_SOMETHING is not set"):
        LocalStack(data_dir, services=["redis"], roles=["gateway"]).start()

    assert not supervisor_running(data_dir)


def test_the_environment_of_a_role_has_all_addresses(data_dir, gateway_that):
    gateway_that("from os import environ; raise SystemExit('{SLUICE_ROLE} {SLUICE_REDIS_URL}'.format(**environ))")

    with pytest.raises(SluiceError, match=r"is: gateway redis://127\.0\.0\.1:\d+/0"):
        LocalStack(data_dir, services=["redis"], roles=["gateway"]).start()
