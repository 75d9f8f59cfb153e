"""Several processes of a role: names, limits, and commands on a running installation, with a stand-in for the role."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from sluice.bus.topics import Topic
from sluice.runtime.errors import SluiceError
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.process_info import Identity
from sluice_launcher.roles import ROLES
from sluice_launcher.scaling import (
    MAX_PROCESSES,
    check_connections,
    check_partitions,
    consumed_topics,
    parse_scale,
    read_scale,
    role_of,
    write_scale,
)

STAND_IN = """
import http.server, os

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *words):
        pass

print("process on", os.environ["SLUICE_PORT"], "as", os.environ["SLUICE_ROLE"], flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SLUICE_PORT"])), Ready).serve_forever()
"""


# -- numbers and names -------------------------------------------------------------------------------------------------


def test_numbers_are_read():
    assert parse_scale(["email-worker=3", "gateway=2"]) == {"email-worker": 3, "gateway": 2}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("email-worker", "must be ROLE=NUMBER, such as email-worker=3"),
        ("email-worker=", "must be ROLE=NUMBER"),
        ("email-worker=-1", "must be ROLE=NUMBER"),
        ("email-worker=two", "must be ROLE=NUMBER"),
        ("email-worker=٣", "must be ROLE=NUMBER"),
        ("email-worker=2.5", "must be ROLE=NUMBER"),
        ("=2", "is not a role that can be scaled; there are gateway, router"),
        ("", "is not a role that can be scaled"),
        ("kafka=2", "kafka is not a role"),
        ("email-worker-2=2", "email-worker-2 is not a role"),
        ("email-worker=0", "`sluice stop email-worker` stops it"),
        (f"router={MAX_PROCESSES + 1}", f"at most {MAX_PROCESSES} processes"),
        ("mailbox=2", "mailbox runs as one process"),
    ],
)
def test_what_is_no_number_of_a_role_is_named(text, error):
    with pytest.raises(SluiceError, match=error):
        parse_scale([text])


def test_two_numbers_of_one_role_are_an_error():
    with pytest.raises(SluiceError, match="router has two numbers, 2 and 3"):
        parse_scale(["router=2", "router=3"])


@pytest.mark.parametrize(
    ("process", "role"),
    [
        ("email-worker", ("email-worker", 1)),
        ("email-worker-1", ("email-worker", 1)),
        ("email-worker-12", ("email-worker", 12)),
        ("email-worker-02", ("email-worker-02", 1)),
        ("kafka", ("kafka", 1)),
        ("kafka-2", ("kafka-2", 1)),
    ],
)
def test_a_process_has_a_role_and_a_number(process, role):
    assert role_of(process) == role


def test_more_consumers_than_partitions_are_an_error_with_the_command_that_adds_some():
    with pytest.raises(SluiceError, match=r"deliveries\.email has 8.*`sluice partitions deliveries\.email=9`"):
        check_partitions({"email-worker": 9}, {"deliveries.email": 8})


def test_the_topic_with_most_partitions_bounds_a_role_with_several():
    partitions = dict.fromkeys(consumed_topics("sms-worker"), 8) | {"deliveries.sms": 12}

    check_partitions({"sms-worker": 12}, partitions)
    with pytest.raises(SluiceError, match=r"deliveries\.sms has 12, deliveries\.whatsapp has 8"):
        check_partitions({"sms-worker": 13}, partitions)


def test_every_role_but_the_gateway_is_bounded_by_topics():
    bounded = {each.name for each in ROLES if consumed_topics(each.name)}

    assert bounded == {each.name for each in ROLES} - {"gateway"}
    assert consumed_topics("email-worker") == [Topic.EMAIL]


def test_pools_must_fit_into_postgresql():
    roles = [each.name for each in ROLES]

    check_connections({"email-worker": 15}, roles, 8)  # 20 processes
    with pytest.raises(
        SluiceError, match=r"21 processes with 9 PostgreSQL connections each need 189, and there are 180"
    ):
        check_connections({"email-worker": 16}, roles, 8)


def test_the_numbers_are_kept_for_each_role(tmp_path):
    write_scale(tmp_path, {"email-worker": 3, "router": 2})
    write_scale(tmp_path, {"router": 1})

    assert read_scale(tmp_path) == {"email-worker": 3}


@pytest.mark.parametrize("text", ["{", "[]", '{"kafka": 3}', '{"email-worker": -1}', '{"email-worker": "many"}'])
def test_an_invalid_file_is_named(tmp_path, text):
    (tmp_path / "scale.json").write_text(text)

    with pytest.raises(SluiceError, match=r"scale\.json cannot be used .* delete it"):
        read_scale(tmp_path)


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Replaces the email-worker by a program that is ready at once."""
    package = tmp_path / "stand-in" / "email_worker"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=os.pathsep)
    return package / "__main__.py"


