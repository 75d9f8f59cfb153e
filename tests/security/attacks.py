"""The attacks of the security review, each for as long as its target says, and newer ones of the same kinds.

Each is named after what it sends; the comment names the finding.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress

from sluice.store.api_keys import LIVE, generate_key
from tests.examples import a_body, as_json
from tests.security.bodies import HOSTILE, SIZE, a_large_mail
from tests.security.peers import Target, repeat, request

SEND = "/v1/messages/channel"
HELD = 3_000  # connections that an attacker holds open; one address may have 2,048

Attack = Callable[[Target], Awaitable[None]]


async def upgrade_with_a_body(target: Target) -> None:
    """Finding 1: a body behind ``Connection: Upgrade`` that contains a request."""
    inner = b"\r\n" * 4_000 + request("/v1/messages/x", f"X-Sendpipe-Key: {target.key}")
    headers = ("Connection: Upgrade", "Upgrade: foo")
    await repeat(target, 8, lambda: target.send(request("/v1/receipts/x", *headers, method="POST", body=inner)))


async def heads_without_end(target: Target) -> None:
    """Finding 2: many headers, one long header, a long URL, trailers; each up to 40 MB."""
    chunked = request("/v1/receipts/x", "Transfer-Encoding: chunked", method="POST") + b"1\r\nx\r\n0\r\n"
    kinds = itertools.cycle(
        [
            (b"GET / HTTP/1.1\r\nHost: x\r\n", b"a:\r\n" * 16_384),
            (b"GET / HTTP/1.1\r\nHost: x\r\na: ", b"x" * 65_536),
            (b"GET /", b"x" * 65_536),
            (b"GET / HTTP/1.1\r\nHost: x\r\n", b"x" * 65_536),
            (chunked, b"a: b\r\n" * 10_000),
        ]
    )

    async def once() -> None:
        start, piece = next(kinds)
        await target.send(_endless(start, piece))

    await repeat(target, 8, once)


async def _endless(start: bytes, piece: bytes, size: int = 40_000_000) -> AsyncIterator[bytes]:
    yield start
    for _ in range(size // len(piece)):
        yield piece


async def pipelined_requests(target: Target) -> None:
    """Finding 3: a megabyte of requests in one write, on twenty connections, the answers not read."""
    block = request("/errors") * 20_000

    async def once() -> None:
        async with target.connection() as (_, writer):
            writer.write(block)
            await writer.drain()
            await asyncio.sleep(0.5)

    await repeat(target, 20, once)


async def hostile_bodies(target: Target) -> None:
    """Finding 4: send requests of 26 MB that cost much more to decode than to send."""
    bodies = itertools.cycle([body_of(SIZE // 4) for body_of in HOSTILE.values()])
    key = f"X-Sendpipe-Key: {target.key}"
    await repeat(target, 4, lambda: target.send(request(SEND, key, method="POST", body=next(bodies))))


async def hostile_bodies_without_a_key(target: Target) -> None:
    """Finding 4: the routes that read a JSON body before they look for a key."""
    numbers = b'{"a":[0' + b",0" * 520_000 + b"]}"
    json = "Content-Type: application/json"
    await repeat(target, 8, lambda: target.send(request("/v1/auth/login", json, method="POST", body=numbers)))


async def large_messages_and_reading_them(target: Target) -> None:
    """Finding 4: large mails, and reading a large message back again and again."""
    key = f"X-Sendpipe-Key: {target.key}"
    read = request(f"/v1/messages/{target.message}", key)
    mail = request(SEND, key, method="POST", body=a_large_mail(SIZE))
    turn = itertools.count()
    await repeat(target, 4, lambda: target.send(mail if next(turn) % 20 == 0 else read))


async def idle_connections(target: Target) -> None:
    """Finding 5: as many connections as one address can open, with nothing on them."""
    async with AsyncExitStack() as stack:
        for _ in range(HELD):
            if target.time_left <= 0:
                break
            with suppress(OSError):
                await stack.enter_async_context(target.connection())
                target.count(b"")
        await asyncio.sleep(max(0.0, target.time_left))


async def slow_heads(target: Target) -> None:
    """Finding 5: a byte of a head now and then."""

    async def drip() -> AsyncIterator[bytes]:
        yield b"GET / HTTP/1.1\r\n"
        while True:
            yield b"a"
            await asyncio.sleep(1)

    await repeat(target, 500, lambda: target.send(drip()))


async def unread_answers(target: Target) -> None:
    """Finding 3: requests whose answers are never read."""

    async def once() -> None:
        async with target.connection() as (reader, writer):
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(200):
                writer.write(request("/errors") * 50)
                await writer.drain()

    await repeat(target, 50, once)


async def unknown_keys(target: Target) -> None:
    """Finding 10: keys that are well formed and unknown."""
    body = as_json(a_body())

    async def once() -> None:
        key, _ = generate_key(LIVE)
        await target.send(request(SEND, f"X-Sendpipe-Key: {key}", method="POST", body=body))

    await repeat(target, 100, once)


async def slow_bodies(target: Target) -> None:
    """Finding 13: bodies of 26 MB, of which the last megabyte does not arrive."""

    async def most_of_it() -> AsyncIterator[bytes]:
        head = request(SEND, f"X-Sendpipe-Key: {target.key}", f"Content-Length: {SIZE}", method="POST")
        yield head + b'{"html":"'
        for _ in range(25):
            yield b"x" * 1_000_000
        await asyncio.sleep(max(0.0, target.time_left))

    await repeat(target, 30, lambda: target.send(most_of_it()))


async def slow_bodies_without_a_key(target: Target) -> None:
    """Finding 13: bodies on the routes that need no key, as many as there are connections."""

    async def most_of_it() -> AsyncIterator[bytes]:
        yield request("/v1/auth/login", "Content-Length: 1048576", method="POST")
        yield b" " * 1_000_000
        await asyncio.sleep(max(0.0, target.time_left))

    await repeat(target, 400, lambda: target.send(most_of_it()))


async def forged_receipts(target: Target) -> None:
    """Findings 7 and 18: receipts of 1 MB with a false signature, for a provider that exists."""
    body = b'{"type":"email.bounced","created_at":"9999-12-31T23:59:59-23:59","pad":"' + b"x" * 1_000_000 + b'"}'
    headers = ("Svix-Id: a", "Svix-Timestamp: 1", "Svix-Signature: v1,AAAA")
    path = f"/v1/receipts/{target.provider}"
    await repeat(target, 20, lambda: target.send(request(path, *headers, method="POST", body=body)))


async def urgent_messages(target: Target) -> None:
    """Finding 16: one tenant sends as much as it can, and calls all of it urgent."""
    body = as_json(a_body(**{"class": "urgent"}))
    key = f"X-Sendpipe-Key: {target.key}"
    await repeat(target, 16, lambda: target.send(request(SEND, key, method="POST", body=body)))


async def pages_for_operators(target: Target) -> None:
    """Finding 21: metrics, readiness and redirects, asked for on the public port."""
    paths = itertools.cycle(["/metrics", "/readyz", "/errors", "/openapi.json", "/v1/messages/x/"])
    await repeat(target, 20, lambda: target.send(request(next(paths))))


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        upgrade_with_a_body,
        heads_without_end,
        pipelined_requests,
        hostile_bodies,
        hostile_bodies_without_a_key,
        large_messages_and_reading_them,
        idle_connections,
        slow_heads,
        unread_answers,
        unknown_keys,
        slow_bodies,
        slow_bodies_without_a_key,
        forged_receipts,
        urgent_messages,
        pages_for_operators,
    )
}
