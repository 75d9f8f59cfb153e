"""The client of the sink: its endpoints, their scenario, and its call log."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench.processes import Child, Failed
from bench.traffic import number_of

Rule = Mapping[str, Any]

FAST: Rule = {"latency": {"median": 0.001}}
MODEL: Rule = {"latency": {"median": 0.050, "sigma": 0.35}}
SLOW: Rule = {"latency": {"median": 0.200}}
NO_RECEIPTS: Rule = {"kinds": []}


@dataclass(slots=True)
class Call:
    """One call at an endpoint: read at ``came``, over at ``ended``, by bench.clock."""

    run: int
    number: int
    endpoint: str
    came: float
    ended: float
    accepted: bool


class Sink:
    """The fake providers, in a process of their own, with one call log."""

    def __init__(self, folder: Path, python: str) -> None:
        self.call_log = folder / "sink/calls.jsonl"
        self._folder = folder
        self._child = Child(
            [python, "-m", "bench.sink_process", str(folder / "sink"), str(folder / "counters")],
            log=folder / "sink.log",
            pipes=True,
        )
        found = self._child.receive()
        self.ports: dict[str, int] = found["ports"]
        self.priority: str = found["priority"]
        self._control: str = found["control"]

    @property
    def roots(self) -> dict[str, int]:
        return {"sink": self._child.pid}

    def url(self, endpoint: str) -> str:
        """The base URL of an endpoint."""
        return f"http://127.0.0.1:{self.ports[endpoint]}"

    async def behave(self, rule: Rule, endpoints: Mapping[str, Rule] | None = None) -> None:
        """Apply ``rule`` to all endpoints, from the next call on; ``endpoints``: additional rules of single ones."""
        scenario = {
            "default": {**rule, "receipts": NO_RECEIPTS},
            "endpoints": {name: {**rule, **own, "receipts": NO_RECEIPTS} for name, own in (endpoints or {}).items()},
        }
        await asyncio.to_thread(self._put, json.dumps(scenario).encode())

    def _put(self, scenario: bytes) -> None:
        request = urllib.request.Request(f"{self._control}/scenario", data=scenario, method="PUT")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                answer.read()
        except OSError as error:
            raise Failed(f"the sink rejects the scenario: {error}") from error

    def position(self) -> int:
        """The current end of the call log, in bytes."""
        return self.call_log.stat().st_size if self.call_log.exists() else 0

    def lines(self, start: int) -> bytes:
        """The complete lines of the call log from a position on."""
        with self.call_log.open("rb") as file:
            file.seek(start)
            written = file.read()
        return written[: written.rfind(b"\n") + 1]

    def end(self) -> None:
        """End the process."""
        self._child.end()


def calls(lines: bytes) -> list[Call]:
    """The calls that belong to a run."""
    found = []
    for text in lines.splitlines():
        line = orjson.loads(text)
        numbered = number_of(line.get("recipient") or "")
        if numbered is not None:
            mono = line["mono"]
            found.append(Call(*numbered, line["endpoint"], line.get("came", mono), mono, line["accepted"]))
    return found