@pytest.fixture
def command(tmp_path, stand_in):
    """Runs `sluice` with a data directory of its own, the email-worker alone, and no service."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")},
        "SLUICE_DATA_DIR": str(tmp_path / "data"),
        "SLUICE_EMAIL_WORKER_PORT": "0",
        "SLUICE_UNSAFE_FAST_DATABASE": "1",
    }

    def run(*words):
        words = [sys.executable, "-m", "sluice_cli.main", *words]
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)

    yield run
    run("down")


def up(command, *words):
    answer = command("up", "--services", "", "--roles", "email-worker", *words)
    assert answer.returncode == 0, answer.stderr


def rows(command):
    processes = json.loads(command("status", "--json").stdout)["processes"]
    return {row["name"]: row for row in processes if row["kind"] == "role"}


@pytest.mark.server
def test_up_scales_and_status_logs_and_down_name_each_process(command):
    up(command, "--scale", "email-worker=3")

    names = ["email-worker", "email-worker-2", "email-worker-3"]
    shown = rows(command)
    logged = command("logs", "email-worker").stdout.splitlines()
    second = command("logs", "email-worker-2").stdout
    ended = command("down").stdout

    assert list(shown) == names
    assert {row["state"] for row in shown.values()} == {"ready"}
    assert len({row["pid"] for row in shown.values()}) == len({row["address"] for row in shown.values()}) == 3
    assert [line.split(" | ")[0].strip() for line in logged] == names
    assert second == f"process on {shown['email-worker-2']['address'].rpartition(':')[2]} as email-worker\n"
    assert ended == f"ended: supervisor, {', '.join(names)}\n"


@pytest.mark.server
def test_a_running_installation_is_scaled_and_the_processes_that_stay_are_not_touched(command):
    up(command)
    first = rows(command)["email-worker"]["pid"]

    more = command("scale", "email-worker=3")
    three = rows(command)
    fewer = command("scale", "email-worker=2")
    two = rows(command)

    assert (more.stdout, fewer.stdout) == ("email-worker 3\n", "email-worker 2\n")
    assert list(three) == ["email-worker", "email-worker-2", "email-worker-3"]
    assert [(name, row["pid"]) for name, row in two.items()] == [
        (name, row["pid"]) for name, row in three.items() if name != "email-worker-3"
    ]
    assert two["email-worker"]["pid"] == first
    assert command("scale").stdout == "email-worker 2\n"


@pytest.mark.server
def test_the_numbers_outlive_the_supervisor_until_others_are_given(command):
    up(command, "--scale", "email-worker=3")
    Identity.of(json.loads(command("status", "--json").stdout)["processes"][0]["pid"]).kill(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while command("status").returncode == 0 and time.monotonic() < deadline:
        time.sleep(0.1)

    up(command)
    after_a_kill = list(rows(command))
    command("down")
    up(command, "--scale", "email-worker=1")

    assert after_a_kill == ["email-worker", "email-worker-2", "email-worker-3"]
    assert list(rows(command)) == ["email-worker"]


@pytest.mark.server
def test_up_scales_what_runs_already(command):
    up(command)

    up(command, "--scale", "email-worker=2")

    assert list(rows(command)) == ["email-worker", "email-worker-2"]


@pytest.mark.server
def test_a_killed_process_is_started_again(command):
    up(command, "--scale", "email-worker=2")
    Identity.of(rows(command)["email-worker-2"]["pid"]).kill(signal.SIGKILL)

    deadline = time.monotonic() + 30
    while (row := rows(command)["email-worker-2"])["restarts"] != 1 or row["state"] != "ready":
        assert time.monotonic() < deadline

    assert row["last_exit"] == "SIGKILL"


@pytest.mark.server
def test_the_name_of_a_role_means_all_of_its_processes_and_a_number_one(command):
    up(command, "--scale", "email-worker=3")

    def states():
        return [row["state"] for row in rows(command).values()]

    command("stop", "email-worker-1")
    without_first = states()
    command("stop", "email-worker")
    stopped = states()
    command("start", "email-worker-3")
    third = states()
    command("start", "email-worker")

    assert without_first == ["stopped", "ready", "ready"]
    assert stopped == ["stopped"] * 3
    assert third == ["stopped", "stopped", "ready"]
    assert states() == ["ready"] * 3


@pytest.mark.server
@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("scale", "router=2"), "router cannot be scaled: it does not run here; there are email-worker"),
        (("scale", "email-worker=0"), "email-worker=0: at least one process"),
        (("stop", "email-worker-4"), "there is no process called email-worker-4: there are email-worker"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_changes_nothing(command, words, error):
    up(command)
    before = rows(command)

    answer = command(*words)

    assert (answer.returncode, answer.stderr.count("\n")) == (1, 1)
    assert answer.stderr.startswith(f"sluice: {error}")
    assert {name: row["pid"] for name, row in rows(command).items()} == {
        name: row["pid"] for name, row in before.items()
    }


@pytest.mark.server
def test_a_process_that_cannot_start_leaves_the_number_as_it_was(command, stand_in):
    up(command)
    stand_in.write_text("raise SystemExit('no licence')")

    answer = command("scale", "email-worker=2")

    assert answer.returncode == 1
    assert "email-worker-2 ended with exit 1" in answer.stderr
    assert answer.stderr.endswith("is: no licence\n")
    assert list(rows(command)) == ["email-worker"]
    assert command("scale").stdout == "email-worker 1\n"


@pytest.mark.server
def test_a_local_stack_is_scaled(tmp_path, stand_in):
    with LocalStack(tmp_path / "data", services=[], roles=["email-worker"], scale={"email-worker": 2}) as stack:
        assert set(stack.addresses) == {"email-worker", "email-worker-2"}
        assert stack.ops_addresses == stack.addresses
