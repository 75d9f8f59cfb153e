"""The fake providers in a process of their own: `python -m bench.sink_process FOLDER COUNTERS`.

Endpoints of the simulator that also log the arrival of each call: the call log has only the time of the response.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from bench import counters
from bench.clock import first_in_line, now
from bench.counters import Counters
from sluice_simulator import Receipts, Rule, Scenario, Simulator
from sluice_simulator.dialect import ParsedSend
from sluice_simulator.endpoint import Decision, Endpoint, IdempotencyEntry
from sluice_simulator.registry import DIALECTS

ENDPOINTS = {"email-a": "resend", "email-b": "resend", "sms-a": "twilio", "sms-b": "twilio"}
MAX_KEYS = 100_000  # idempotency keys of an endpoint; a repeat comes within seconds


class TimedEndpoint(Endpoint):
    """An endpoint that logs the arrival of each call, and counts calls in memory shared with the generator."""

    counted: Counters

    def decide(self, recipient: str) -> Decision:
        """The scenario's decision; called when the call has been read."""
        self._came.setdefault(recipient, []).append(now())
        self.counted[counters.CALLS] += 1
        return super().decide(recipient)

    def apply_scenario(self, scenario: Scenario) -> None:
        """Apply a scenario."""
        self._came: dict[str, list[float]] = getattr(self, "_came", {})
        super().apply_scenario(scenario)

    def store(self, send: ParsedSend, entry: IdempotencyEntry) -> None:
        """Store it, and delete the oldest: the number of keys is unlimited."""
        super().store(send, entry)
        if len(self._keys) > MAX_KEYS:
            del self._keys[next(iter(self._keys))]

    def record(self, *, accepted: bool, answered: bool, **fields: Any) -> None:
        """Log a finished call with its arrival."""
        came = self._came.get(fields.get("recipient", ""))
        if came:
            fields["came"] = came.pop(0)
            if not came:
                del self._came[fields["recipient"]]
        if accepted:
            self.counted[counters.ACCEPTED] += 1
        super().record(accepted=accepted, answered=answered, **fields)


async def _serve(folder: Path, counted: Counters) -> None:
    # A full garbage collection stops all providers for up to a second in a long run, and counts as delay of the system
    # under test. Cycles here are young ones.
    gc.freeze()
    gc.set_threshold(50_000, 20, 1_000_000)
    TimedEndpoint.counted = counted
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    # Peers handle no receipts, so none are sent.
    simulator = Simulator(Scenario(default=Rule(receipts=Receipts(kinds=()))), endpoints=ENDPOINTS, log_dir=folder)
    simulator.endpoints = {
        name: TimedEndpoint(name, DIALECTS[kind], simulator.call_log, simulator.webhook_sender)
        for name, kind in ENDPOINTS.items()
    }
    simulator.apply_scenario(simulator.scenario)
    # Providers have machines of their own: their latency does not depend on the load here.
    priority = first_in_line(real_time=False)
    async with simulator:
        ports = {name: endpoint.port for name, endpoint in simulator.endpoints.items()}
        print(json.dumps({"ports": ports, "control": simulator.control_url, "priority": priority}), flush=True)
        await stop.wait()


if __name__ == "__main__":
    with Counters(Path(sys.argv[2])) as found:
        uvloop.run(_serve(Path(sys.argv[1]), found))
