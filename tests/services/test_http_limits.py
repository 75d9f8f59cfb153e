"""The HTTP server under clients that break HTTP, send too much, or keep it waiting."""

import asyncio
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sluice.runtime.http_protocol import LimitedHttpProtocol
from sluice.runtime.http_server import serve_http
from sluice.runtime.settings import Settings
from sluice_launcher.process_info import free_port

TIMEOUT = 10.0


class Application:
    """Echoes bodies, counts its requests, and holds ``/hold`` until it is released."""

    def __init__(self):
        self.paths = []
        self.released = asyncio.Event()
        self.disconnects = 0
        self.clients = []

    async def echo(self, request):
        self.paths.append(request.url.path)
        return Response(await request.body(), media_type="application/octet-stream")

    async def refuse(self, request):
        self.paths.append(request.url.path)
        return PlainTextResponse("too large", 413)

    async def hold(self, request):
        self.paths.append(request.url.path)
        await self.released.wait()
        return PlainTextResponse("held")

    async def read(self, request):
        try:
            await request.body()
        except Exception:
            self.disconnects += 1
            raise
        return PlainTextResponse("read")

    async def large(self, request):
        return PlainTextResponse("x" * 50_000_000)

    def routes(self):
        names = ("refuse", "hold", "read", "large")
        return [
            *(Route(f"/{name}", getattr(self, name), methods=["GET", "POST"]) for name in names),
            Route("/{path:path}", self.echo, methods=["GET", "POST"]),
        ]


@asynccontextmanager
async def serving(**limits):
    application = Application()
    settings = Settings(
        postgres_dsn="postgresql://nowhere", kafka_bootstrap_servers="nowhere:1", port=free_port(), **limits
    )
    async with serve_http(Starlette(routes=application.routes()), settings, grace=1.0):
        application.port = settings.port
        try:
            yield application
        finally:
            application.released.set()
            for writer in application.clients:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()


async def connect(application, **options):
    reader, writer = await asyncio.open_connection("127.0.0.1", application.port, **options)
    application.clients.append(writer)
    return reader, writer


async def exchange(application, *segments, pause=0.02):
    """Everything that the server sends until it closes, or until it is silent after a complete response."""
    reader, writer = await connect(application)
    for segment in segments:
        writer.write(segment)
        await asyncio.sleep(pause)
    return await read_to_end(reader)


async def read_to_end(reader, silence=0.3):
    received = b""
    while True:
        try:
            data = await asyncio.wait_for(reader.read(65_536), silence)
        except TimeoutError:
            return received, False
        except ConnectionResetError:
            return received, True
        if not data:
            return received, True
        received += data


