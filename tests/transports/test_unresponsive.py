"""When a provider that answers no more is noticed: calls of real transports, as a bulkhead sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

from sluice.delivery.bulkhead import Bulkhead, ObservedCall
from sluice.providers.kit.smpp_types import SmppSubmission
from sluice.transports.http import open_http
from sluice.transports.provider_call import NoAnswerError, NotSentError, OnProgress
from sluice.transports.smpp.session import SmppSession
from sluice.transports.smpp.transport import SmppTransport, SubmitSettings
from sluice.transports.smtp import open_smtp
from tests.loopback import LOCAL, LOOPBACK
from tests.polling import virtual_time
from tests.transports.conftest import server
from tests.transports.scripted_smtp import Scripted
from tests.transports.smpp.conftest import Handler, config
from tests.transports.smpp.test_session_faults import ENQUIRE, RESPONSE, Peer, faulty
from tests.transports.test_smtp_limits import after, submission

USUAL = 0.05  # seconds, of the calls before
CALL_TIMEOUT = 10.0  # seconds, of an HTTP call
QUEUE_TIMEOUT = 2.0  # seconds
_CHECK_INTERVAL = 0.25  # seconds; a worker's is shorter, which takes more leaps of the clock

Exchange = Callable[[OnProgress], Coroutine[Any, Any, Any]]


async def noticed_after(exchange: Exchange, *, every: float, within: float) -> float | None:
    """The time at which the bulkhead finds the provider unresponsive, with a new call every so many seconds.

    None if it does not in that time. No call has ended by then.
    """
    loop = asyncio.get_running_loop()
    bulkhead: Bulkhead[int] = Bulkhead(256)
    bulkhead.record_latency(USUAL)
    calls: list[asyncio.Task[None]] = []

    async def call(number: int) -> None:
        bulkhead.enqueue(number, loop.time(), urgent=False)
        assert bulkhead.acquire(loop.time()) == number
        observed = ObservedCall(bulkhead, number, loop.time())
        try:
            await exchange(lambda _: observed.begin_step(loop.time()))
        except (NoAnswerError, NotSentError):
            observed.end(loop.time(), answered=False)
        bulkhead.release(number, loop.time())

    began = loop.time()
    try:
        while (passed := loop.time() - began) < within:
            if passed >= len(calls) * every:
                calls.append(asyncio.create_task(call(len(calls))))
            await asyncio.sleep(_CHECK_INTERVAL)
            bulkhead.check(loop.time(), QUEUE_TIMEOUT)
            if bulkhead.unresponsive:
                assert not any(one.done() for one in calls)
                return loop.time() - began
        return None
    finally:
        for one in calls:
            one.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.parametrize("named", [0.0, 130.0])  # seconds, of the package
@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"])
async def test_a_hanging_http_provider_is_noticed_before_its_first_time_limit(said: bytes, named: float) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await reader.read()

    async with open_http(outgoing=LOOPBACK, timeout=CALL_TIMEOUT) as transport, server(talk) as port:
        extensions = {"timeout": {"read": named}}
        request = httpx.Request("POST", f"http://127.0.0.1:{port}/", content=b"{}", extensions=extensions)
        with virtual_time():
            found = await noticed_after(
                lambda on_progress: transport.exchange(request, deadline=3600, on_progress=on_progress),
                every=0.25,
                within=CALL_TIMEOUT,
            )

    assert found is not None


@pytest.mark.parametrize("verb", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "dot"])
async def test_a_mail_server_that_hangs_anywhere_is_noticed(verb: str) -> None:
    """Also one that answers every command of each new call, and none at the end of a mail."""
    scripted = Scripted(replies={verb: ""})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        with virtual_time():
            found = await noticed_after(
                lambda on_progress: transport.exchange(submission(port), deadline=3600, on_progress=on_progress),
                every=0.25,
                within=CALL_TIMEOUT,
            )

    assert found is not None


async def test_a_mail_server_whose_steps_end_is_alive() -> None:
    """Six seconds for a mail, of which no step takes as long as an overdue call (0.5 s)."""
    scripted = Scripted(replies={verb: after(0.4) for verb in ("EHLO", "MAIL", "RCPT")})
    async with open_smtp(LOCAL) as transport, scripted.serving() as port:
        request = submission(port, 13)
        with virtual_time():
            found = await noticed_after(
                lambda on_progress: transport.exchange(request, deadline=3600, on_progress=on_progress),
                every=1.0,
                within=5.0,
            )

    assert found is None


async def test_an_smsc_that_answers_enquiries_and_no_message_is_noticed() -> None:
    async def script(peer: Peer) -> None:
        await peer.bind()
        while True:
            command, _, sequence, _ = await peer.read()
            if command == ENQUIRE:
                peer.write(command | RESPONSE, 0, sequence)

    transport = SmppTransport(SubmitSettings())
    request = SmppSubmission("att_1", "ACME", "+2348012345678", "Hello")
    async with faulty(script) as (_, port):
        with virtual_time():
            async with SmppSession(config(port), Handler()) as session:
                await session.wait_bound()
                transport.session = session
                found = await noticed_after(
                    lambda on_progress: transport.exchange(request, deadline=3600, on_progress=on_progress),
                    every=0.25,
                    within=CALL_TIMEOUT,
                )

    assert found is not None
