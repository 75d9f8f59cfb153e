"""The simulator: far ends behind doors, two ledgers, a postman, and a control port."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Self

from sluice.providers.contract import Wire
from sluice_simulator.call_log import Ledger
from sluice_simulator.control_api import control
from sluice_simulator.endpoint import Door
from sluice_simulator.http_endpoint import take_call
from sluice_simulator.http_server import listen_http
from sluice_simulator.registry import FAR_ENDS
from sluice_simulator.scenario import Script
from sluice_simulator.smtp_endpoint import SmtpDoor
from sluice_simulator.smtp_server import SmtpSettings, listen_smtp
from sluice_simulator.webhook_sender import Postman

CALLS, RECEIPTS = "calls.jsonl", "receipts.jsonl"  # in the ledger folder


class Simulator:
    """``async with Simulator() as simulator``: serves on free loopback ports until the block ends.

    ``doors``: name -> kind of far end, so that there can be two SMTP servers; by default one of each kind, named
    after it. ``ports``: door name -> port, 0 or none for a free one. ``ledger``: the folder for both ledgers.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        doors: Mapping[str, str] | None = None,
        ports: Mapping[str, int] | None = None,
        ledger: Path | None = None,
        host: str = "127.0.0.1",
        control_port: int = 0,
        smtp: SmtpSettings | Mapping[str, SmtpSettings] | None = None,
    ) -> None:
        self.script = script or Script()
        self.host = host
        self.ledger = Ledger(ledger / CALLS if ledger else None)
        self.receipts = Ledger(ledger / RECEIPTS if ledger else None)
        self.postman = Postman(self.receipts)
        kinds = doors if doors is not None else {name: name for name in FAR_ENDS}
        self.doors = {name: Door(name, FAR_ENDS[kind], self.ledger, self.postman) for name, kind in kinds.items()}
        self._ports = dict(ports or {})
        self._smtp = smtp or SmtpSettings()
        self._control_port = control_port
        self._stack = AsyncExitStack()
        self.follow(self.script)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.callback(self.receipts.close)
            stack.callback(self.ledger.close)
            await self.postman.open()
            stack.push_async_callback(self.postman.close)
            for door in self.doors.values():
                door.port = await self._listen(stack, door)
            listener = await listen_http(partial(control, self), self.host, self._control_port)
            stack.push_async_callback(listener.close)
            self._control_port = listener.port
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _listen(self, stack: AsyncExitStack, door: Door) -> int:
        port = self._ports.get(door.name, 0)
        if door.far_end.wire is Wire.SMTP:
            listener = await listen_smtp(SmtpDoor(door), self._smtp_settings(door.name), self.host, port)
        else:
            listener = await listen_http(partial(take_call, door), self.host, port)
        stack.push_async_callback(listener.close)
        return listener.port

    def _smtp_settings(self, door: str) -> SmtpSettings:
        return self._smtp if isinstance(self._smtp, SmtpSettings) else self._smtp.get(door, SmtpSettings())

    def follow(self, script: Script) -> None:
        """Take over another script, from the next call on."""
        self.script = script
        for door in self.doors.values():
            door.follow(script)

    def address(self, door: str) -> tuple[str, int]:
        """Host and port of a door."""
        return self.host, self.doors[door].port

    def url(self, door: str) -> str:
        """The ``baseUrl`` of an HTTP door."""
        return f"http://{self.host}:{self.doors[door].port}"

    @property
    def smtp_address(self) -> tuple[str, int]:
        return self.address("smtp")

    @property
    def resend_url(self) -> str:
        return self.url("resend")

    @property
    def twilio_url(self) -> str:
        return self.url("twilio")

    @property
    def control_url(self) -> str:
        return f"http://{self.host}:{self._control_port}"

    @property
    def calls(self) -> list[dict[str, object]]:
        """The last calls, as they are in the ledger."""
        return list(self.ledger.lines)
