"""``sluice simulate``: fake providers on loopback, behaving well or badly."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from sluice.runtime.arguments import within
from sluice.runtime.errors import SluiceError

if TYPE_CHECKING:
    from sluice_simulator import Scenario, Simulator

CONTROL_PORT = 2590


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("simulate", help="serve fake providers, for tests and demonstrations")
    parser.add_argument(
        "--scenario", type=Path, metavar="FILE", help="how they behave: .toml or .json, see docs/simulator.md"
    )
    parser.add_argument("--seed", type=int, help="seed of the random decisions (default: the scenario's)")
    parser.add_argument(
        "--log-dir",
        type=Path,
        metavar="FOLDER",
        default=Path(".sluice/simulator"),
        help="folder of calls.jsonl and receipts.jsonl (default: %(default)s)",
    )
    parser.add_argument(
        "--endpoint",
        action="append",
        default=[],
        metavar="NAME=DIALECT[:PORT]",
        help="serve this endpoint instead of one for each dialect; may be repeated",
    )
    parser.add_argument(
        "--control-port",
        type=within(int, 0, 65_535),
        default=CONTROL_PORT,
        help="default: %(default)s; 0 takes a free one",
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

    endpoints, ports = _endpoints(options.endpoint)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    simulator = Simulator(
        _scenario(options),
        endpoints=endpoints,
        ports=ports,
        log_dir=options.log_dir,
        host=options.host,
        control_port=options.control_port,
    )
    async with simulator:
        print(json.dumps(_addresses(simulator)), flush=True)
        await stop.wait()


def _scenario(options: argparse.Namespace) -> Scenario:
    from pydantic import ValidationError

    from sluice_simulator.scenario import Scenario, read_scenario

    try:
        scenario = read_scenario(options.scenario) if options.scenario else Scenario()
    except (OSError, ValueError, ValidationError) as error:
        raise SluiceError(f"the scenario {options.scenario} cannot be used: {error}") from error
    return scenario if options.seed is None else scenario.model_copy(update={"seed": options.seed})


def _endpoints(options: list[str]) -> tuple[dict[str, str], dict[str, int]]:
    """Endpoint names with their dialects, and with their ports."""
    from sluice_simulator.registry import DIALECTS

    if not options:
        return {name: name for name in DIALECTS}, {name: dialect.default_port for name, dialect in DIALECTS.items()}
    endpoints: dict[str, str] = {}
    ports: dict[str, int] = {}
    for text in options:
        name, _, rest = text.partition("=")
        dialect, _, port = rest.partition(":")
        if not name or dialect not in DIALECTS or not (port or "0").isdecimal():
            form = f"NAME=DIALECT or NAME=DIALECT:PORT, with a DIALECT of {', '.join(DIALECTS)}"
            raise SluiceError(f"--endpoint {text}: the form is {form}")
        endpoints[name], ports[name] = dialect, int(port or 0)
    return endpoints, ports


def _addresses(simulator: Simulator) -> dict[str, object]:
    """The line of JSON that is printed when the simulator is ready."""
    endpoints = {
        name: {"dialect": endpoint.dialect.name, "port": endpoint.port}
        for name, endpoint in simulator.endpoints.items()
    }
    return {"host": simulator.host, "endpoints": endpoints, "control": simulator.control_url}
