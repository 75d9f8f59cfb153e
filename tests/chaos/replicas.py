"""Second replicas: the launcher runs one process of each role, this module runs the others."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from sluice_launcher import parent_death_signal
from sluice_launcher.process_info import Identity

PAUSE = 0.5  # seconds between a death and the next start, as the launcher's first
GRACE = 30.0  # seconds from SIGTERM to SIGKILL


class Replica:
    """A process that is restarted whenever it dies, until :meth:`stop`."""

    def __init__(self, name: str, module: str, environment: Mapping[str, str], log: Path, *, optimised: bool) -> None:
        self.name = name
        self._command = [sys.executable, *(["-O"] if optimised else []), "-m", module]
        self._environment = dict(environment)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending = False

    @property
    def identity(self) -> Identity | None:
        """The process; None while there is none."""
        return None if self._process is None else Identity.of(self._process.pid)

    def start(self) -> None:
        """Begin to keep it running."""
        self._ending = False
        self._task = asyncio.create_task(self._keep_alive(), name=self.name)

    async def stop(self) -> int | None:
        """Stop it gracefully, kill it after ``GRACE``; returns its exit code."""
        self._ending = True
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), GRACE)
            except TimeoutError:
                process.kill()
        if self._task is not None:
            await self._task
        return None if process is None else process.returncode

    async def restart(self) -> int | None:
        """Stop and start it; returns the exit code."""
        code = await self.stop()
        self.start()
        return code

    async def _keep_alive(self) -> None:
        while not self._ending:
            await self._run_once()
            if not self._ending:
                await asyncio.sleep(PAUSE)

    async def _run_once(self) -> None:
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *parent_death_signal.prefix(signal.SIGKILL),
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                start_new_session=True,
            )
        await self._process.wait()
        self._process = None