def request(path, *headers, method="GET", version="1.1", host="host: sluice"):
    lines = [f"{method} {path} HTTP/{version}", *([host] if host else []), *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


SMUGGLED = request("/smuggled")


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_finding_1_a_body_behind_upgrade_is_the_body(framing, segments):
    async with serving() as application:
        for protocol in ("h2c", "websocket", "foo", "TLS/1.0, HTTP/1.1"):
            upgrade = (f"upgrade: {protocol}", "Connection: Upgrade, HTTP2-Settings")
            if framing == "length":
                head = request("/x", *upgrade, f"content-length: {len(SMUGGLED)}", method="POST")
                body = SMUGGLED
            else:
                head = request("/x", *upgrade, "transfer-encoding: chunked", method="POST")
                body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
            parts = (head + body,) if segments == 1 else (head, body)
            received, closed = await exchange(application, *parts)

            assert received.count(b"HTTP/1.1 200 ") == 1
            assert received.endswith(SMUGGLED)
            assert not closed
        assert application.paths == ["/x"] * 4


async def test_finding_1_padding_of_line_ends_carries_no_request():
    padding = b"\r\n" * 100_000 + SMUGGLED
    head = request("/x", "connection: Upgrade", "upgrade: foo", f"content-length: {len(padding)}", method="POST")
    async with serving() as application:
        await exchange(application, head + padding)

        assert application.paths == ["/x"]


CODED = ("transfer-encoding: chunked", "content-length: 4")
CHUNKED = b"4\r\nabcd\r\n0\r\n\r\n"
BROKEN = {
    "coding and length": (request("/", *CODED, method="POST") + CHUNKED, 400),
    "length and coding": (request("/", *reversed(CODED), method="POST") + CHUNKED, 400),
    "two lengths": (request("/", "content-length: 4", "content-length: 5", method="POST") + b"abcde", 400),
    "equal lengths": (request("/", "content-length: 4", "content-length: 4", method="POST") + b"abcd", 400),
    "list of lengths": (request("/", "content-length: 4, 4", method="POST") + b"abcd", 400),
    "signed length": (request("/", "content-length: +4", method="POST") + b"abcd", 400),
    "negative length": (request("/", "content-length: -4", method="POST") + b"abcd", 400),
    "huge length": (request("/", "content-length: 99999999999999999999", method="POST"), 400),
    "unknown coding": (request("/", "transfer-encoding: xchunked", method="POST") + CHUNKED, 400),
    "two codings": (request("/", "transfer-encoding: chunked, identity", method="POST") + CHUNKED, 400),
    "coding twice": (
        request("/", "transfer-encoding: chunked", "transfer-encoding: identity", method="POST") + CHUNKED,
        400,
    ),
    "blank before colon": (request("/", "transfer-encoding : chunked", method="POST") + CHUNKED, 400),
    "folded header": (request("/", "a: b\r\n c", method="POST"), 400),
    "bare line feed": (request("/", "a: b\nc: d"), 400),
    "bare carriage return": (request("/", "a: b\rc: d"), 400),
    "chunk with line feed": (request("/", "transfer-encoding: chunked", method="POST") + b"4\nabcd\n0\n\n", 400),
    "chunk in 0x": (request("/", "transfer-encoding: chunked", method="POST") + b"0x4\r\nabcd\r\n0\r\n\r\n", 400),
    "chunk too long": (request("/", "transfer-encoding: chunked", method="POST") + b"4\r\nabcdef\r\n0\r\n\r\n", 400),
    "chunk overflow": (request("/", "transfer-encoding: chunked", method="POST") + b"f" * 17 + b"\r\nabcd", 400),
    "no host": (request("/", host=None), 400),
    "two hosts": (request("/", "host: other"), 400),
    "1.0 with chunks": (request("/", "transfer-encoding: chunked", method="POST", version="1.0") + CHUNKED, 400),
    "0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "3.0": (request("/", version="3.0"), 400),
    "connect": (request("sluice:80", method="CONNECT"), 400),
    "unknown method": (request("/", method="BREW"), 400),
    "unknown expectation": (request("/", "expect: 200-ok", "content-length: 4", method="POST") + b"abcd", 417),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "blank lines": (b"\r\n\r\n\r\n" + request("/"), 400),
    "many headers": (request("/", *["a: b"] * 200), 431),
    "long header": (request("/", "a: " + "x" * 40_000), 431),
    "endless header": (request("/")[:-4] + b"\r\na: " + b"x" * 100_000, 431),
    "long name": (request("/", "x" * 40_000 + ": b"), 431),
    "long URL": (request("/" + "x" * 10_000), 414),
    "endless URL": (b"GET /" + b"x" * 100_000, 414),
    "trailers": (
        request("/", "transfer-encoding: chunked", method="POST") + b"0\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        431,
    ),
    "endless trailer": (request("/", "transfer-encoding: chunked", method="POST") + b"0\r\na: " + b"x" * 100_000, 431),
    "chunk extension": (request("/", "transfer-encoding: chunked", method="POST") + b"4;" + b"x" * 5_000, 400),
}


@pytest.mark.parametrize("segments", [1, 2])
async def test_findings_1_and_2_a_request_that_breaks_http_or_a_limit_gets_one_answer(segments):
    async with serving() as application:
        faults = {}
        for case, (sent, status) in BROKEN.items():
            middle = len(sent) // 2
            parts = (sent + SMUGGLED,) if segments == 1 else (sent[:middle], sent[middle:] + SMUGGLED)
            received, closed = await exchange(application, *parts)
            one = closed and received.count(b"HTTP/1.1 ") == 1 and b"\r\nconnection: close\r\n" in received
            if not one or int(received.split()[1]) not in (status, 505):
                faults[case] = received, closed

        assert faults == {}
        assert "/smuggled" not in application.paths


async def test_an_expected_continue_is_sent_when_the_body_is_wanted():
    async with serving() as application:
        reader, writer = await connect(application)
        writer.write(request("/x", "expect: 100-continue", "content-length: 4", method="POST"))
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT) == b"HTTP/1.1 100 Continue\r\n\r\n"

        writer.write(b"abcd")

        assert (await read_to_end(reader))[0].endswith(b"abcd")


