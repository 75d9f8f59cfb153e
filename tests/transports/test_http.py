"""The HTTP transport over loopback: what is sent, what comes back, and what follows from it."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
from typing import Any

import aiohttp
import httpx
import pytest
import uvloop

from sluice.model.outcome import ProviderFault
from sluice.providers.adapters.resend import RESEND, ResendCredentials
from sluice.providers.contract import AnyPackage, Credentials
from sluice.transports import http as http_module
from sluice.transports.http import MAX_RESPONSE_BYTES, HttpTransport, open_http
from sluice.transports.provider_call import NoAnswerError, NotSentError, Transports, call_provider
from sluice_simulator import Simulator
from tests.loopback import LOOPBACK
from tests.polling import virtual_time
from tests.transports.conftest import Certificate, server
from tests.unit.providers.examples import an_email, outbound

SHORT = 0.5  # seconds of virtual time: the deadline of a call that is expected never to end


def resend(url: str) -> tuple[AnyPackage, Credentials]:
    return RESEND, ResendCredentials.model_validate({"apiKey": "re_1", "baseUrl": url})


NOBODY = "http://127.0.0.1:1"


@pytest.mark.parametrize("url", [NOBODY, "http://nowhere.invalid"])
async def test_what_never_connected_was_not_sent(transports: Transports, url: str) -> None:
    outcome = await call_provider(*swapped(resend(url)), transports, deadline=5)

    assert isinstance(outcome, ProviderFault)
    assert outcome.detail.startswith("not sent")


def swapped(account: tuple[AnyPackage, Credentials]) -> tuple[Any, Any, Any]:
    package, credentials = account
    return package, outbound(an_email()), credentials


async def test_nothing_is_sent_to_a_server_with_an_untrusted_certificate(
    transports: Transports, certificate: Certificate
) -> None:
    received: list[bytes] = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(certificate.context)
        received.append(await reader.read())

    async with server(read) as port:
        outcome = await call_provider(*swapped(resend(f"https://127.0.0.1:{port}")), transports, deadline=5)

    assert outcome == ProviderFault("not sent: the server's certificate is not valid")
    assert received == []


async def exchange(transport: HttpTransport, port: int, *, deadline: float = 5, **headers: str) -> httpx.Response:
    request = httpx.Request("POST", f"http://127.0.0.1:{port}/emails", headers=headers, content=b"{}")
    return await transport.exchange(request, deadline=deadline)


def saying(reply: bytes) -> Any:
    """Reads one request, says this, and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(reply)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return talk


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_an_answer_that_breaks_off_is_no_answer(reply: bytes) -> None:
    async with open_http(outgoing=LOOPBACK) as transport, server(saying(reply)) as port:
        with pytest.raises(NoAnswerError):
            await exchange(transport, port)


async def test_headers_and_then_nothing_is_no_answer() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        await reader.read()

    async with open_http(outgoing=LOOPBACK) as transport, server(talk) as port:
        with virtual_time(), pytest.raises(NoAnswerError):
            await exchange(transport, port, deadline=SHORT)


