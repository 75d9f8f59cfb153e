"""The state file: orphans are killed, and no other process."""

import subprocess
import sys
from dataclasses import replace

import pytest

from sluice_launcher import state
from sluice_launcher.control import SOCKET
from sluice_launcher.process_info import Identity
from sluice_launcher.state import FILE, kill_orphans, read_state, write_state


@pytest.fixture
def data_dir(tmp_path):
    (tmp_path / SOCKET).parent.mkdir()
    return tmp_path


@pytest.fixture
def start():
    """Starts a line of Python, returns when it has printed a line, and stops it with the test."""
    started = []

    def run(first="pass"):
        program = f"import signal, sys, time; {first}; print('here', flush=True); time.sleep(600)"
        started.append(process := subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE))
        process.stdout.readline()
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def stranger(start):
    return start()


def test_orphans_are_killed(data_dir, stranger):
    write_state(data_dir, {"redis": Identity.of(stranger.pid)})

    ended = kill_orphans(data_dir)

    assert ended == ["redis"]
    assert stranger.wait(5) == -9


def test_an_orphaned_postgres_gets_a_signal_at_which_it_stops_its_backends(data_dir, start):
    postgres = start("signal.signal(signal.SIGQUIT, lambda *_: sys.exit(7))")
    write_state(data_dir, {"postgres": Identity.of(postgres.pid)})

    kill_orphans(data_dir)

    assert postgres.wait(5) == 7


def test_a_process_that_ignores_the_signal_is_killed(data_dir, start, monkeypatch):
    monkeypatch.setattr(state, "GRACE_SECONDS", 0.2)
    postgres = start("signal.signal(signal.SIGQUIT, signal.SIG_IGN)")
    write_state(data_dir, {"postgres": Identity.of(postgres.pid)})

    kill_orphans(data_dir)

    assert postgres.wait(5) == -9


def test_another_process_with_the_same_pid_is_not_killed(data_dir, stranger):
    former = replace(Identity.of(stranger.pid), started=1)
    write_state(data_dir, {"redis": former})

    ended = kill_orphans(data_dir)

    assert ended == []
    assert stranger.poll() is None


def test_a_pid_of_before_the_reboot_is_not_killed(data_dir, stranger):
    former = replace(Identity.of(stranger.pid), boot="another")
    write_state(data_dir, {"redis": former})

    assert kill_orphans(data_dir) == []


@pytest.mark.parametrize("written", ["", "{", '{"redis": 12}', '{"redis": {"pid": 1}}'])
def test_an_unreadable_state_is_empty(data_dir, written):
    (data_dir / FILE).write_text(written)

    assert read_state(data_dir) == {}
