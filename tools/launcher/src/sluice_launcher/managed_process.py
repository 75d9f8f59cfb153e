"""One supervised process: prepared, started, watched, restarted with back-off, stopped."""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from sluice.runtime.errors import SluiceError
from sluice_launcher import parent_death_signal
from sluice_launcher.logs import last_line, open_log
from sluice_launcher.process_info import Identity, memory
from sluice_launcher.process_spec import Probe, ProcessSpec

log = logging.getLogger("sluice_launcher")

INITIAL_BACKOFF = 0.5
MAX_BACKOFF = 10.0
# Seconds of uptime after which the next crash begins with the shortest pause again.
STABLE_AFTER = 30.0
PROBE_SECONDS = 0.05
# Between the probes of a process that has been ready, and how many must fail before it counts as not ready.
READY_PROBE_SECONDS = 1.0
FAILED_PROBES = 2
# Between two looks whether it responds at all, and at its memory: a sign of a fault that lasts, not of one moment.
HEALTH_PROBE_SECONDS = 5.0
# Crashes before the first readiness after which the start has failed.
MAX_STARTUP_CRASHES = 3


class ProcessState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    NOT_READY = "not ready"  # it was, and runs
    CRASHED = "crashed"  # waits for its next start
    STOPPING = "stopping"


