"""Access tokens over a real HTTP server: one exchange, kept until shortly before expiry, replaced once if refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from sluice.delivery.tokens import REFRESH_BEFORE, TokenCache
from sluice.model.message import Channel
from sluice.model.outcome import Accepted, AuthFailed, Divided, Outcome, ProviderFault, Unknown
from sluice.providers.account import Account
from sluice.providers.contract import (
    Credentials,
    OutboundMessage,
    Package,
    Token,
    TokenExchange,
    TransportKind,
)
from sluice.providers.kit.requests import endpoint, post_form, post_json
from sluice.providers.kit.responses import json_object
from sluice.runtime.clock import utc_now
from sluice.transports.opening import open_transports
from sluice_simulator.dialect import FakeRequest, FakeResponse, json_response
from sluice_simulator.http_server import HttpConnection, listen_http
from tests.loopback import LOCAL
from tests.unit.providers.examples import an_sms, outbound

LIFETIME = timedelta(hours=1)


class FakeCredentials(Credentials):
    """A secret, and the server that knows it."""

    secret: SecretStr
    base_url: str


def build(message: OutboundMessage, credentials: FakeCredentials) -> httpx.Request:
    assert message.access_token is not None
    bearer = f"Bearer {message.access_token.get_secret_value()}"
    return post_json(endpoint(credentials.base_url, "/send"), {"to": message.recipient}, authorization=bearer)


def classify(response: httpx.Response) -> Outcome:
    if response.status_code == 401:
        return AuthFailed("token refused")
    return Accepted("id") if response.is_success else Unknown("?")


def build_token_request(credentials: FakeCredentials, _: datetime) -> httpx.Request:
    return post_form(endpoint(credentials.base_url, "/token"), {"secret": credentials.secret.get_secret_value()})


def read_token(response: httpx.Response, now: datetime) -> Token | AuthFailed | ProviderFault:
    body = json_object(response.content)
    if response.status_code == 200:
        return Token(SecretStr(body["access_token"]), now + timedelta(seconds=body["expires_in"]))
    kind = AuthFailed if response.status_code == 401 else ProviderFault
    return kind(str(body.get("error")))


PACKAGE = Package(
    name="provider-fake",
    title="Fake",
    channels=(Channel.SMS,),
    credentials=FakeCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    token=TokenExchange(build_token_request, read_token),
)


class FakeProvider:
    """A token endpoint and a send endpoint that accepts the newest token only."""

    def __init__(self) -> None:
        self.tokens = 0
        self.sends: list[str] = []
        self.lifetime = LIFETIME
        self.token_response: FakeResponse | None = None
        self.refuses_all = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self._answering: set[asyncio.Task[None]] = set()

    def handle(self, request: FakeRequest, connection: HttpConnection) -> None:
        if request.path == "/token":
            task = asyncio.ensure_future(self._issue(connection))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return
        token = request.headers[b"authorization"].decode().removeprefix("Bearer ")
        self.sends.append(token)
        refused = self.refuses_all or token != f"token-{self.tokens}"
        connection.respond(json_response(401 if refused else 200, {}))

    async def _issue(self, connection: HttpConnection) -> None:
        self.asked.set()
        await self.gate.wait()
        self.tokens += 1
        fields = {"access_token": f"token-{self.tokens}", "expires_in": self.lifetime.total_seconds()}
        connection.respond(self.token_response or json_response(200, fields))


class Client:
    """One account at the fake provider."""

    def __init__(self, cache: TokenCache, account: Account) -> None:
        self.cache, self.account = cache, account

    async def send(self, *, deadline: float = 10) -> Outcome | Divided:
        return await self.cache.call(self.account, outbound(an_sms()), deadline=deadline)


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
async def client(provider: FakeProvider) -> AsyncIterator[Client]:
    listener = await listen_http(provider.handle, "127.0.0.1", 0)
    fields = {"secret": "s3cr3t-value", "base_url": f"http://127.0.0.1:{listener.port}"}
    async with open_transports(limits=LOCAL) as transports:
        account = Account(UUID(int=1), 1, PACKAGE, FakeCredentials.model_validate(fields))
        yield Client(TokenCache(transports), account)
    await listener.close()


async def test_a_token_is_fetched_once_and_used_again(client: Client, provider: FakeProvider) -> None:
    assert [await client.send() for _ in range(3)] == [Accepted("id")] * 3
    assert (provider.tokens, provider.sends) == (1, ["token-1"] * 3)


async def test_a_token_is_not_asked_for_at_an_address_that_is_not_allowed(
    client: Client, provider: FakeProvider
) -> None:
    async with open_transports() as transports:
        outcome = await Client(TokenCache(transports), client.account).send()

    assert isinstance(outcome, AuthFailed)
    assert "SLUICE_OUTGOING_ALLOW" in outcome.detail
    assert not provider.asked.is_set()


async def test_calls_at_the_same_time_wait_for_one_exchange(client: Client, provider: FakeProvider) -> None:
    provider.gate.clear()
    calls = [asyncio.create_task(client.send()) for _ in range(20)]
    await provider.asked.wait()
    provider.gate.set()

    assert set(await asyncio.gather(*calls)) == {Accepted("id")}
    assert provider.tokens == 1


async def test_the_end_of_the_call_that_began_an_exchange_does_not_end_it(
    client: Client, provider: FakeProvider
) -> None:
    provider.gate.clear()
    first, second = asyncio.create_task(client.send()), asyncio.create_task(client.send())
    await provider.asked.wait()
    first.cancel()
    provider.gate.set()

    assert await second == Accepted("id")
    assert provider.tokens == 1
    assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], asyncio.CancelledError)


async def test_a_token_near_its_expiry_is_replaced_before_the_call(client: Client, provider: FakeProvider) -> None:
    provider.lifetime = REFRESH_BEFORE
    await client.send()
    provider.lifetime = LIFETIME

    assert await client.send() == Accepted("id")
    assert provider.sends == ["token-1", "token-2"]


async def test_new_credentials_get_a_new_token(client: Client, provider: FakeProvider) -> None:
    await client.send()
    client.account = replace(client.account, version=2)

    assert await client.send() == Accepted("id")
    assert provider.tokens == 2


async def test_a_cached_token_that_is_refused_is_replaced_once(client: Client, provider: FakeProvider) -> None:
    await client.send()
    provider.tokens = 5  # the first token is revoked

    assert await client.send() == Accepted("id")
    assert provider.sends == ["token-1", "token-1", "token-6"]


async def test_a_new_token_that_is_refused_is_an_account_fault(client: Client, provider: FakeProvider) -> None:
    provider.refuses_all = True

    assert await client.send() == AuthFailed("token refused")
    assert provider.sends == ["token-1"]


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (401, {"error": "bad s3cr3t-value"}, AuthFailed("token exchange: bad <hidden>")),
        (500, {"error": "down"}, ProviderFault("token exchange: down")),
        (200, {}, ProviderFault("token exchange: KeyError")),
    ],
)
async def test_a_refused_exchange_is_never_an_unknown_outcome(
    client: Client, provider: FakeProvider, status: int, body: dict[str, Any], outcome: Outcome
) -> None:
    provider.token_response = FakeResponse(status, json.dumps(body).encode())

    assert await client.send() == outcome
    assert provider.sends == []


async def test_a_failed_exchange_is_not_kept(client: Client, provider: FakeProvider) -> None:
    provider.token_response = FakeResponse(500, b"")
    await client.send()
    provider.token_response = None

    assert await client.send() == Accepted("id")


async def test_an_exchange_that_takes_too_long_is_a_provider_fault(client: Client, provider: FakeProvider) -> None:
    provider.gate.clear()

    outcome = await client.send(deadline=0.2)

    assert isinstance(outcome, ProviderFault)
    assert provider.sends == []
    provider.gate.set()


def test_a_token_shows_itself_nowhere() -> None:
    token = Token(SecretStr("s3cr3t-value"), utc_now())

    assert "s3cr3t-value" not in repr(token)
    assert "s3cr3t-value" not in repr(outbound(an_sms(), access_token=token.value))
