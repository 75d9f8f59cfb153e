"""Serving an HTTP dialect: read the call, decide by the scenario, take the message or not, respond or not."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from hashlib import sha256
from typing import Any

from sluice_simulator.dialect import FakeRequest, FakeResponse, ParsedSend, Refused
from sluice_simulator.endpoint import Decision, Endpoint, IdempotencyEntry
from sluice_simulator.http_server import HttpConnection, listen_http
from sluice_simulator.listener import Listener
from sluice_simulator.scenario import REFUSALS, Behaviour
from sluice_simulator.smtp_server import SmtpSettings

# A response of something in front of a provider: it does not say whether the provider took the message.
PROXY_ERROR = FakeResponse(500, b"<html><h1>Internal Server Error</h1></html>", (("Content-Type", "text/html"),))
GARBAGE = FakeResponse(200, b"<html>Welcome to the hotel's network</html>", (("Content-Type", "text/html"),))
_WHOLE_RESPONSE = re.compile(r"([345]\d\d) (\{.*\})", re.DOTALL)


def handle_request(endpoint: Endpoint, request: FakeRequest, connection: HttpConnection) -> None:
    """The handler of an HTTP endpoint."""
    dialect = endpoint.dialect
    assert dialect.read is not None
    send = dialect.read(request)
    if not isinstance(send, ParsedSend):
        answered = connection.respond(send.response)
        behaviour = "unreadable" if isinstance(send, Refused) else "other"
        status = send.response.status
        endpoint.record(
            accepted=False, answered=answered, behaviour=behaviour, status=status, **_request_fields(request)
        )
        return
    entry, known = endpoint.lookup(send, request.body)
    if known is not None:
        answered = connection.respond(known)
        endpoint.record(
            accepted=False, answered=answered, behaviour="repeat", status=known.status, **_call_fields(send, request)
        )
        return
    if send.forced_response is not None:
        answered = connection.respond(send.forced_response)
        endpoint.record(
            accepted=False,
            answered=answered,
            behaviour="test",
            status=send.forced_response.status,
            **_call_fields(send, request),
        )
        return
    _process(endpoint, request, connection, send, entry)


def _process(
    endpoint: Endpoint, request: FakeRequest, connection: HttpConnection, send: ParsedSend, entry: IdempotencyEntry
) -> None:
    decision = endpoint.decide(send.recipient)
    if decision.behaviour.takes:
        endpoint.store(send, entry)
        endpoint.webhook_sender.schedule_receipts(endpoint, send, decision.rule)
    finish = partial(_finish, endpoint, request, connection, send, entry, decision)
    if not decision.delay:
        finish()
        return
    timer = asyncio.get_running_loop().call_later(decision.delay, finish)
    connection.on_lost = partial(_client_gone, timer, finish)


def _client_gone(timer: asyncio.TimerHandle, finish: partial[None]) -> None:
    """The client disconnected before its response was due: the line is written now."""
    timer.cancel()
    finish()


def _finish(
    endpoint: Endpoint,
    request: FakeRequest,
    connection: HttpConnection,
    send: ParsedSend,
    entry: IdempotencyEntry,
    decision: Decision,
) -> None:
    """Respond as decided, and log the call."""
    connection.on_lost = None  # the call is over: the end of the connection no longer concerns it
    response = _answer(endpoint, send, decision)
    if decision.behaviour.takes:
        entry.response = response
    status, answered = _respond(connection, decision.behaviour, response)
    endpoint.record(
        accepted=decision.behaviour.takes,
        answered=answered,
        decision=decision,
        behaviour=decision.behaviour,
        status=status,
        provider_message_id=send.provider_message_id if decision.behaviour.takes else None,
        **_call_fields(send, request),
    )


def _answer(endpoint: Endpoint, send: ParsedSend, decision: Decision) -> FakeResponse:
    """The dialect's response. The code of a refusal may be a whole response, which is sent as it is."""
    dialect, behaviour, rule = endpoint.dialect, decision.behaviour, decision.rule
    assert dialect.respond is not None
    if behaviour not in REFUSALS:
        return dialect.respond(behaviour, send, rule)
    code = rule.code or dialect.declines.get(behaviour)
    whole = _WHOLE_RESPONSE.fullmatch(code or "")
    if whole is not None:
        return FakeResponse(int(whole[1]), whole[2].encode())
    if behaviour in (Behaviour.DECLINE, Behaviour.DECLINE_ACCOUNT):
        return dialect.respond(Behaviour.REJECT, send, rule.model_copy(update={"code": code}))
    return dialect.respond(behaviour, send, rule)


def _respond(connection: HttpConnection, behaviour: Behaviour, response: FakeResponse) -> tuple[int | None, bool]:
    """The intended status, and whether the whole response was written."""
    match behaviour:
        case Behaviour.HANG | Behaviour.ACCEPT_SILENT:
            return None, False
        case Behaviour.RESET | Behaviour.ACCEPT_RESET:
            connection.reset()
            return None, False
        case Behaviour.DRIP:
            connection.drip(response)
            return response.status, False
        case Behaviour.ACCEPT_500:
            return PROXY_ERROR.status, connection.respond(PROXY_ERROR)
        case Behaviour.GARBAGE:
            return GARBAGE.status, connection.respond(GARBAGE)
        case _:
            return response.status, connection.respond(response)


def _request_fields(request: FakeRequest) -> dict[str, Any]:
    return {"body": sha256(request.body).hexdigest(), "path": request.path}


def _call_fields(send: ParsedSend, request: FakeRequest) -> dict[str, Any]:
    return {
        "reference": send.reference,
        "key": send.idempotency_key,
        "message_id": send.message_id,
        "recipient": send.recipient,
        "body": sha256(request.body).hexdigest(),
    }


async def serve(endpoint: Endpoint, host: str, port: int, _: SmtpSettings) -> Listener:
    """Serve until the listener is closed; ``port`` 0 takes a free one."""
    return await listen_http(partial(handle_request, endpoint), host, port)