async def test_finding_3_requests_behind_one_another_do_not_keep_others_waiting():
    async with serving() as application:
        flood_reader, flood = await connect(application)
        flood.write(request("/flood") * 5_000)
        drain = asyncio.create_task(read_to_end(flood_reader, silence=5.0))
        await asyncio.sleep(0)
        other_reader, other = await connect(application)
        other.write(request("/other"))
        await asyncio.wait_for(other_reader.readuntil(b"\r\n\r\n"), TIMEOUT)

        assert application.paths.count("/flood") < 4_000
        drain.cancel()


async def test_finding_3_the_requests_of_a_client_that_has_left_are_not_answered():
    async with serving() as application:
        _, writer = await connect(application)
        writer.write(request("/hold") + request("/later") * 100)
        await until(lambda: application.paths == ["/hold"])
        writer.transport.abort()
        await asyncio.sleep(0.1)
        application.released.set()
        await asyncio.sleep(0.2)

        assert "/later" not in application.paths


async def until(condition):
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", request("/")[:-2], b"\r\n"])
async def test_finding_5_a_head_that_does_not_arrive_ends_the_connection(sent):
    async with serving(http_head_timeout=0.2) as application:
        reader, writer = await connect(application)
        writer.write(sent)
        received, closed = await read_to_end(reader, silence=TIMEOUT)

        assert closed
        assert received.startswith(b"HTTP/1.1 408 ") or received == b""
        assert bool(received) == (len(sent) > 2)


async def test_finding_5_a_later_head_has_its_own_time():
    async with serving(http_head_timeout=0.3) as application:
        reader, writer = await connect(application)
        writer.write(request("/first"))
        assert (await read_to_end(reader, silence=1.0))[1] is False  # idle for longer than a head may take

        writer.write(b"GET /second")
        received, closed = await read_to_end(reader, silence=TIMEOUT)

        assert closed
        assert received.startswith(b"HTTP/1.1 408 ")


async def test_finding_13_a_body_that_drips_ends_the_connection():
    async with serving(http_body_grace=0.2, http_body_rate=1_000_000) as application:
        reader, writer = await connect(application)
        writer.write(request("/read", "content-length: 1000000", method="POST") + b"x" * 10)
        received, closed = await read_to_end(reader, silence=TIMEOUT)

        assert closed
        assert received.startswith(b"HTTP/1.1 408 ")
        assert application.disconnects == 1


async def test_large_bodies_are_read_by_turns(monkeypatch):
    """A few reads of all of them in one turn of the event loop, however many there are."""
    body, connections = bytes(1_000_000), 30
    head = request("/large-body", f"content-length: {len(body)}", "connection: close", method="POST")
    reads, loop, in_a_turn = [], asyncio.get_running_loop(), 0
    received = LimitedHttpProtocol.data_received

    def counted(self, data):
        nonlocal in_a_turn
        in_a_turn += self._body_bytes > 65_536
        received(self, data)

    def end_of_turn():
        nonlocal in_a_turn
        reads.append(in_a_turn)
        in_a_turn = 0
        nonlocal ending
        ending = loop.call_soon(end_of_turn)

    monkeypatch.setattr(LimitedHttpProtocol, "data_received", counted)
    async with serving() as application:
        ending = loop.call_soon(end_of_turn)
        try:
            answers = await asyncio.gather(*(exchange(application, head + body) for _ in range(connections)))
        finally:
            ending.cancel()

    assert [answer.endswith(body) for answer, _ in answers] == [True] * connections
    assert sum(reads) > connections
    assert max(reads) <= 2 * 4  # two turns of the loop may be between two counts


