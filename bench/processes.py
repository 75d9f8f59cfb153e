"""Child processes that end with this process, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from sluice_launcher import parent_death_signal

ROOT = Path(__file__).resolve().parent.parent
BENCH_BIN = ROOT / ".venv-bench/bin"


class Failed(Exception):
    """The measurement cannot continue; the text has the reason."""


def bench_program(name: str) -> str:
    """A program of .venv-bench.

    Raises:
        Failed: the environment was not made.
    """
    path = BENCH_BIN / name
    if not path.exists():
        raise Failed(f"{path.relative_to(ROOT)} is missing: `sh bench/setup.sh` makes .venv-bench")
    return str(path)


class Child:
    """A process in a session of its own, killed by the kernel when this one dies. Create it in the main thread."""

    def __init__(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None, pipes: bool = False
    ) -> None:
        self.log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(  # noqa: S603
                [*parent_death_signal.prefix(signal.SIGKILL), *command],
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else errors,
                stderr=errors,
                env={**os.environ, **(environment or {})},
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, line: str) -> None:
        """Write a line to its stdin."""
        pipe: IO[bytes] | None = self._process.stdin
        assert pipe is not None
        pipe.write(line.encode() + b"\n")
        pipe.flush()

    def receive(self) -> dict[str, Any]:
        """Its next line, a JSON object.

        Raises:
            Failed: it ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.log.stem} ended: {self.log_tail()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def log_tail(self) -> str:
        """The last lines of its log."""
        with suppress(OSError):
            return " | ".join(self.log.read_text(errors="replace").splitlines()[-5:])
        return "it left no log"

    def end(self, seconds: float = 5.0) -> None:
        """Stop it, and kill it and its children after ``seconds``."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                break
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
