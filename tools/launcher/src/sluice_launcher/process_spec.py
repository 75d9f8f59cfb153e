"""The description of a managed process: its command, its readiness probe, its end."""

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Run = Callable[[Sequence[str | Path]], Awaitable[None]]
"""Runs a short command to its end; raises SluiceError if it fails."""
Probe = Callable[[], Awaitable[bool]]
Explain = Callable[[], Awaitable[str | None]]


async def no_preparation(run: Run) -> None:
    """For processes that need none."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process for the supervisor to run. Times are seconds."""

    name: str
    kind: Literal["service", "role"]
    command: Sequence[str | Path]
    address: str
    probe: Probe
    environment: Mapping[str, str] = field(default_factory=dict)
    # Words before the command and its parent-death signal: drop root's identity.
    wrapper: Sequence[str] = ()
    # Runs before each start: creates what is missing, changes nothing else.
    prepare: Callable[[Run], Awaitable[None]] = no_preparation
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 25.0
    # Sent by the kernel when the supervisor dies. SIGKILL by default, since every process survives a crash: after
    # SIGTERM a process could remain that waits for a service that has ended, too.
    parent_death_signal: signal.Signals = signal.SIGKILL
    ready_seconds: float = 120.0
    # Why it is not ready, by its own statement; None: it makes none.
    explain: Explain | None = None
    # Whether it responds at all; one that has been ready and is silent for `alive_seconds` is restarted. None: unknown.
    alive: Probe | None = None
    alive_seconds: float = 30.0
    # Bytes that it may take, without its children, before it is restarted; None: any.
    memory_limit: int | None = None
    # Deleted by `restart --wipe`; None: must not be wiped.
    data: Path | None = None
