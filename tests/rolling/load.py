"""Send requests at a fixed rate, each repeated until a gateway has answered it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.examples import a_body
from tests.rolling.code import Installation

PATIENCE = 60.0  # seconds in which a request must be answered


class Load:
    """``accepted``: the ids of the messages. ``repeated``: requests that met a gateway that was being replaced."""

    def __init__(self, installation: Installation, key: str, rate: float) -> None:
        self.accepted: set[str] = set()
        self.faults: list[str] = []
        self.repeated = 0
        self._installation = installation
        self._key = key
        self._rate = rate

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send while the block runs; afterwards every request is answered."""
        over = asyncio.Event()
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            pacing = asyncio.create_task(self._pace(client, over))
            try:
                yield
            finally:
                over.set()
                await pacing

    async def _pace(self, client: httpx.AsyncClient, over: asyncio.Event) -> None:
        began, number = time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while not over.is_set():
                await asyncio.sleep(max(0.0, began + number / self._rate - time.monotonic()))
                group.create_task(self._send(client, number))
                number += 1

    async def _send(self, client: httpx.AsyncClient, number: int) -> None:
        headers = {"x-sendpipe-key": self._key, "idempotency-key": f"rolling-{number}"}
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                url = f"{self._installation.gateways[0]}/v1/messages/channel"
                answer = await client.post(url, headers=headers, json=a_body(subject=f"Number {number}"))
                status, text = answer.status_code, answer.text
            except httpx.TransportError as error:
                status, text = 0, type(error).__name__
            if status in (200, 201):
                self.accepted.add(answer.json()["id"])
                return
            if status not in (0, 429, 503) or time.monotonic() > deadline:
                self.faults.append(f"request {number} was answered {status}: {text[:200]}")
                return
            self.repeated += 1
            await asyncio.sleep(0.2)
