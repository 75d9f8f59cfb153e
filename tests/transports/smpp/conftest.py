"""A session's handler that keeps what it gets, configurations for loopback, and hypothesis without a clock."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import settings
from pydantic import SecretStr

from sluice.transports.smpp.contract import Accepted, OutboundSms, Refused, SessionEvent, SmppConfig
from sluice.transports.smpp.pdu import Address, ShortMessage

settings.register_profile("sluice", deadline=None, max_examples=60)
settings.load_profile("sluice")

LONG = 20.0  # seconds: a limit that a passing test does not reach
SHORT = 0.1  # seconds: a limit that the test waits for


class Handler:
    """Keeps everything in queues. ``gate`` closed: a store waits; ``failures``: as many stores raise."""

    def __init__(self) -> None:
        self.stored: asyncio.Queue[ShortMessage] = asyncio.Queue()
        self.late: asyncio.Queue[tuple[str, Accepted | Refused]] = asyncio.Queue()
        self.events: asyncio.Queue[SessionEvent] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.failures = 0

    async def store(self, message: ShortMessage) -> None:
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the database is unavailable")
        self.stored.put_nowait(message)

    async def late_answer(self, reference: str, result: Accepted | Refused) -> None:
        self.late.put_nowait((reference, result))

    def on_event(self, event: SessionEvent) -> None:
        self.events.put_nowait(event)

    async def event(self, kind: type[SessionEvent]) -> Any:
        """The next event of a kind; those before it are dropped."""
        while True:
            event = await self.events.get()
            if isinstance(event, kind):
                return event


def config(port: int, **fields: Any) -> SmppConfig:
    """Reconnects at once, so that a test waits for nothing but what it is about."""
    usual: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "system_id": "acme",
        "password": SecretStr("secret"),
        "reconnect_delay": 0.01,
        "max_reconnect_delay": 0.02,
        "drain_timeout": LONG,
    }
    return SmppConfig(**{**usual, **fields})


def sms(text: str = "Hello", reference: str = "att_1", **fields: Any) -> OutboundSms:
    addresses = {"source": Address.of("ACME"), "destination": Address.of("+2348012345678")}
    return OutboundSms(reference=reference, text=text, **{**addresses, **fields})
