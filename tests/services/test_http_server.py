"""The HTTP server of a role: responses arrive complete and in order, however they are written."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from sluice.runtime.http_server import serve_http
from sluice.runtime.settings import Settings
from sluice_launcher.process_info import free_port

LONG = "x" * 1_000_000


async def short(request):
    return PlainTextResponse(request.query_params["text"])


async def long(_):
    return PlainTextResponse(LONG)


async def slow(_):
    async def parts():
        yield "first"
        await asyncio.sleep(30.0)
        yield "second"

    return StreamingResponse(parts())


async def streamed(_):
    async def parts():
        for _ in range(1000):
            yield LONG[:1000]

    return StreamingResponse(parts())


APP = Starlette(routes=[Route(f"/{endpoint.__name__}", endpoint) for endpoint in (short, long, slow, streamed)])


@pytest.fixture
async def connection():
    settings = Settings(postgres_dsn="postgresql://nowhere", kafka_bootstrap_servers="nowhere:1", port=free_port())
    async with serve_http(APP, settings, grace=1.0):
        reader, writer = await asyncio.open_connection(settings.host, settings.port)
        yield reader, writer
        writer.close()


def a_request(path, **headers):
    lines = [f"GET {path} HTTP/1.1", "host: sluice", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def read_head(reader):
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5.0)


async def read_body(reader, head):
    _, _, length = head.partition(b"content-length: ")
    return await asyncio.wait_for(reader.readexactly(int(length.split(b"\r\n")[0])), 5.0)


async def test_pipelined_requests_are_answered_in_order(connection):
    reader, writer = connection
    writer.write(b"".join(a_request(f"/short?text={number}") for number in range(20)))

    responses = [await read_body(reader, await read_head(reader)) for _ in range(20)]

    assert responses == [str(number).encode() for number in range(20)]


async def test_a_long_response_arrives_complete(connection):
    reader, writer = connection
    writer.write(a_request("/long"))

    assert await read_body(reader, await read_head(reader)) == LONG.encode()


async def test_a_response_before_a_close_arrives_complete(connection):
    reader, writer = connection
    writer.write(a_request("/long", connection="close"))

    response = await asyncio.wait_for(reader.read(), 5.0)

    assert response.partition(b"\r\n\r\n")[2] == LONG.encode()


async def test_a_streamed_response_arrives_complete(connection):
    reader, writer = connection
    writer.write(a_request("/streamed", connection="close"))

    response = await asyncio.wait_for(reader.read(), 5.0)

    assert response.count(b"x") == len(LONG)
    assert response.endswith(b"0\r\n\r\n")


async def test_a_part_of_a_response_does_not_wait_for_the_rest(connection):
    reader, writer = connection
    writer.write(a_request("/slow"))

    assert await read_head(reader)
    assert b"first" in await asyncio.wait_for(reader.read(100), 5.0)


async def test_bytes_that_are_not_http_get_a_400(connection):
    reader, writer = connection
    writer.write(b"\x00\x01\r\n\r\n")

    assert (await asyncio.wait_for(reader.read(), 5.0)).startswith(b"HTTP/1.1 400 ")
