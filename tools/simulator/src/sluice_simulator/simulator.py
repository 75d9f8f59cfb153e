"""The simulator: far ends behind doors, two ledgers, a postman, and a control port."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Self

from sluice.providers.contract import TransportKind
from sluice_simulator.call_log import CallLog
from sluice_simulator.control_api import handle_control
from sluice_simulator.endpoint import Endpoint
from sluice_simulator.http_endpoint import handle_request
from sluice_simulator.http_server import listen_http
from sluice_simulator.registry import DIALECTS
from sluice_simulator.scenario import Scenario
from sluice_simulator.smtp_endpoint import SmtpEndpoint
from sluice_simulator.smtp_server import SmtpSettings, listen_smtp
from sluice_simulator.webhook_sender import WebhookSender

CALLS, RECEIPTS = "calls.jsonl", "receipts.jsonl"  # in the ledger folder


class Simulator:
    """``async with Simulator() as simulator``: serves on free loopback ports until the block ends.

    ``doors``: name -> kind of far end, so that there can be two SMTP servers; by default one of each kind, named
    after it. ``ports``: door name -> port, 0 or none for a free one. ``ledger``: the folder for both ledgers.
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
        kinds = endpoints if endpoints is not None else {name: name for name in DIALECTS}
        self.endpoints = {
            name: Endpoint(name, DIALECTS[kind], self.call_log, self.webhook_sender) for name, kind in kinds.items()
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
        if endpoint.dialect.transport is TransportKind.SMTP:
            listener = await listen_smtp(SmtpEndpoint(endpoint), self._smtp_settings(endpoint.name), self.host, port)
        else:
            listener = await listen_http(partial(handle_request, endpoint), self.host, port)
        stack.push_async_callback(listener.close)
        return listener.port

    def _smtp_settings(self, endpoint: str) -> SmtpSettings:
        return self._smtp if isinstance(self._smtp, SmtpSettings) else self._smtp.get(endpoint, SmtpSettings())

    def apply_scenario(self, scenario: Scenario) -> None:
        """Take over another script, from the next call on."""
        self.scenario = scenario
        for endpoint in self.endpoints.values():
            endpoint.apply_scenario(scenario)

    def address(self, endpoint: str) -> tuple[str, int]:
        """Host and port of a door."""
        return self.host, self.endpoints[endpoint].port

    def url(self, endpoint: str) -> str:
        """The ``baseUrl`` of an HTTP door."""
        return f"http://{self.host}:{self.endpoints[endpoint].port}"

    @property
    def control_url(self) -> str:
        return f"http://{self.host}:{self._control_port}"

    @property
    def calls(self) -> list[dict[str, object]]:
        """The last calls, as they are in the ledger."""
        return list(self.call_log.lines)
