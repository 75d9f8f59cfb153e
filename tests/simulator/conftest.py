"""A receiver of webhooks, and calls as a provider's customer makes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from sluice.providers.adapters.resend import RESEND, ResendCredentials
from sluice.providers.adapters.twilio_sms import TWILIO, TwilioCredentials
from sluice.providers.contract import OutboundMessage
from sluice.transports.http import HttpTransport, open_http
from sluice_simulator import Simulator
from sluice_simulator.dialect import FakeRequest, FakeResponse
from sluice_simulator.http_server import HttpConnection, listen_http
from tests.loopback import LOOPBACK
from tests.unit.providers.examples import an_email, an_sms, outbound

WEBHOOK_SECRET = "whsec_c2ltdWxhdG9yLXRlc3Qta2V5"
ACCOUNT = {"accountSid": "AC" + "0" * 32, "authToken": "token"}


@pytest.fixture
async def http() -> AsyncIterator[HttpTransport]:
    async with open_http(outgoing=LOOPBACK) as transport:
        yield transport


def resend_credentials(simulator: Simulator, endpoint: str = "resend") -> ResendCredentials:
    fields = {"apiKey": "re_1", "webhookSecret": WEBHOOK_SECRET, "baseUrl": simulator.url(endpoint)}
    return ResendCredentials.model_validate(fields)


def twilio_credentials(simulator: Simulator) -> TwilioCredentials:
    return TwilioCredentials.model_validate({**ACCOUNT, "baseUrl": simulator.url("twilio")})


class SimulatorClient:
    """Calls the simulator's endpoints, one request each."""

    def __init__(self, simulator: Simulator, transport: HttpTransport) -> None:
        self.simulator = simulator
        self.transport = transport

    async def email(self, message: OutboundMessage | None = None, *, endpoint: str = "resend") -> httpx.Response:
        request = RESEND.build(message or outbound(an_email()), resend_credentials(self.simulator, endpoint))
        return await self.transport.exchange(request, deadline=10)

    async def sms(self, message: OutboundMessage | None = None) -> httpx.Response:
        request = TWILIO.build(message or outbound(an_sms()), twilio_credentials(self.simulator))
        return await self.transport.exchange(request, deadline=10)


class WebhookInbox:
    """Receives webhooks; responds with the given statuses, then with 204."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[FakeRequest] = []
        self.statuses: list[int] = []
        self.arrived = asyncio.Event()

    def take(self, call: FakeRequest, connection: HttpConnection) -> None:
        self.calls.append(call)
        self.arrived.set()
        connection.respond(FakeResponse(self.statuses.pop(0) if self.statuses else 204, b""))


@pytest.fixture
async def inbox() -> AsyncIterator[WebhookInbox]:
    taking = WebhookInbox()
    listener = await listen_http(taking.take, "127.0.0.1", 0)
    taking.url = f"http://127.0.0.1:{listener.port}/receipts/prv_1"
    yield taking
    await listener.close()
