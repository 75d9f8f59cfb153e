"""The supervisor over a real Redis, the smallest of its servers: what holds for one holds for all."""

import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest

from sluice.runtime.errors import SluiceError
from sluice_launcher.control import SOCKET, NotRunning, SupervisorClient, supervisor_running
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.process_info import Identity, free_port
from sluice_launcher.teardown import stop_all

PATIENCE = 30.0

STARTER = """
import sys, time
from pathlib import Path
from sluice_launcher.local_stack import Engine
engine = Engine(Path(sys.argv[1]), services=["redis"]).start()
print(engine.control.pid("redis"), engine.control.pid("supervisor"), flush=True)
time.sleep(600)
"""


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def engine(data_dir):
    with LocalStack(data_dir, services=["redis"]) as engine:
        yield engine


def identity(engine, name):
    found = Identity.of(engine.control.pid(name))
    assert found
    return found


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def ask_redis(engine, command):
    place = urlsplit(engine.addresses["redis"])
    with socket.create_connection((place.hostname, place.port), timeout=5) as connection:
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(4096).decode().strip()


def test_status_says_of_each_process_what_was_promised(engine):
    rows = {row["name"]: row for row in engine.control.status()["processes"]}

    assert set(rows) == {"supervisor", "redis"}
    assert set(rows["redis"]) == {
        "name",
        "kind",
        "pid",
        "address",
        "state",
        "memory",
        "restarts",
        "last_exit",
    }
    assert rows["redis"]["state"] == "ready"
    assert rows["redis"]["memory"] > 500_000


def test_a_crash_is_repaired_and_shown(engine):
    before = identity(engine, "redis")

    before.kill(signal.SIGKILL)
    until(lambda: engine.control.process("redis")["restarts"] == 1)
    until(lambda: engine.control.process("redis")["state"] == "ready")

    assert engine.control.process("redis")["last_exit"] == "SIGKILL"
    assert identity(engine, "redis") != before


def test_what_is_stopped_is_gone_until_it_is_started(engine):
    engine.control.stop("redis")
    stopped = engine.control.process("redis")

    engine.control.start("redis")

    assert (stopped["state"], stopped["pid"]) == ("stopped", None)
    assert ask_redis(engine, "PING") == "+PONG"


def test_data_survives_a_restart(engine):
    ask_redis(engine, "SET word kept")

    engine.control.restart("redis")

    assert ask_redis(engine, "EXISTS word") == ":1"


def test_a_wipe_deletes_the_data(engine):
    ask_redis(engine, "SET word lost")

    engine.control.restart("redis", wipe=True)

    assert ask_redis(engine, "EXISTS word") == ":0"


def test_data_survives_down_and_up(data_dir):
    with LocalStack(data_dir, services=["redis"]) as engine:
        ask_redis(engine, "SET word kept")

    with LocalStack(data_dir, services=["redis"]) as engine:
        assert ask_redis(engine, "EXISTS word") == ":1"


def test_an_unknown_process_is_refused(engine):
    with pytest.raises(SluiceError, match="there is no process called toaster"):
        engine.control.stop("toaster")


def test_a_service_of_somebody_else_is_not_ours_to_stop(engine, tmp_path):
    theirs = {"redis": engine.addresses["redis"]}

    with (
        LocalStack(tmp_path / "second", services=["redis"], external=theirs) as second,
        pytest.raises(SluiceError, match="redis is not ours"),
    ):
        second.control.stop("redis")


def test_a_service_of_somebody_else_that_does_not_answer_is_named(data_dir):
    nowhere = {"redis": f"redis://:secret@127.0.0.1:{free_port()}/0"}

    with pytest.raises(SluiceError, match=r"SLUICE_REDIS_URL names redis://127\.0\.0\.1:\d+/0, which is not reachable"):
        LocalStack(data_dir, services=["redis"], external=nowhere).start()


def test_nonsense_is_answered_and_survived(engine, data_dir):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(data_dir / SOCKET))
        connection.sendall(b"\xff\n")
        answer = connection.recv(4096)

    assert b"error" in answer
    assert engine.control.status()["phase"] == "running"


def test_down_ends_everything(engine, data_dir):
    processes = [identity(engine, name) for name in ("supervisor", "redis")]

    stop_all(data_dir)

    assert not any(process.alive() for process in processes)
    with pytest.raises(NotRunning):
        SupervisorClient(data_dir).status()


def test_the_children_of_a_killed_supervisor_end_with_it(engine):
    redis = identity(engine, "redis")

    identity(engine, "supervisor").kill(signal.SIGKILL)

    assert redis.wait_exit(PATIENCE)


def test_down_after_the_supervisor_was_killed_leaves_nothing(engine, data_dir):
    supervisor, redis = identity(engine, "supervisor"), identity(engine, "redis")
    # Stopped, it cannot obey the kernel's signal at once: what is left for `down` to find.
    redis.kill(signal.SIGSTOP)
    supervisor.kill(signal.SIGKILL)
    supervisor.wait_exit(PATIENCE)

    stop_all(data_dir)

    assert not redis.alive()


def test_a_killed_supervisor_does_not_stand_in_the_way_of_the_next(engine, data_dir):
    identity(engine, "supervisor").kill(signal.SIGKILL)
    until(lambda: not supervisor_running(data_dir))

    with LocalStack(data_dir, services=["redis"]) as second:
        assert ask_redis(second, "PING") == "+PONG"


def test_a_second_supervisor_of_the_same_directory_is_refused(engine, data_dir):
    with pytest.raises(SluiceError, match="another supervisor has"):
        LocalStack(data_dir, services=["redis"]).start()

    assert ask_redis(engine, "PING") == "+PONG"


def test_an_engine_ends_with_the_process_that_started_it(data_dir):
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(data_dir)], stdout=subprocess.PIPE, text=True)
    pids = [int(word) for word in starter.stdout.readline().split()]
    processes = [Identity.of(pid) for pid in pids]

    starter.kill()
    starter.communicate()

    assert all(process.wait_exit(PATIENCE) for process in processes)


def test_a_directory_deeper_than_a_socket_name_may_be_long_works(tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)

    with LocalStack(deep, services=["redis"]) as engine:
        assert ask_redis(engine, "PING") == "+PONG"


def test_a_role_that_cannot_start_ends_the_start_with_its_last_words(data_dir, gateway_that):
    gateway_that("raise SystemExit('SLUICE_SOMETHING is not set')")

    with pytest.raises(SluiceError, match=r"gateway ended with exit 1; .* is: SLUICE_SOMETHING is not set"):
        LocalStack(data_dir, services=["redis"], roles=["gateway"]).start()

    assert not supervisor_running(data_dir)


def test_a_role_is_told_where_everything_is(data_dir, gateway_that):
    gateway_that("from os import environ; raise SystemExit('{SLUICE_ROLE} {SLUICE_REDIS_URL}'.format(**environ))")

    with pytest.raises(SluiceError, match=r"is: gateway redis://127\.0\.0\.1:\d+/0"):
        LocalStack(data_dir, services=["redis"], roles=["gateway"]).start()
