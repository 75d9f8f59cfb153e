"""``sluice simulate``: the far ends of the providers, on loopback, well or badly behaved."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.runtime.errors import SluiceError

if TYPE_CHECKING:
    from sluice_simulator import Scenario, Simulator

PORTS = {"smtp": 2526, "resend": 2580, "twilio": 2581}
CONTROL_PORT = 2590


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("simulate", help="serve stand-ins for the providers, for tests and demonstrations")
    parser.add_argument(
        "--script", type=Path, metavar="FILE", help="how they behave: .toml or .json, see docs/simulator.md"
    )
    parser.add_argument("--seed", type=int, help="replays the same throws of the dice (default: the script's)")
    parser.add_argument(
        "--ledger",
        type=Path,
        metavar="FOLDER",
        default=Path(".sluice/simulator"),
        help="where calls.jsonl and receipts.jsonl are written (default: %(default)s)",
    )
    parser.add_argument(
        "--door",
        action="append",
        default=[],
        metavar="NAME=KIND[:PORT]",
        help="serve this instead of one of each kind; may be repeated",
    )
    parser.add_argument(
        "--control-port", type=int, default=CONTROL_PORT, help="default: %(default)s; 0 takes a free one"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    import uvloop

    try:
        uvloop.run(_serve(options))
    except OSError as error:
        raise SluiceError(f"the simulator cannot listen: {error.strerror or error}") from error
    return 0


async def _serve(options: argparse.Namespace) -> None:
    from sluice_simulator import Simulator

    endpoints, ports = _doors(options.door)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    simulator = Simulator(
        _script(options),
        endpoints=endpoints,
        ports=ports,
        call_log=options.ledger,
        host=options.host,
        control_port=options.control_port,
    )
    async with simulator:
        print(json.dumps(_where(simulator)), flush=True)
        await stop.wait()


def _script(options: argparse.Namespace) -> Scenario:
    from pydantic import ValidationError

    from sluice_simulator.scenario import Scenario, read_scenario

    try:
        scenario = read_scenario(options.script) if options.script else Scenario()
    except (OSError, ValueError, ValidationError) as error:
        raise SluiceError(f"the script {options.script} cannot be used: {error}") from error
    return scenario if options.seed is None else scenario.model_copy(update={"seed": options.seed})


def _doors(stated: list[str]) -> tuple[dict[str, str], dict[str, int]]:
    """Door names with their kinds, and with their ports."""
    from sluice_simulator.registry import DIALECTS

    if not stated:
        return {name: name for name in DIALECTS}, PORTS
    endpoints: dict[str, str] = {}
    ports: dict[str, int] = {}
    for text in stated:
        name, _, rest = text.partition("=")
        kind, _, port = rest.partition(":")
        if not name or kind not in DIALECTS or not (port or "0").isdecimal():
            raise SluiceError(f"--door {text}: say NAME=KIND or NAME=KIND:PORT, with a KIND of {', '.join(DIALECTS)}")
        endpoints[name], ports[name] = kind, int(port or 0)
    return endpoints, ports


def _where(simulator: Simulator) -> dict[str, object]:
    """One line of JSON for whoever started us: where everything is."""
    endpoints = {
        name: {"kind": endpoint.dialect.name, "port": endpoint.port} for name, endpoint in simulator.endpoints.items()
    }
    return {"host": simulator.host, "doors": endpoints, "control": simulator.control_url}
