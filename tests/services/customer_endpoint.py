"""A customer's endpoint on loopback: a real HTTP server that records what it gets."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True)
class Received:
    """One request. ``headers`` are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self):
        return json.loads(self.body)

    @property
    def id(self):
        return self.headers["webhook-id"]


class CustomerEndpoint:
    """Answers each path with its ``answers``: a status, a response, or a coroutine function; 200 without one."""

    def __init__(self):
        self.received = []
        self.answers = {}
        self.url = ""
        self.open_requests = 0

    def at(self, path):
        return [request for request in self.received if request.path == path]

    async def answer(self, request):
        self.open_requests += 1
        try:
            body = await request.read()
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.received.append(Received(request.path, headers, body))
            answer = self.answers.get(request.path, 200)
            if callable(answer):
                answer = await answer(request)
            return web.Response(status=answer, text=f"status {answer}") if isinstance(answer, int) else answer
        finally:
            self.open_requests -= 1


@asynccontextmanager
async def customer_endpoint():
    """An endpoint that runs until the block ends."""
    endpoint = CustomerEndpoint()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", endpoint.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield endpoint
    finally:
        await runner.cleanup()


async def never(_):
    """An answer that does not come."""
    await asyncio.Event().wait()