async def test_a_slow_application_is_not_the_fault_of_the_client():
    async with serving(http_body_grace=0.1, http_head_timeout=0.1) as application:
        reader, writer = await connect(application)
        writer.write(request("/hold", "content-length: 1000000", method="POST") + b"x" * 1_000_000)
        await asyncio.sleep(0.6)
        application.released.set()

        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT)).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_does_not_read_is_disconnected():
    async with serving(http_write_timeout=0.2) as application:
        reader, writer = await connect(application, limit=1_000)
        writer.write(request("/large"))
        await asyncio.sleep(1.0)

        received, closed = await read_to_end(reader, silence=TIMEOUT)

        assert closed
        assert len(received) < 50_000_000


async def test_a_refusal_is_readable_while_the_body_is_still_sent():
    async with serving() as application:
        reader, writer = await connect(application)
        writer.write(request("/refuse", "content-length: 30000000", method="POST"))
        sending = asyncio.create_task(send_all(writer, 30_000_000))
        received, closed = await read_to_end(reader, silence=TIMEOUT)

        assert received.startswith(b"HTTP/1.1 413 ")
        assert received.endswith(b"too large")
        assert closed
        sending.cancel()


async def test_a_client_that_sends_all_of_a_body_before_it_reads_gets_the_answer():
    async with serving() as application, httpx.AsyncClient(timeout=TIMEOUT) as client:
        for _ in range(20):
            answer = await client.post(f"http://127.0.0.1:{application.port}/refuse", content=b"x" * 5_000_000)
            assert (answer.status_code, answer.text) == (413, "too large")


async def test_only_a_few_refused_bodies_are_read_to_their_end_at_once():
    async with serving() as application:
        held = []
        for _ in range(10):
            reader, writer = await connect(application)
            writer.write(request("/refuse", "content-length: 20000000", method="POST") + b"x" * 1_000_000)
            await asyncio.wait_for(reader.readuntil(b"too large"), TIMEOUT)
            held.append(writer)
        sent = await asyncio.gather(*[send_all(writer, 19_000_000) for writer in held])

        assert sum(sent) <= 4


async def send_all(writer, size):
    """Whether the server has read it."""
    try:
        for _ in range(size // 100_000):
            writer.write(b"x" * 100_000)
            await writer.drain()
    except ConnectionError:
        return False
    return True


async def test_a_connection_is_kept_when_little_of_a_body_is_unread():
    async with serving() as application:
        reader, writer = await connect(application)
        writer.write(request("/refuse", "content-length: 1000", method="POST"))
        await asyncio.wait_for(reader.readuntil(b"too large"), TIMEOUT)
        writer.write(b"x" * 1000 + request("/next"))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT)

        assert application.paths == ["/refuse", "/next"]


async def test_the_unread_body_of_a_refused_request_does_not_wait_for_the_garbage_collector(monkeypatch):
    bodies = []
    complete = LimitedHttpProtocol.on_response_complete

    def noted(self):
        bodies.append((self, len(self.cycle.body)))
        complete(self)

    monkeypatch.setattr(LimitedHttpProtocol, "on_response_complete", noted)
    async with serving() as application:
        await exchange(application, request("/refuse", "content-length: 1000000", method="POST") + b"x" * 50_000)

    [(connection, unread)] = bodies
    assert unread > 0
    assert len(connection.cycle.body) == 0


@pytest.mark.parametrize("limit", [{"http_connections": 8}, {"http_connections_per_address": 8}])
async def test_finding_5_idle_connections_make_room_for_new_ones(limit):
    async with serving(**limit) as application:
        idle = [await connect(application) for _ in range(30)]
        reader, writer = await connect(application)
        writer.write(request("/new"))
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT)).startswith(b"HTTP/1.1 200 ")

        closed = [await closes(reader) for reader, _ in idle]

        assert closed == [True] * 23 + [False] * 7  # the oldest first


async def closes(reader):
    try:
        return await asyncio.wait_for(reader.read(1), 0.2) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


async def test_a_connection_with_a_request_in_hand_is_not_dropped_for_a_new_one():
    async with serving(http_connections=4) as application:
        busy = [await connect(application) for _ in range(4)]
        for _, writer in busy:
            writer.write(request("/hold"))
        await until(lambda: len(application.paths) == 4)
        refused, _ = await connect(application)
        assert await closes(refused)
        application.released.set()

        for reader, _ in busy:
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT)).startswith(b"HTTP/1.1 200 ")
