"""The simulator in a thread of its own: the vendors' SDKs block, and their calls must be answered meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sluice_simulator import EndpointScenario, Scenario, Simulator


class ThreadedSimulator:
    """Every endpoint of the simulator, on free loopback ports."""

    def __init__(self, simulator: Simulator, loop: asyncio.AbstractEventLoop) -> None:
        self._simulator = simulator
        self._loop = loop

    def url(self, endpoint: str) -> str:
        """Where an SDK finds this provider."""
        return self._simulator.url(endpoint)

    @contextmanager
    def behaving(self, endpoint: str, **scenario: Any) -> Iterator[None]:
        """The endpoint follows this :class:`EndpointScenario` until the block ends, and waits for its receipts."""
        self._apply(Scenario(endpoints={endpoint: EndpointScenario.model_validate(scenario)}))
        try:
            yield
            self._run(self._simulator.webhook_sender.wait_idle())
        finally:
            self._apply(Scenario())

    def _apply(self, scenario: Scenario) -> None:
        async def apply() -> None:
            self._simulator.apply_scenario(scenario)

        self._run(apply())

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)


@contextmanager
def threaded_simulator() -> Iterator[ThreadedSimulator]:
    """Serve until the block ends."""
    started: list[ThreadedSimulator] = []
    ready = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        async with Simulator() as simulator:
            started.append(ThreadedSimulator(simulator, asyncio.get_running_loop()))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="simulator", daemon=True)
    thread.start()
    assert ready.wait(30)
    (simulator,) = started
    try:
        yield simulator
    finally:
        simulator._loop.call_soon_threadsafe(stop.set)
        thread.join(30)


class Inbox:
    """Receives the simulator's receipts, for SDKs that verify and read them."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/receipts"
        self.calls: list[tuple[dict[str, str], bytes]] = []  # headers (names in lower case) and raw body


@contextmanager
def receipt_inbox() -> Iterator[Inbox]:
    """Listen on a free loopback port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            inbox.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        inbox = Inbox(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield inbox
        finally:
            server.shutdown()
