"""FCM with its exchange of tokens, from the worker's cache to the simulator's two endpoints."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from sluice.delivery.tokens import TokenCache
from sluice.model.message import Push
from sluice.model.outcome import Accepted, AuthFailed
from sluice.providers.account import Account
from sluice.providers.adapters.fcm import FCM, build_token_request
from sluice.runtime.clock import utc_now
from sluice.transports.http import HttpTransport
from sluice.transports.opening import open_transports
from sluice_simulator import Simulator
from sluice_simulator.dialects.fcm import issue_token
from tests.loopback import LOCAL
from tests.unit.providers.examples import outbound
from tests.unit.providers.test_fcm import DEVICE, with_fields


def an_account(simulator: Simulator) -> Account:
    return Account(uuid4(), 1, FCM, with_fields(baseUrl=simulator.url("fcm")))


async def test_many_notifications_need_one_exchange() -> None:
    async with Simulator(endpoints={"fcm": "fcm"}) as simulator, open_transports(limits=LOCAL) as transports:
        cache, account = TokenCache(transports), an_account(simulator)

        message = outbound(Push(title="x"), recipient=DEVICE)
        outcomes = await asyncio.gather(*(cache.call(account, message, deadline=10) for _ in range(20)))

        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        assert sorted(str(call["behaviour"]) for call in simulator.calls) == ["accept"] * 20 + ["other"]


@pytest.mark.parametrize(
    ("token", "outcome"),
    [
        (issue_token(9_999_999_999), Accepted),
        (issue_token(1), AuthFailed),
        (issue_token(9_999_999_999) + "0", AuthFailed),
        ("ya29.9999999999.0", AuthFailed),
        ("ya29." + "9" * 5000, AuthFailed),
        ("x", AuthFailed),
    ],
)
async def test_only_an_issued_token_sends(http: HttpTransport, token: str, outcome: type) -> None:
    async with Simulator(endpoints={"fcm": "fcm"}) as simulator:
        message = outbound(Push(title="x"), recipient=DEVICE, access_token=SecretStr(token))
        request = FCM.build(message, with_fields(baseUrl=simulator.url("fcm")))

        assert isinstance(FCM.classify(await http.exchange(request, deadline=10)), outcome)


def altered(assertion: str) -> list[str]:
    header, claims, signature = assertion.split(".")
    return [
        "",
        "x",
        f"{header}.{claims}",
        f"{header}.{claims}.",
        f"{header}.{claims}.AAAA",
        f"{claims}.{header}.{signature}",
    ]


async def test_only_a_signed_assertion_is_exchanged(http: HttpTransport) -> None:
    async with Simulator(endpoints={"fcm": "fcm"}) as simulator:
        request = build_token_request(with_fields(baseUrl=simulator.url("fcm")), utc_now())
        fields = dict(httpx.QueryParams(request.content.decode()))
        for assertion in altered(fields["assertion"]):
            form = httpx.QueryParams({**fields, "assertion": assertion})
            refused = await http.exchange(httpx.Request("POST", request.url, content=str(form).encode()), deadline=10)

            assert FCM.token is not None
            assert isinstance(FCM.token.read_token(refused, utc_now()), AuthFailed)


async def test_an_assertion_of_another_hour_is_not_exchanged(http: HttpTransport) -> None:
    async with Simulator(endpoints={"fcm": "fcm"}) as simulator:
        credentials = with_fields(baseUrl=simulator.url("fcm"))
        for shift in (-timedelta(hours=2), timedelta(hours=2)):
            refused = await http.exchange(build_token_request(credentials, utc_now() + shift), deadline=10)

            assert refused.json()["error"] == "invalid_grant"
