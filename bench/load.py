"""Our side of the generator: two processes that are shown what to offer, and what came of each request."""

from __future__ import annotations

import asyncio
from array import array
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.generator import COLUMNS
from bench.processes import Child
from bench.traffic import Offer

PROCESSES = 2


@dataclass(slots=True)
class Sent:
    """One request: times are those of bench.clock, ``answered`` and ``status`` are 0 without a response."""

    number: int
    intended: float
    lag: float
    answered: float
    status: int

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300


class Generators:
    """The generator processes; they live as long as the measurement."""

    def __init__(self, folder: Path, python: str) -> None:
        self._folder = folder
        self._children = [
            Child(
                [python, "-m", "bench.generator", str(folder / "counters")],
                log=folder / f"generator-{index}.log",
                pipes=True,
            )
            for index in range(PROCESSES)
        ]
        self.priority = self._children[0].receive()["priority"]
        for child in self._children[1:]:
            child.receive()

    @property
    def roots(self) -> dict[str, int]:
        return {f"generator-{index}": child.pid for index, child in enumerate(self._children)}

    async def make(self, offer: Offer) -> tuple[list[Sent], list[dict[str, Any]]]:
        """Make an offer; the requests sent, by number, and the summary of each process."""
        paths = [self._folder / f"sent-{index}" for index in range(PROCESSES)]
        for index, (child, path) in enumerate(zip(self._children, paths, strict=True)):
            child.send(replace(offer, index=index, of=PROCESSES, result=str(path)).line())
        words = await asyncio.gather(*(asyncio.to_thread(child.receive) for child in self._children))
        return sorted((one for path in paths for one in _read(path)), key=lambda one: one.number), words

    def end(self) -> None:
        """End the processes."""
        for child in self._children:
            child.end()


def _read(path: Path) -> list[Sent]:
    values = array("d")
    values.frombytes(path.read_bytes())
    rows = [iter(values)] * COLUMNS
    return [
        Sent(int(number), intended, lag, answered, int(status))
        for number, intended, lag, answered, status in zip(*rows, strict=True)
    ]
