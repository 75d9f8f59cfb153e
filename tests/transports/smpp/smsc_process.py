"""The independent SMSC in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class Smsc:
    """The other process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._events: defaultdict[str, list[Any]] = defaultdict(list)

    def order(self, command: str, value: Any = None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, value]).encode() + b"\n")

    async def prepare(self, *answers: str | int) -> None:
        """The answers to the next submit_sm: message ids, or statuses of a refusal."""
        self.order("answers", answers)
        await self.event("prepared")

    async def event(self, kind: str) -> Any:
        assert self._process.stdout is not None
        while not self._events[kind]:
            name, value = json.loads(await self._process.stdout.readline())
            self._events[name].append(value)
        return self._events[kind].pop(0)

    async def submits(self, count: int) -> list[dict[str, Any]]:
        return [await self.event("submit") for _ in range(count)]


@asynccontextmanager
async def open_smsc() -> AsyncIterator[tuple[Smsc, int]]:
    """The SMSC and its port."""
    command = (sys.executable, "-m", "tests.transports.smpp.smsc")
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        other = Smsc(process)
        yield other, await other.event("listening")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
