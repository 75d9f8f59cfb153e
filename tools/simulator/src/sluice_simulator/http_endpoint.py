"""Serving an HTTP far end: read the call, ask the script, take the message or not, answer or not."""

from __future__ import annotations

import asyncio
from functools import partial
from hashlib import sha256
from typing import Any

from sluice_simulator.dialect import HttpAnswer, HttpCall, Taken
from sluice_simulator.endpoint import Door, Remembered, Verdict
from sluice_simulator.http_server import HttpConnection
from sluice_simulator.scenario import Do

# What something in front of a provider says when the provider itself did not: nobody can tell whether it took
# the message.
IN_FRONT = HttpAnswer(500, b"<html><h1>Internal Server Error</h1></html>", (("Content-Type", "text/html"),))
GARBAGE = HttpAnswer(200, b"<html>Welcome to the hotel's network</html>", (("Content-Type", "text/html"),))


def take_call(door: Door, call: HttpCall, connection: HttpConnection) -> None:
    """The handler of an HTTP door."""
    far_end = door.far_end
    assert far_end.read is not None
    taken = far_end.read(call)
    if isinstance(taken, HttpAnswer):
        answered = connection.answer(taken)
        door.record(accepted=False, answered=answered, verdict="unreadable", status=taken.status, **_of(call))
        return
    memory, known = door.remembered(taken, call.body)
    if known is not None:
        answered = connection.answer(known)
        door.record(accepted=False, answered=answered, verdict="repeat", status=known.status, **_about(taken, call))
        return
    if taken.forced is not None:
        answered = connection.answer(taken.forced)
        door.record(
            accepted=False, answered=answered, verdict="test", status=taken.forced.status, **_about(taken, call)
        )
        return
    _work(door, call, connection, taken, memory)


def _work(door: Door, call: HttpCall, connection: HttpConnection, taken: Taken, memory: Remembered) -> None:
    verdict = door.judge(taken.recipient)
    if verdict.do.takes:
        door.remember(taken, memory)
        door.postman.accepted(door, taken, verdict.rule)
    finish = partial(_finish, door, call, connection, taken, memory, verdict)
    if not verdict.delay:
        finish()
        return
    timer = asyncio.get_running_loop().call_later(verdict.delay, finish)
    connection.on_lost = partial(_given_up, timer, finish)


def _given_up(timer: asyncio.TimerHandle, finish: partial[None]) -> None:
    """The client went before its answer was due: its fate is known now, so is what the ledger says."""
    timer.cancel()
    finish()


def _finish(
    door: Door, call: HttpCall, connection: HttpConnection, taken: Taken, memory: Remembered, verdict: Verdict
) -> None:
    """Answer as the verdict says, and write the call down."""
    assert door.far_end.answer is not None
    connection.on_lost = None  # a connection that ends from here on has no call left to give up
    answer = door.far_end.answer(verdict.do, taken, verdict.rule)
    if verdict.do.takes:
        memory.answer = answer
    status, answered = _respond(connection, verdict.do, answer)
    about = _about(taken, call)
    door.record(
        accepted=verdict.do.takes,
        answered=answered,
        verdict=verdict.do,
        status=status,
        provider_ref=taken.provider_ref if verdict.do.takes else None,
        **about,
    )


def _respond(connection: HttpConnection, do: Do, answer: HttpAnswer) -> tuple[int | None, bool]:
    """The status that was meant, and whether the whole answer went out."""
    match do:
        case Do.HANG | Do.ACCEPT_SILENT:
            return None, False
        case Do.RESET | Do.ACCEPT_RESET:
            connection.reset()
            return None, False
        case Do.DRIP:
            connection.drip(answer)
            return answer.status, False
        case Do.ACCEPT_500:
            return IN_FRONT.status, connection.answer(IN_FRONT)
        case Do.GARBAGE:
            return GARBAGE.status, connection.answer(GARBAGE)
        case _:
            return answer.status, connection.answer(answer)


def _of(call: HttpCall) -> dict[str, Any]:
    return {"body": sha256(call.body).hexdigest(), "path": call.path}


def _about(taken: Taken, call: HttpCall) -> dict[str, Any]:
    return {
        "reference": taken.reference,
        "key": taken.key,
        "message_id": taken.message_id,
        "recipient": taken.recipient,
        "body": sha256(call.body).hexdigest(),
    }