@pytest.mark.parametrize(("size", "answers_after", "answered"), [(2, 9, True), (2, 11, False), (6_400_000, 100, True)])
async def test_f12_the_time_limit_of_a_call_grows_with_its_body(
    size: int, answers_after: float, answered: bool
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(size)
        await asyncio.sleep(answers_after)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    limits: list[float] = []
    async with open_http(outgoing=LOOPBACK, timeout=10) as transport, server(talk) as port:
        request = httpx.Request("POST", f"http://127.0.0.1:{port}/", content=b"x" * size)
        with virtual_time():
            if answered:
                response = await transport.exchange(request, deadline=3600, on_progress=limits.append)
                assert response.status_code == 200
            else:
                with pytest.raises(NoAnswerError):
                    await transport.exchange(request, deadline=3600, on_progress=limits.append)

    assert limits == [10 + size / 65536]


@pytest.mark.parametrize(
    ("named", "deadline", "limit"), [(130.0, 3600.0, 130.0), (5.0, 3600.0, 10.0), (130.0, 15.0, 15.0)]
)
async def test_a_request_may_name_a_longer_limit_within_the_deadline(
    named: float, deadline: float, limit: float
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(limit - 1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    limits: list[float] = []
    async with open_http(outgoing=LOOPBACK, timeout=10) as transport, server(talk) as port:
        extensions = {"timeout": {"read": named}}
        request = httpx.Request("POST", f"http://127.0.0.1:{port}/", extensions=extensions)
        with virtual_time():
            response = await transport.exchange(request, deadline=deadline, on_progress=limits.append)

    assert response.status_code == 200
    assert limits == [limit]


async def test_a_request_that_waited_for_a_connection_in_vain_was_not_sent() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with open_http(outgoing=LOOPBACK, connections_per_origin=1) as transport, server(hang) as port:
        with virtual_time():
            first = asyncio.create_task(exchange(transport, port, deadline=2 * SHORT))
            await asyncio.sleep(0)
            with pytest.raises(NotSentError):
                await exchange(transport, port, deadline=SHORT)
            with pytest.raises(NoAnswerError):
                await first


async def test_a_server_that_never_shakes_hands_was_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "_LIMITS", aiohttp.ClientTimeout(sock_connect=0.1))

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with open_http(outgoing=LOOPBACK) as transport, server(hang) as port:
        with pytest.raises(NotSentError, match="connecting took too long"):
            await transport.exchange(httpx.Request("POST", f"https://127.0.0.1:{port}/"), deadline=5)


async def test_no_exchange_that_failed_keeps_its_place_in_the_pool() -> None:
    replies = [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{", b"220 mail.example ESMTP\r\n"]
    well = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        if replies:
            writer.write(replies.pop())
            return
        await well.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with open_http(outgoing=LOOPBACK, connections_per_origin=1) as transport, server(talk) as port:
        for _ in range(len(replies)):
            with pytest.raises(NoAnswerError):
                await exchange(transport, port)
        with virtual_time(), pytest.raises(NoAnswerError):
            await exchange(transport, port, deadline=SHORT)
        with pytest.raises(NotSentError):
            await exchange(transport, port, authorization="\n")
        cancelled = asyncio.create_task(exchange(transport, port))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        well.set()

        assert (await exchange(transport, port)).status_code == 200


@pytest.mark.parametrize("end", ["\r\nX: y", "\nX: y", "\r", "\0", "\x7f"])
async def test_a_header_with_a_line_break_is_not_sent(end: str) -> None:
    async with Simulator() as simulator, open_http(outgoing=LOOPBACK) as transport:
        with pytest.raises(NotSentError):
            await exchange(transport, simulator.endpoints["resend"].port, authorization="Bearer re_1" + end)

        assert simulator.calls == []


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    reply = b"HTTP/1.1 307 Go\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n"
    async with open_http(outgoing=LOOPBACK) as transport, server(saying(reply)) as port:
        assert (await exchange(transport, port)).status_code == 307


async def test_an_endless_answer_is_cut() -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with open_http(outgoing=LOOPBACK) as transport, server(flood) as port:
        answer = await exchange(transport, port)

    assert answer.status_code == 200
    assert len(answer.content) == MAX_RESPONSE_BYTES


async def test_a_compressed_answer_is_not_unpacked() -> None:
    bomb = gzip.compress(b"x" * 10_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    async with open_http(outgoing=LOOPBACK) as transport, server(saying(head.encode() + bomb)) as port:
        answer = await exchange(transport, port)

    assert answer.content == bomb


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    monkeypatch.setenv("ALL_PROXY", NOBODY)
    reply = b"HTTP/1.1 204 No\r\n\r\n"
    async with open_http(outgoing=LOOPBACK) as transport, server(saying(reply)) as port:
        assert (await exchange(transport, port)).status_code == 204


async def test_no_cookie_is_sent_back() -> None:
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await reader.readuntil(b"\r\n\r\n{}"))
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    async with open_http(outgoing=LOOPBACK) as transport, server(talk) as port:
        await exchange(transport, port)
        await exchange(transport, port)

    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


async def test_the_request_goes_out_as_it_was_built_and_over_one_connection() -> None:
    seen: list[tuple[str, bytes]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = f"{writer.get_extra_info('peername')}"
        while True:
            seen.append((client, await reader.readuntil(b"\r\n\r\n{}")))
            writer.write(b"HTTP/1.1 200 OK\r\nX-Twice: 1\r\nX-Twice: 2\r\nContent-Length: 2\r\n\r\n{}")

    async with open_http(outgoing=LOOPBACK) as transport, server(talk) as port:
        answers = [await exchange(transport, port, authorization="Bearer x") for _ in range(3)]

    clients, requests = zip(*seen, strict=True)
    assert len(set(clients)) == 1
    assert requests[0].startswith(b"POST /emails HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{port}".encode() in requests[0].lower()
    assert b"content-length: 2" in requests[0].lower()
    assert b"user-agent" not in requests[0].lower()
    assert [answer.headers.get_list("x-twice") for answer in answers] == [["1", "2"]] * 3


async def test_an_answer_before_the_end_of_the_request_is_an_answer() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Large\r\nContent-Length: 2\r\n\r\n{}")
        await asyncio.Event().wait()

    async with open_http(outgoing=LOOPBACK) as transport, server(refuse) as port:
        request = httpx.Request("POST", f"http://127.0.0.1:{port}/emails", content=b"x" * 20_000_000)
        answers = [await transport.exchange(request, deadline=5) for _ in range(2)]  # on a new connection

    assert [(answer.status_code, answer.content) for answer in answers] == [(413, b"{}")] * 2


async def test_an_interim_answer_is_not_the_answer() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with (
        open_http(outgoing=LOOPBACK) as transport,
        server(saying(interim + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as port,
    ):
        assert (await exchange(transport, port)).status_code == 200

    async with open_http(outgoing=LOOPBACK) as transport, server(saying(interim)) as port:
        with pytest.raises(NoAnswerError):
            await exchange(transport, port)


@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
async def test_no_request_is_sent_twice(method: str) -> None:
    received: list[bytes] = []

    async def take_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))

    async with open_http(outgoing=LOOPBACK) as transport, server(take_and_close) as port:
        with pytest.raises(NoAnswerError):
            await transport.exchange(httpx.Request(method, f"http://127.0.0.1:{port}/"), deadline=5)

    assert len(received) == 1


async def test_a_connection_that_was_closed_in_the_pool_took_nothing() -> None:
    def kept_then_closed(listening: socket.socket, closed: threading.Event) -> None:
        client, _ = listening.accept()
        with client:
            client.recv(65536)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        closed.set()

    async def twice() -> None:
        closed = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            provider = threading.Thread(target=kept_then_closed, args=(listening, closed))
            provider.start()
            port = listening.getsockname()[1]
            async with open_http(outgoing=LOOPBACK) as transport:
                await exchange(transport, port)
                closed.wait()  # blocks the event loop: it has not seen the end when the connection is reused
                with pytest.raises(NotSentError):
                    await exchange(transport, port)
            provider.join()

    await asyncio.to_thread(uvloop.run, twice())  # the roles' event loop: it asks the network before it goes on
