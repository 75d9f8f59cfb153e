"""The control port: read the simulator's logs and change its scenario. Loopback only, without authentication."""

from __future__ import annotations

from typing import Protocol

import orjson
from pydantic import ValidationError

from sluice_simulator.call_log import CallLog
from sluice_simulator.dialect import FakeRequest, FakeResponse, json_response
from sluice_simulator.endpoint import Endpoint
from sluice_simulator.http_server import HttpConnection
from sluice_simulator.scenario import Scenario


class SimulatorApi(Protocol):
    """The part of the simulator that the control port uses."""

    scenario: Scenario
    call_log: CallLog
    webhook_log: CallLog
    endpoints: dict[str, Endpoint]

    def apply_scenario(self, scenario: Scenario) -> None: ...


def handle_control(simulator: SimulatorApi, request: FakeRequest, connection: HttpConnection) -> None:
    """The handler of the control port."""
    connection.respond(_respond(simulator, request))


def _respond(simulator: SimulatorApi, request: FakeRequest) -> FakeResponse:
    match request.method, request.path:
        case "GET", "/healthz":
            return json_response(200, {"ok": True})
        case "GET", "/scenario":
            return json_response(200, simulator.scenario.model_dump(mode="json", exclude_unset=True))
        case "PUT", "/scenario":
            return _put_scenario(simulator, request.body)
        case "GET", "/calls":
            return json_response(200, {"endpoints": _counters(simulator), "calls": list(simulator.call_log.lines)})
        case "GET", "/receipts":
            return json_response(200, {"receipts": list(simulator.webhook_log.lines)})
    return json_response(404, {"message": "the paths are PUT and GET /scenario, GET /calls, /receipts and /healthz"})


def _put_scenario(simulator: SimulatorApi, body: bytes) -> FakeResponse:
    try:
        scenario = Scenario.model_validate(orjson.loads(body))
        simulator.apply_scenario(scenario)
    except (orjson.JSONDecodeError, ValidationError) as error:
        return json_response(422, {"message": str(error)})
    return json_response(200, {"ok": True})


def _counters(simulator: SimulatorApi) -> dict[str, dict[str, int]]:
    return {
        name: {"port": endpoint.port, "calls": endpoint.calls, "accepted": endpoint.accepted}
        for name, endpoint in simulator.endpoints.items()
    }
