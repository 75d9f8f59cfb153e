"""What the supervisor must know to run one process: the command, when it is ready, how it ends."""

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

# Runs a short command to its end; raises SluiceError when it fails.
Run = Callable[[Sequence[str | Path]], Awaitable[None]]
Probe = Callable[[], Awaitable[bool]]


async def no_preparation(run: Run) -> None:
    """For what starts from nothing."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    name: str
    kind: Literal["service", "role"]
    command: Sequence[str | Path]
    address: str
    probe: Probe
    environment: Mapping[str, str] = field(default_factory=dict)
    # Put before the command, and before the leash: what drops root's identity.
    wrapper: Sequence[str] = ()
    # Before each start: makes what is missing, and leaves alone what is there.
    prepare: Callable[[Run], Awaitable[None]] = no_preparation
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 25.0
    # Sent by the kernel when the supervisor dies. What survives a crash anyway is killed outright:
    # a polite signal could leave behind a process that waits for a service that is gone, too.
    parent_death_signal: signal.Signals = signal.SIGKILL
    ready_seconds: float = 120.0
    # What `restart --wipe` deletes; None for what must not be wiped.
    data: Path | None = None
