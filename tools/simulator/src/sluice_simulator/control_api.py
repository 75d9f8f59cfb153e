"""The control port: look at the simulator and change its script while it runs. Loopback only, no authentication."""

from __future__ import annotations

from typing import Protocol

import orjson
from pydantic import ValidationError

from sluice_simulator.call_log import Ledger
from sluice_simulator.dialect import HttpAnswer, HttpCall, json_answer
from sluice_simulator.endpoint import Door
from sluice_simulator.http_server import HttpConnection
from sluice_simulator.scenario import Script


class Controlled(Protocol):
    """What the control port needs of the simulator."""

    script: Script
    ledger: Ledger
    receipts: Ledger
    doors: dict[str, Door]

    def follow(self, script: Script) -> None: ...


def control(simulator: Controlled, call: HttpCall, connection: HttpConnection) -> None:
    """The handler of the control port."""
    connection.answer(_answer(simulator, call))


def _answer(simulator: Controlled, call: HttpCall) -> HttpAnswer:
    match call.method, call.path:
        case "GET", "/healthz":
            return json_answer(200, {"ok": True})
        case "GET", "/script":
            return json_answer(200, simulator.script.model_dump(mode="json", exclude_unset=True))
        case "PUT", "/script":
            return _follow(simulator, call.body)
        case "GET", "/calls":
            return json_answer(200, {"doors": _counters(simulator), "calls": list(simulator.ledger.lines)})
        case "GET", "/receipts":
            return json_answer(200, {"receipts": list(simulator.receipts.lines)})
    return json_answer(404, {"message": "there is PUT and GET /script, GET /calls, /receipts and /healthz"})


def _follow(simulator: Controlled, body: bytes) -> HttpAnswer:
    try:
        script = Script.model_validate(orjson.loads(body))
    except (orjson.JSONDecodeError, ValidationError) as error:
        return json_answer(422, {"message": str(error)})
    simulator.follow(script)
    return json_answer(200, {"ok": True})


def _counters(simulator: Controlled) -> dict[str, dict[str, int]]:
    return {
        name: {"port": door.port, "calls": door.calls, "accepted": door.accepted}
        for name, door in simulator.doors.items()
    }
