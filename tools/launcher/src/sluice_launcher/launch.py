"""Starts the supervisor, detached or in the foreground, and reports the progress of its start."""

import asyncio
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sluice.runtime.errors import SluiceError
from sluice.runtime.key_file import ensure_key_file
from sluice_launcher import parent_death_signal
from sluice_launcher.control import LOCK, NotRunning, SupervisorClient, supervisor_running
from sluice_launcher.logs import open_log
from sluice_launcher.plan import Plan
from sluice_launcher.progress import Progress
from sluice_launcher.state import kill_orphans
from sluice_launcher.supervisor import Supervisor

PLAN = "run/plan.json"


def launch(plan: Plan, progress: Progress, *, terminate_with_parent: bool = False) -> subprocess.Popen[bytes]:
    """Start a supervisor in the background and return it when everything is ready.

    Raises:
        SluiceError: the start failed; everything is stopped then, as after Ctrl-C.
    """
    _preflight(plan)
    reading, writing = os.pipe()
    with open(reading) as report:
        process = _spawn(plan, writing, terminate_with_parent=terminate_with_parent)
        os.close(writing)
        try:
            _follow(report, plan, progress)
        except BaseException:
            with suppress(SluiceError):
                SupervisorClient(plan.data_dir).down()
            process.wait()
            raise
    return process


def supervise(plan: Plan, progress: Progress) -> None:
    """Run the supervisor in this process until it is stopped.

    Raises:
        SluiceError: the start failed.
    """
    _preflight(plan)
    _run(plan, progress)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a lock file; wait until it is free."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _preflight(plan: Plan) -> None:
    # The processes of a running supervisor are no orphans.
    if supervisor_running(plan.data_dir):
        raise _already_supervised(plan)
    kill_orphans(plan.data_dir)
    ensure_key_file(plan.key_file)


def _spawn(plan: Plan, report: int, *, terminate_with_parent: bool) -> subprocess.Popen[bytes]:
    plan.write(plan.data_dir / PLAN)
    with_parent = parent_death_signal.prefix(signal.SIGTERM) if terminate_with_parent else []
    with open_log(plan.log_dir / "supervisor.log") as output:
        return subprocess.Popen(  # noqa: S603
            [*with_parent, sys.executable, "-m", "sluice_launcher.launch", str(plan.data_dir), str(report)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[report],
            start_new_session=True,
        )


def _follow(report: Iterator[str], plan: Plan, progress: Progress) -> None:
    for line in report:
        match json.loads(line):
            case {"progress": str(text)}:
                progress(text)
            case {"error": str(sentence)}:
                raise SluiceError(sentence)
            case {"ready": True}:
                return
    raise NotRunning(f"the supervisor ended before everything was ready: see {plan.log_dir / 'supervisor.log'}")


def _run(plan: Plan, progress: Progress, *, ready: Callable[[], None] = lambda: None) -> None:
    handle = os.open(plan.data_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _already_supervised(plan) from None
    try:
        asyncio.run(Supervisor(plan, progress, ready).run())
    finally:
        os.close(handle)


def _already_supervised(plan: Plan) -> SluiceError:
    return SluiceError(f"another supervisor uses {plan.data_dir}: `sluice down` stops it")


def main(data_dir: Path, report: int) -> int:
    """The detached supervisor: reports progress to the pipe and to its log; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.WARNING)  # each look at Kafka's readiness is a login
    log = logging.getLogger("sluice_launcher")

    def send(**fields: object) -> None:
        # The calling command may have ended; the log has the same lines.
        with suppress(BrokenPipeError):
            os.write(report, json.dumps(fields).encode() + b"\n")

    def progress(text: str) -> None:
        log.info("%s", text)
        send(progress=text)

    def ready() -> None:
        nonlocal report
        send(ready=True)
        os.close(report)
        report = os.open(os.devnull, os.O_WRONLY)

    try:
        _run(Plan.read(data_dir / PLAN), progress, ready=ready)
    except SluiceError as fault:
        log.error("%s", fault)
        send(error=str(fault))
        return 1
    except BaseException as fault:
        log.exception("the supervisor failed")
        send(error=f"the supervisor failed ({type(fault).__name__}): see {data_dir / 'logs/supervisor.log'}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
