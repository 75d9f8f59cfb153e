"""The fake providers: a simulator process that the nemesis does not kill."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from sluice_launcher import parent_death_signal
from sluice_simulator.registry import DIALECTS

ENDPOINTS = {
    "resend-a": "resend",
    "resend-b": "resend",
    "smtp-a": "smtp",
    "smtp-b": "smtp",
    "twilio-a": "twilio",
    "twilio-b": "twilio",
}
EVERY_ENDPOINT = {
    **ENDPOINTS,
    **{f"{dialect}-a": dialect for dialect in DIALECTS if dialect not in ENDPOINTS.values()},
    # The channels with one package: a second account to fail over to.
    **{f"{dialect}-b": dialect for dialect in ("telegram", "signal", "fcm")},
}
"""At least one endpoint for each package, and at least two for each channel."""

# The share of calls that fail, at every endpoint. After the first four the message was or may have been taken.
FAULTS = {
    "accept-then-never-answer": 0.004,
    "accept-then-500": 0.008,
    "accept-then-reset": 0.008,
    "reset": 0.008,
    "fault": 0.03,
    "throttle": 0.008,
    "hang": 0.002,
    "reject": 0.004,
    "decline": 0.01,
    "decline-account": 0.006,
}
RECEIPTS = {"kinds": ["sent", "delivered"], "delay": 0.3, "interval": 0.2, "copies": 2, "forged": ["wrong-key"]}


class Simulation:
    """``sluice simulate`` as a child process: ``with Simulation(folder, seed=7) as simulation``."""

    def __init__(self, folder: Path, *, seed: int, endpoints: Mapping[str, str] = ENDPOINTS) -> None:
        self.folder = folder
        self._seed = seed
        self._endpoints = dict(endpoints)
        self._process: subprocess.Popen[bytes] | None = None
        self.ports: dict[str, int] = {}
        self._control = ""

    @property
    def calls(self) -> Path:
        """The call log."""
        return self.folder / "calls.jsonl"

    @property
    def receipts(self) -> Path:
        """The log of receipts."""
        return self.folder / "receipts.jsonl"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        options = [word for name, kind in self._endpoints.items() for word in ("--endpoint", f"{name}={kind}")]
        command = [
            sys.executable,
            "-m",
            "sluice_cli.main",
            "simulate",
            "--control-port",
            "0",
            "--seed",
            str(self._seed),
        ]
        with_parent = parent_death_signal.prefix(signal.SIGKILL)
        with (self.folder / "simulator.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*with_parent, *command, "--log-dir", str(self.folder), *options], stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        where = json.loads(self._process.stdout.readline())
        self.ports = {name: source["port"] for name, source in where["endpoints"].items()}
        self._control = where["control"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def scenario(self, scenario: Mapping[str, Any]) -> None:
        """Apply a scenario, from the next call on."""
        answer = httpx.put(f"{self._control}/scenario", json=scenario, trust_env=False, timeout=10)
        answer.raise_for_status()

    def counters(self) -> dict[str, dict[str, int]]:
        answer = httpx.get(f"{self._control}/calls", trust_env=False, timeout=10)
        found: dict[str, dict[str, int]] = answer.json()["endpoints"]
        return found


def faulty(webhooks: Mapping[str, str], secrets: Mapping[str, str], *, seed: int) -> dict[str, Any]:
    """The scenario of a chaos run: a few per cent of failures, latency, receipts twice and a forged one for each."""
    own = {"probabilities": FAULTS, "retry_after": 1, "latency": {"median": 0.03, "sigma": 1.0}, "receipts": RECEIPTS}
    endpoints = hooked(webhooks, secrets)
    # Signal's limit suspends an account for an hour: a run with both accounts suspended would not settle.
    unlimited = {"probabilities": {name: share for name, share in FAULTS.items() if name != "throttle"}}
    endpoints |= {name: endpoints[name] | unlimited for name in endpoints if EVERY_ENDPOINT.get(name) == "signal"}
    return {"seed": seed, "default": own, "endpoints": endpoints}


def hooked(webhooks: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, Any]:
    """The webhooks of the endpoints, as their dashboards would have them."""
    return {source: {"webhooks": {"*": {"url": url, "secret": secrets[source]}}} for source, url in webhooks.items()}
