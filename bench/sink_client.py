"""Our side of the sink: its doors, how they behave, and what they saw."""

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
SILENT: Rule = {"kinds": []}


@dataclass(slots=True)
class Call:
    """One call at a door: when it was read and when it was over, by bench.clock."""

    run: int
    number: int
    endpoint: str
    came: float
    ended: float
    accepted: bool


class Sink:
    """The far ends, in a process of their own, with one ledger."""

    def __init__(self, folder: Path, python: str) -> None:
        self.ledger = folder / "sink/calls.jsonl"
        self._folder = folder
        self._child = Child(
            [python, "-m", "bench.sink_process", str(folder / "sink"), str(folder / "counters")],
            log=folder / "sink.log",
            pipes=True,
        )
        found = self._child.hear()
        self.ports: dict[str, int] = found["ports"]
        self.priority: str = found["priority"]
        self._control: str = found["control"]

    @property
    def roots(self) -> dict[str, int]:
        return {"sink": self._child.pid}

    def url(self, endpoint: str) -> str:
        """The base URL of a door."""
        return f"http://127.0.0.1:{self.ports[endpoint]}"

    async def behave(self, rule: Rule, endpoints: Mapping[str, Rule] | None = None) -> None:
        """All doors by ``rule``, from the next call on; those in ``doors`` by their own."""
        script = {
            "default": {**rule, "receipts": SILENT},
            "endpoints": {name: {**rule, **own, "receipts": SILENT} for name, own in (endpoints or {}).items()},
        }
        await asyncio.to_thread(self._put, json.dumps(script).encode())

    def _put(self, script: bytes) -> None:
        request = urllib.request.Request(f"{self._control}/scenario", data=script, method="PUT")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                answer.read()
        except OSError as error:
            raise Failed(f"the sink does not take its script: {error}") from error

    def position(self) -> int:
        """Where the ledger ends now."""
        return self.ledger.stat().st_size if self.ledger.exists() else 0

    def lines(self, start: int) -> bytes:
        """The ledger's whole lines from a position on."""
        with self.ledger.open("rb") as file:
            file.seek(start)
            written = file.read()
        return written[: written.rfind(b"\n") + 1]

    def end(self) -> None:
        """End the process."""
        self._child.end()


def calls(lines: bytes) -> list[Call]:
    """The calls of ledger lines that belong to a run of ours."""
    found = []
    for text in lines.splitlines():
        line = orjson.loads(text)
        numbered = number_of(line.get("recipient") or "")
        if numbered is not None:
            mono = line["mono"]
            found.append(Call(*numbered, line["endpoint"], line.get("came", mono), mono, line["accepted"]))
    return found
