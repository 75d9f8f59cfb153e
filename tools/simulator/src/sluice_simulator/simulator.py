"""The simulator: fake providers on their endpoints, two logs, a webhook sender, and a control port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Self

from sluice.providers.contract import TransportKind
from sluice_simulator import http_endpoint, smpp_endpoint, smtp_endpoint
from sluice_simulator.call_log import CallLog
from sluice_simulator.control_api import handle_control
from sluice_simulator.endpoint import Endpoint
from sluice_simulator.http_server import listen_http
from sluice_simulator.listener import Listener
from sluice_simulator.registry import DIALECTS
from sluice_simulator.scenario import Scenario
from sluice_simulator.smtp_server import SmtpSettings
from sluice_simulator.webhook_sender import WebhookSender

CALLS, RECEIPTS = "calls.jsonl", "receipts.jsonl"  # in the log folder

Serve = Callable[[Endpoint, str, int, SmtpSettings], Awaitable[Listener]]
SERVERS: Mapping[TransportKind, Serve] = {
    TransportKind.HTTP: http_endpoint.serve,
    TransportKind.SMTP: smtp_endpoint.serve,
    TransportKind.SMPP: smpp_endpoint.serve,
}


class Simulator:
    """``async with Simulator() as simulator``: serves on free loopback ports until the block ends.

    ``endpoints``: name -> dialect, so that there can be two SMTP servers; by default one for each dialect, named after
    it. ``ports``: endpoint -> port, 0 or none for a free one. ``log_dir``: the folder of both logs. ``smtp``: for all
    SMTP endpoints, or by endpoint.
    """

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        endpoints: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None,
        log_dir: Path | None = None,
        host: str = "127.0.0.1",
        control_port: int = 0,
        smtp: SmtpSettings | Mapping[str, SmtpSettings] | None = None,
    ) -> None:
        self.scenario = scenario or Scenario()
        self.host = host
        self.call_log = CallLog(log_dir / CALLS if log_dir else None)
        self.webhook_log = CallLog(log_dir / RECEIPTS if log_dir else None)
        self.webhook_sender = WebhookSender(self.webhook_log)
        dialects = endpoints if endpoints is not None else {name: name for name in DIALECTS}
        self.endpoints = {
            name: Endpoint(name, DIALECTS[dialect], self.call_log, self.webhook_sender)
            for name, dialect in dialects.items()
        }
        self._ports = dict(ports or {})
        self._smtp = smtp or SmtpSettings()
        self._control_port = control_port
        self._stack = AsyncExitStack()
        self.apply_scenario(self.scenario)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.callback(self.webhook_log.close)
            stack.callback(self.call_log.close)
            await self.webhook_sender.open()
            stack.push_async_callback(self.webhook_sender.close)
            for endpoint in self.endpoints.values():
                endpoint.port = await self._listen(stack, endpoint)
            listener = await listen_http(partial(handle_control, self), self.host, self._control_port)
            stack.push_async_callback(listener.close)
            self._control_port = listener.port
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _listen(self, stack: AsyncExitStack, endpoint: Endpoint) -> int:
        port = self._ports.get(endpoint.name, 0)
        settings = self._smtp if isinstance(self._smtp, SmtpSettings) else self._smtp.get(endpoint.name, SmtpSettings())
        listener = await SERVERS[endpoint.dialect.transport](endpoint, self.host, port, settings)
        stack.push_async_callback(listener.close)
        return listener.port

    def apply_scenario(self, scenario: Scenario) -> None:
        """Follow another scenario from the next call on; ValidationError, and no change, when it does not fit."""
        for endpoint in self.endpoints.values():
            endpoint.read_dashboard(scenario)
        self.scenario = scenario
        for endpoint in self.endpoints.values():
            endpoint.apply_scenario(scenario)

    def address(self, endpoint: str) -> tuple[str, int]:
        """Host and port of an endpoint."""
        return self.host, self.endpoints[endpoint].port

    def url(self, endpoint: str) -> str:
        """The ``baseUrl`` of an HTTP endpoint."""
        return f"http://{self.host}:{self.endpoints[endpoint].port}"

    @property
    def control_url(self) -> str:
        return f"http://{self.host}:{self._control_port}"

    @property
    def calls(self) -> list[dict[str, object]]:
        """The last calls, as they are in the call log."""
        return list(self.call_log.lines)
