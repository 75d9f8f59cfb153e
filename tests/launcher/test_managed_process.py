"""A managed process: restarted after a crash, given up during a failing start, stopped when requested."""

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sluice.runtime.errors import SluiceError
from sluice_launcher import managed_process
from sluice_launcher.managed_process import ManagedProcess, ProcessState
from sluice_launcher.process_spec import ProcessSpec

SLEEPER = "import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEPER}"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEPER!r}])"


@pytest.fixture
def managed(tmp_path, monkeypatch):
    """Manages a line of Python; stops it with the test."""
    monkeypatch.setattr(managed_process, "HEALTH_PROBE_SECONDS", 0.5)

    @asynccontextmanager
    async def keep(program, **changes):
        defaults: dict[str, Any] = {
            "name": "subject",
            "kind": "role",
            "command": [sys.executable, "-c", program],
            "address": "nowhere",
            "probe": always_ready,
            "stop_seconds": 5.0,
        }
        subject = ManagedProcess(ProcessSpec(**defaults | changes), tmp_path, lambda: None, extra_environment={})
        try:
            yield subject
        finally:
            await subject.stop()

    return keep


async def always_ready() -> bool:
    return True


async def never_ready() -> bool:
    return False


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_crashed_process_is_restarted(managed):
    async with managed(SLEEPER) as subject:
        subject.start()
        await subject.wait_ready()
        first = subject.identity

        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: subject.restarts == 1 and subject.state is ProcessState.READY)

        assert subject.identity != first
        assert subject.last_exit == "SIGKILL"


async def test_a_stopped_process_stays_stopped(managed):
    async with managed(SLEEPER) as subject:
        subject.start()
        await subject.wait_ready()
        identity = subject.identity

        await subject.stop()

        assert (subject.state, subject.restarts, identity.alive()) == (ProcessState.STOPPED, 0, False)


async def test_a_stopped_process_can_be_started_again(managed):
    async with managed(SLEEPER) as subject:
        subject.start()
        await subject.wait_ready()
        await subject.stop()

        subject.start()
        await subject.wait_ready()

        assert subject.identity.alive()


async def test_repeated_crashes_are_an_error_with_the_last_line(managed):
    async with managed("import sys; sys.exit('I cannot work like this')", probe=never_ready) as subject:
        subject.start()

        with pytest.raises(SluiceError, match=r"subject ended with exit 1; .*subject.log is: I cannot work like this"):
            await subject.wait_ready()


async def test_a_process_that_does_not_become_ready_is_an_error(managed):
    async with managed(SLEEPER, probe=never_ready, ready_seconds=0.3) as subject:
        subject.start()

        with pytest.raises(SluiceError, match="subject does not become ready"):
            await subject.wait_ready()


async def test_a_process_that_crashed_before_states_why_it_is_not_ready(managed):
    ready = True

    async def probe():
        return ready

    async def explain():
        return "Kafka has not answered for 7 s"

    async with managed(SLEEPER, probe=probe, explain=explain, ready_seconds=3) as subject:
        subject.start()
        await subject.wait_ready()
        ready = False
        os.kill(subject.identity.pid, signal.SIGKILL)
        await until(lambda: subject.restarts == 1)

        with pytest.raises(SluiceError, match="subject does not become ready: Kafka has not answered for 7 s"):
            await subject.wait_ready()


async def test_a_missing_program_is_an_error(managed):
    async with managed(SLEEPER, command=["/nonexistent/program"], probe=never_ready) as subject:
        subject.start()

        with pytest.raises(SluiceError, match="/nonexistent/program: No such file or directory"):
            await subject.wait_ready()


async def test_a_process_that_ignores_the_signal_is_killed(managed, tmp_path):
    async with managed(STUBBORN, stop_seconds=0.2) as subject:
        subject.start()
        await subject.wait_ready()
        await until(lambda: "deaf" in (tmp_path / "subject.log").read_text())

        await subject.stop()

        assert subject.last_exit == "SIGKILL"


async def test_the_children_of_a_process_end_with_it(managed):
    from sluice_launcher.process_info import Identity, process_tree

    async with managed(PARENT) as subject:
        subject.start()
        await subject.wait_ready()
        await until(lambda: len(process_tree(subject.identity.pid)) == 2)
        child = Identity.of(process_tree(subject.identity.pid)[1])

        await subject.stop()

        assert child.wait_exit(5)


async def test_a_stop_ends_the_pause_before_a_restart(managed):
    async with managed("raise SystemExit(3)") as subject:
        subject.start()
        await until(lambda: subject.state is ProcessState.CRASHED)

        await subject.stop()

        assert subject.state is ProcessState.STOPPED


async def test_f4_the_state_follows_readiness_while_the_process_runs(managed):
    ready = True

    async def probe():
        return ready

    async with managed(SLEEPER, probe=probe) as subject:
        subject.start()
        await subject.wait_ready()
        ready = False
        await until(lambda: subject.state is ProcessState.NOT_READY)
        ready = True
        await until(lambda: subject.state is ProcessState.READY)

        assert subject.restarts == 0


async def test_f4_a_probe_that_raises_counts_as_not_ready(managed):
    faults = [OSError("no descriptor"), RuntimeError("a bug")]

    async def probe():
        if faults:
            raise faults.pop()
        return True

    async with managed(SLEEPER, probe=probe) as subject:
        subject.start()
        await subject.wait_ready()

        assert subject.state is ProcessState.READY


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), RuntimeError("a bug")])
async def test_f2_a_process_that_could_not_be_started_is_tried_again(managed, fault):
    faults = [fault, fault]

    async def prepare(_):
        if faults:
            raise faults.pop()

    async with managed(SLEEPER, prepare=prepare) as subject:
        subject.start()
        await until(lambda: subject.state is ProcessState.READY)

        assert subject.restarts == 2


async def test_f2_a_start_ends_the_pause_before_a_restart(managed, monkeypatch):
    monkeypatch.setattr("sluice_launcher.managed_process.INITIAL_BACKOFF", 600.0)
    async with managed(SLEEPER) as subject:
        subject.start()
        await subject.wait_ready()
        os.kill(subject.identity.pid, signal.SIGKILL)
        await until(lambda: subject.state is ProcessState.CRASHED)

        subject.start()
        await subject.wait_ready()

        assert subject.restarts == 1


async def test_finding_11_a_process_that_does_not_respond_any_more_is_killed_and_restarted(managed):
    responds = True

    async def alive():
        return responds

    async with managed(STUBBORN, alive=alive, alive_seconds=0.1, stop_seconds=0.2) as subject:
        subject.start()
        await subject.wait_ready()
        hung = subject.identity

        responds = False
        await until(lambda: subject.restarts == 1)
        responds = True
        await until(lambda: subject.state is ProcessState.READY)

        assert not hung.alive()
        assert subject.last_exit == "SIGKILL"


async def test_finding_11_a_process_that_responds_is_left_alone(managed):
    async with managed(SLEEPER, alive=always_ready, alive_seconds=0.1, memory_limit=1 << 30) as subject:
        subject.start()
        await subject.wait_ready()
        await asyncio.sleep(2.5)

        assert subject.restarts == 0


async def test_finding_11_a_process_that_takes_too_much_memory_is_restarted_with_a_line_in_the_log(managed, caplog):
    async with managed(f"x = bytearray(300 << 20); {SLEEPER}", memory_limit=200 << 20) as subject:
        subject.start()
        await until(lambda: subject.restarts >= 1)

    assert "MiB of memory, more than 200, and is restarted" in caplog.text
