"""The providers' far ends in a process of their own: `python -m bench.sink_process FOLDER COUNTERS`.

The simulator's doors, which also note when a call came in: its ledger alone knows when it was answered.
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

DOORS = {"email-a": "resend", "email-b": "resend", "sms-a": "twilio", "sms-b": "twilio"}
KEYS_KEPT = 100_000  # idempotency keys of a door; a repeat comes within seconds


class TimedEndpoint(Endpoint):
    """A door that notes when each call came in, and counts where the generator can see it."""

    counted: Counters

    def decide(self, recipient: str) -> Decision:
        """As the script says; this is the moment at which the call was read."""
        self._came.setdefault(recipient, []).append(now())
        self.counted[counters.CALLS] += 1
        return super().decide(recipient)

    def apply_scenario(self, scenario: Scenario) -> None:
        """Take over a script."""
        self._came: dict[str, list[float]] = getattr(self, "_came", {})
        super().apply_scenario(scenario)

    def store(self, send: ParsedSend, entry: IdempotencyEntry) -> None:
        """Keep it under its key, and forget the oldest: a benchmark has no end of keys."""
        super().store(send, entry)
        if len(self._keys) > KEYS_KEPT:
            del self._keys[next(iter(self._keys))]

    def record(self, *, accepted: bool, answered: bool, **fields: Any) -> None:
        """One call is over."""
        came = self._came.get(fields.get("recipient", ""))
        if came:
            fields["came"] = came.pop(0)
            if not came:
                del self._came[fields["recipient"]]
        if accepted:
            self.counted[counters.ACCEPTED] += 1
        super().record(accepted=accepted, answered=answered, **fields)


async def _serve(folder: Path, counted: Counters) -> None:
    # A collection of everything stopped all providers for a quarter of a second, for a whole one in a long run that
    # remembers hundreds of thousands of calls, and was measured as somebody else's delay. Rings here are young ones.
    gc.freeze()
    gc.set_threshold(50_000, 20, 1_000_000)
    TimedEndpoint.counted = counted
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    # Peers have no receipts, so nobody's providers send any.
    simulator = Simulator(Scenario(default=Rule(receipts=Receipts(kinds=()))), endpoints=DOORS, log_dir=folder)
    simulator.endpoints = {
        name: TimedEndpoint(name, DIALECTS[kind], simulator.call_log, simulator.webhook_sender)
        for name, kind in DOORS.items()
    }
    simulator.apply_scenario(simulator.scenario)
    # The outside world has machines of its own: how fast a provider answers does not depend on our load.
    priority = first_in_line(real_time=False)
    async with simulator:
        ports = {name: endpoint.port for name, endpoint in simulator.endpoints.items()}
        print(json.dumps({"ports": ports, "control": simulator.control_url, "priority": priority}), flush=True)
        await stop.wait()


if __name__ == "__main__":
    with Counters(Path(sys.argv[2])) as found:
        uvloop.run(_serve(Path(sys.argv[1]), found))
