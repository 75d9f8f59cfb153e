"""One call has one outcome, whatever a package, a transport or a provider does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Divided,
    Outcome,
    ProviderFault,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.providers.adapters.resend import RESEND, ResendCredentials
from sluice.providers.adapters.sandbox import SANDBOX, CaptureRequest, CaptureResult, SandboxCredentials
from sluice.providers.contract import AnyPackage, TransportKind, UnsupportedMessageError
from sluice.transports import provider_call
from sluice.transports.provider_call import NoAnswerError, NotSentError, OnProgress, call_provider, ignore_progress
from tests.unit.providers.examples import an_email, an_sms, outbound

SECRET = "re_very_secret_key"
CREDENTIALS = ResendCredentials.model_validate({"apiKey": SECRET})


class FakeTransport:
    """Returns a given response, and records the requests."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.requests: list[Any] = []

    async def exchange(self, request: Any, *, deadline: float, on_progress: OnProgress = ignore_progress) -> Any:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def outcome_of(answer: Any, package: AnyPackage = RESEND, **changes: Any) -> Outcome | Divided:
    message = outbound(an_email(), **changes)
    return await call_provider(package, message, CREDENTIALS, {TransportKind.HTTP: FakeTransport(answer)}, deadline=1)


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (httpx.Response(200, json={"id": "x"}), Accepted("x", receipt_ids=("x",))),
        (NotSentError("refused"), ProviderFault("not sent: refused")),
        (NoAnswerError("reset"), Unknown("no answer: reset")),
        (RuntimeError(f"bug with {SECRET}"), Unknown("the transport failed (RuntimeError)")),
    ],
)
async def test_the_result_of_the_transport_becomes_the_outcome(answer: Any, outcome: Outcome) -> None:
    assert await outcome_of(answer) == outcome


async def test_a_message_that_cannot_be_expressed_is_rejected_before_any_transport_is_used() -> None:
    transport = FakeTransport(httpx.Response(200))
    refusing = replace(RESEND, build=failing(UnsupportedMessageError("no text")))

    outcome = await call_provider(
        refusing, outbound(an_email()), CREDENTIALS, {TransportKind.HTTP: transport}, deadline=1
    )

    assert outcome == Declined(Reason.UNSUPPORTED, "no text")
    assert transport.requests == []


async def test_the_time_limit_of_a_package_is_in_its_request() -> None:
    transport, slow = FakeTransport(httpx.Response(200)), replace(RESEND, http_timeout=lambda _: 130.0)

    for package in (slow, RESEND):
        await call_provider(package, outbound(an_email()), CREDENTIALS, {TransportKind.HTTP: transport}, deadline=1)

    assert [request.extensions for request in transport.requests] == [{"timeout": {"read": 130.0}}, {}]


async def test_a_bug_in_build_is_a_rejection_that_quotes_nothing() -> None:
    broken = replace(RESEND, build=failing(KeyError("ana@example.org")))

    assert await outcome_of(None, broken) == Declined(
        Reason.INVALID_CONTENT, "the message could not be built (KeyError)"
    )


async def test_a_bug_in_classify_leaves_the_outcome_unknown() -> None:
    broken = replace(RESEND, classify=failing(TypeError(SECRET)))

    assert await outcome_of(httpx.Response(200), broken) == Unknown("the response could not be read (TypeError)")


async def test_a_reason_names_neither_recipient_nor_secret() -> None:
    words = f"key {SECRET} may not write to ana@example.org, nor to Boss <other@example.net>"
    answer = httpx.Response(403, json={"name": "invalid_api_key", "message": words})

    outcome = await outcome_of(answer)

    assert isinstance(outcome, AuthFailed)
    assert "may not write to" in outcome.detail
    assert not [word for word in (SECRET, "ana@", "other@") if word in outcome.detail]


async def test_a_transport_that_keeps_no_deadline_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        async def exchange(self, request: Any, *, deadline: float, on_progress: OnProgress = ignore_progress) -> Any:
            await asyncio.Event().wait()

    monkeypatch.setattr(provider_call, "GRACE", 0.0)

    outcome = await call_provider(
        RESEND, outbound(an_email()), CREDENTIALS, {TransportKind.HTTP: Endless()}, deadline=0.01
    )

    assert isinstance(outcome, Unknown)


async def test_a_cancelled_call_stays_cancelled() -> None:
    class Endless:
        async def exchange(self, request: Any, *, deadline: float, on_progress: OnProgress = ignore_progress) -> Any:
            await asyncio.Event().wait()

    task = asyncio.create_task(
        call_provider(RESEND, outbound(an_email()), CREDENTIALS, {TransportKind.HTTP: Endless()}, deadline=60)
    )
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_sandbox_captures_the_message_as_it_is() -> None:
    transport = FakeTransport(CaptureResult("cap_1"))

    outcome = await call_provider(
        SANDBOX, outbound(an_sms()), SandboxCredentials(), {TransportKind.SANDBOX: transport}, deadline=1
    )

    assert outcome == Accepted("cap_1")
    assert transport.requests == [CaptureRequest("att_01HX", "msg_01HX", "+15005550100", an_sms())]
