"""F2: a full disk stops what cannot write; when there is space again, everything that stopped is started again."""

import os
import signal
import time
from typing import Any

import pytest

from sluice_launcher.commands import _already_up
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.process_info import Identity
from sluice_launcher.state import FILE, read_state
from sluice_launcher.supervisor import Supervisor
from tests import disks
from tests.launcher.test_managed_process import SLEEPER, managed, until  # noqa: F401  a fixture

SIZE = "24m"  # redis needs a few megabytes


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own that a test can fill; needs root."""
    with disks.small_disk(tmp_path / "disk", SIZE) as disk:
        yield disk


def wait_for(condition, within=40.0):
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.server
def test_f2_what_dies_on_a_full_disk_runs_again(small_disk):
    with LocalStack(small_disk / "data", services=["redis"]) as stack:
        redis = Identity.of(stack.control.pid("redis"))
        ballast = disks.fill(small_disk)
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "more").write_text("x")
        redis.kill(signal.SIGKILL)
        wait_for(lambda: stack.control.process("redis")["restarts"] >= 1)

        ballast.unlink()
        wait_for(lambda: stack.control.process("redis")["state"] == "ready")

        assert Identity.of(stack.control.pid("redis")) != redis
        assert stack.control.status()["phase"] == "running"


@pytest.mark.server
def test_f2_up_starts_what_has_crashed(tmp_path):
    with LocalStack(tmp_path / "data", services=["redis"]) as stack:
        configuration = tmp_path / "data/run/redis.conf"
        configuration.unlink()
        configuration.mkdir()  # it cannot be written
        Identity.of(stack.control.pid("redis")).kill(signal.SIGKILL)
        wait_for(lambda: stack.control.process("redis")["restarts"] >= 3)  # the next pause takes seconds
        configuration.rmdir()
        lines: list[str] = []

        progress: Any = lines.append
        assert _already_up(stack.control, progress) == 0

        assert lines == ["redis was crashed and is started again", "already running, and everything is ready"]
        assert stack.control.process("redis")["state"] == "ready"


async def test_f2_a_state_file_that_cannot_be_written_ends_nothing(managed, monkeypatch, tmp_path):  # noqa: F811
    supervisor = Supervisor.__new__(Supervisor)
    supervisor.plan = type("Plan", (), {"data_dir": tmp_path})()
    (tmp_path / FILE).parent.mkdir()
    async with managed(SLEEPER) as subject:
        supervisor.processes = {"subject": subject}
        subject._changed = supervisor._write_state
        subject.start()
        await subject.wait_ready()
        monkeypatch.setattr("sluice_launcher.supervisor.write_state", no_space)

        os.kill(subject.identity.pid, signal.SIGKILL)
        await until(lambda: subject.restarts == 1 and subject.identity is not None)
        await subject.wait_ready()
        stale = supervisor._state_is_stale
        monkeypatch.undo()
        supervisor._write_state()

        assert stale
        assert read_state(tmp_path) == {"subject": subject.identity}


def no_space(*_):
    raise OSError(28, "No space left on device")
