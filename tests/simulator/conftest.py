"""A place that receives receipts, and calls as a provider's customer makes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from sluice.providers.adapters.resend import RESEND, ResendCredentials
from sluice.providers.adapters.twilio_sms import TWILIO, TwilioCredentials
from sluice.providers.contract import Outgoing
from sluice.transports.http import HttpWire, open_http
from sluice_simulator import Simulator
from sluice_simulator.dialect import HttpAnswer, HttpCall
from sluice_simulator.http_server import HttpConnection, listen_http
from tests.unit.providers.examples import an_email, an_sms, outgoing

WEBHOOK_SECRET = "whsec_c2ltdWxhdG9yLXRlc3Qta2V5"
ACCOUNT = {"accountSid": "AC" + "0" * 32, "authToken": "token"}


@pytest.fixture
async def http() -> AsyncIterator[HttpWire]:
    async with open_http() as wire:
        yield wire


def resend_credentials(simulator: Simulator, door: str = "resend") -> ResendCredentials:
    fields = {"apiKey": "re_1", "webhookSecret": WEBHOOK_SECRET, "baseUrl": simulator.url(door)}
    return ResendCredentials.model_validate(fields)


def twilio_credentials(simulator: Simulator) -> TwilioCredentials:
    return TwilioCredentials.model_validate({**ACCOUNT, "baseUrl": simulator.twilio_url})


class Customer:
    """Calls the simulator's doors, one request each."""

    def __init__(self, simulator: Simulator, wire: HttpWire) -> None:
        self.simulator = simulator
        self.wire = wire

    async def email(self, message: Outgoing | None = None, *, door: str = "resend") -> httpx.Response:
        request = RESEND.build(message or outgoing(an_email()), resend_credentials(self.simulator, door))
        return await self.wire.exchange(request, deadline=10)

    async def sms(self, message: Outgoing | None = None) -> httpx.Response:
        request = TWILIO.build(message or outgoing(an_sms()), twilio_credentials(self.simulator))
        return await self.wire.exchange(request, deadline=10)


class Inbox:
    """Takes receipts; answers with the statuses it is given, then with 204."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[HttpCall] = []
        self.statuses: list[int] = []
        self.arrived = asyncio.Event()

    def take(self, call: HttpCall, connection: HttpConnection) -> None:
        self.calls.append(call)
        self.arrived.set()
        connection.answer(HttpAnswer(self.statuses.pop(0) if self.statuses else 204, b""))


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    taking = Inbox()
    listener = await listen_http(taking.take, "127.0.0.1", 0)
    taking.url = f"http://127.0.0.1:{listener.port}/receipts/prv_1"
    yield taking
    await listener.close()