class ManagedProcess:
    """Keeps the process of a spec running from `start` to `stop`. All methods belong to one event loop, which runs in
    the main thread: the parent-death signal of a child follows the thread that created it."""

    def __init__(
        self,
        spec: ProcessSpec,
        log_dir: Path,
        changed: Callable[[], None],
        *,
        extra_environment: Mapping[str, str],
    ) -> None:
        self.spec = spec
        self.state = ProcessState.STOPPED
        self.identity: Identity | None = None
        self.restarts = 0
        self.last_exit: str | None = None
        self.fault: str | None = None
        self._log_path = log_dir / f"{spec.name}.log"
        self._changed = changed
        self._environment = {**os.environ, **extra_environment, **spec.environment}
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._ending = asyncio.Event()
        self._retry = asyncio.Event()

    def start(self) -> None:
        """Begin to keep it running, or end the pause before its next start; no effect if it runs."""
        self._retry.set()
        if self._task is None or self._task.done():
            self._ending.clear()
            self._set_state(ProcessState.STARTING)
            self._task = asyncio.create_task(self._keep_alive(), name=f"keep {self.spec.name} alive")

    async def wait_ready(self) -> None:
        """Wait until it is ready.

        Raises:
            SluiceError: it does not become ready; with the last line of its log.
        """
        assert self._task is not None
        crashes = self.restarts
        deadline = time.monotonic() + self.spec.ready_seconds
        while not self._ready.is_set():
            if self._task.done() or self.restarts - crashes >= MAX_STARTUP_CRASHES or time.monotonic() > deadline:
                raise SluiceError(await self._why_not_ready())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ready.wait(), 0.1)

    async def stop(self) -> None:
        """Stop it: the stop signal first, SIGKILL after ``stop_seconds``."""
        if self._task is None:
            return
        self._ending.set()
        self._ready.clear()
        self._set_state(ProcessState.STOPPING)
        await self._end_process()
        await self._task
        self._task = None
        self._set_state(ProcessState.STOPPED)

    def wipe(self) -> None:
        """Delete its data. It must be stopped.

        Raises:
            SluiceError: it has no data that may be deleted.
        """
        assert self.state is ProcessState.STOPPED
        if self.spec.data is None:
            raise SluiceError(f"the data of {self.spec.name} must not be wiped")
        shutil.rmtree(self.spec.data, ignore_errors=True)

    async def run_to_end(self, command: Sequence[str | Path]) -> None:
        """Run a short command with the same parent-death signal and log.

        Raises:
            SluiceError: it fails.
        """
        process = await self._spawn(command)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            raise
        if code:
            raise SluiceError(
                f"{self.spec.name} could not be prepared: {Path(command[0]).name} ended with "
                f"{describe_exit(code)}; the last line of {self._log_path} is: {last_line(self._log_path)}"
            )

    async def _keep_alive(self) -> None:
        pause = INITIAL_BACKOFF
        while not self._ending.is_set():
            began = time.monotonic()
            try:
                await self.spec.prepare(self.run_to_end)
                if not self._ending.is_set():
                    await self._run_once()
            except (SluiceError, OSError) as fault:
                self.fault = str(fault)
                log.error("%s: %s", self.spec.name, fault)
            except Exception as fault:  # a bug: the process must be restarted all the same
                self.fault = f"{type(fault).__name__}: {fault}"
                log.exception("%s could not be supervised", self.spec.name)
            if self._ending.is_set():
                return
            if time.monotonic() - began > STABLE_AFTER:
                pause = INITIAL_BACKOFF
            await self._pause(pause)
            pause = min(2 * pause, MAX_BACKOFF)

    async def _run_once(self) -> None:
        """From start to exit; the exit is a crash unless it was requested."""
        self._set_state(ProcessState.STARTING)
        self._process = process = await self._spawn(self.spec.command)
        watches = [asyncio.create_task(each) for each in (self._watch_readiness(), self._watch_health())]
        try:
            self._set_identity(Identity.of(process.pid))
            if self._ending.is_set():
                # A stop was requested while it was being created.
                await self._end_process()
            code = await process.wait()
        finally:
            for watch in watches:
                watch.cancel()
            self._ready.clear()
            # Its children must not outlive it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            self._process = None
            self._set_identity(None)
        self.last_exit = describe_exit(code)
        if not self._ending.is_set():
            log.warning("%s crashed: %s", self.spec.name, self.last_exit)

    async def _pause(self, seconds: float) -> None:
        self.restarts += 1
        self._set_state(ProcessState.CRASHED)
        self._retry.clear()
        waits = [asyncio.ensure_future(event.wait()) for event in (self._ending, self._retry)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _watch_readiness(self) -> None:
        """Probe until the process ends, so that the state shows whether it can do its work now."""
        failed = 0
        while True:
            failed = 0 if await self._probe() else failed + 1
            if self._ending.is_set():
                return
            if not failed and not self._ready.is_set():
                self.fault = None
                self._set_state(ProcessState.READY)
                self._ready.set()
            elif failed >= FAILED_PROBES and self._ready.is_set():
                log.warning("%s is not ready", self.spec.name)
                self._set_state(ProcessState.NOT_READY)
                self._ready.clear()
            starting = self.state is ProcessState.STARTING
            await asyncio.sleep(PROBE_SECONDS if starting else READY_PROBE_SECONDS)

    async def _watch_health(self) -> None:
        """End a process that has been ready and is silent, or takes too much memory: it is restarted."""
        await self._ready.wait()
        responded = time.monotonic()
        while not self._ending.is_set():
            if self.spec.alive is None or await self._run_probe(self.spec.alive):
                responded = time.monotonic()
            if fault := await self._health_fault(time.monotonic() - responded):
                log.error("%s %s and is restarted", self.spec.name, fault)
                self.fault = f"{self.spec.name} {fault}"
                await self._end_process()
                return
            await asyncio.sleep(HEALTH_PROBE_SECONDS)

    async def _health_fault(self, silent: float) -> str | None:
        if silent > self.spec.alive_seconds:
            return f"has not responded for {silent:.0f} s"
        limit, identity = self.spec.memory_limit, self.identity
        if limit is None or identity is None:
            return None
        used = await asyncio.to_thread(memory, identity.pid, alone=True)
        return f"takes {used >> 20} MiB of memory, more than {limit >> 20}," if used > limit else None

    async def _probe(self) -> bool:
        return await self._run_probe(self.spec.probe)

    async def _run_probe(self, probe: Probe) -> bool:
        try:
            return await probe()
        except Exception:  # a bug in a probe must not hide the state for ever
            log.exception("the probe of %s failed", self.spec.name)
            return False

    async def _spawn(self, command: Sequence[str | Path]) -> asyncio.subprocess.Process:
        with open_log(self._log_path) as output:
            return await asyncio.create_subprocess_exec(
                *self.spec.wrapper,
                *parent_death_signal.prefix(self.spec.parent_death_signal),
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                # A Ctrl-C at the terminal reaches the supervisor only, which stops everything in order.
                start_new_session=True,
            )

    async def _end_process(self) -> None:
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self.spec.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), self.spec.stop_seconds)
        except TimeoutError:
            log.warning("%s did not end within %.0f s and is killed", self.spec.name, self.spec.stop_seconds)
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _why_not_ready(self) -> str:
        if self.fault:
            return self.fault
        name, path = self.spec.name, self._log_path
        reason = await self.spec.explain() if self.spec.explain is not None and self._process is not None else None
        if reason:
            return f"{name} does not become ready: {reason}"
        ended = self._process is None and self.last_exit
        what = f"{name} ended with {self.last_exit}" if ended else f"{name} does not become ready"
        return f"{what}; the last line of {path} is: {last_line(path)}"

    def _set_state(self, state: ProcessState) -> None:
        self.state = state
        self._changed()

    def _set_identity(self, identity: Identity | None) -> None:
        self.identity = identity
        self._changed()


def describe_exit(code: int) -> str:
    """`exit 3` or `SIGKILL`."""
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
