"""Floor C: accept, insert a row, enqueue with Taskiq on a Redis stream, POST (first one provider, then the other),
set the row to sent. No health, no idempotency, no events, no recovery."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
from fastapi import FastAPI
from pydantic import BaseModel
from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import RedisStreamBroker

from bench.peers.settings import HEADERS, POSTGRES, PROVIDERS, REDIS

broker = RedisStreamBroker(REDIS, queue_name="bench-taskiq")


class Message(BaseModel):
    """The request."""

    channel: str
    to: list[str]
    subject: str
    text: str


async def _open(state: TaskiqState) -> None:
    state.pool = await asyncpg.create_pool(POSTGRES, min_size=8, max_size=8)
    state.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=256))


async def _close(state: TaskiqState) -> None:
    await state.session.close()
    await state.pool.close()


broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, _open)
broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, _close)


async def _deliver(message_id: str, body: str) -> None:
    state = broker.state
    for provider in PROVIDERS:
        try:
            async with state.session.post(
                f"{provider}/emails", data=body.encode(), headers=HEADERS, timeout=aiohttp.ClientTimeout(total=10)
            ) as answer:
                await answer.read()
                if answer.status < 300:
                    await state.pool.execute("UPDATE messages SET status = 'sent' WHERE id = $1", message_id)
                    return
        except (aiohttp.ClientError, TimeoutError):
            continue
    await state.pool.execute("UPDATE messages SET status = 'failed' WHERE id = $1", message_id)


deliver: Any = broker.task(task_name="deliver")(_deliver)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    await broker.startup()
    async with asyncpg.create_pool(POSTGRES, min_size=8, max_size=8) as pool:
        app.state.pool = pool
        yield
    await broker.shutdown()


app = FastAPI(lifespan=_lifespan)


async def _accept(message: Message) -> dict[str, str]:
    message_id = str(uuid4())
    body = message.model_dump() | {"from": "Bench <bench@sluice.example>"}
    text = json.dumps(body)
    await app.state.pool.execute("INSERT INTO messages (id, body, status) VALUES ($1, $2, 'queued')", message_id, text)
    await deliver.kiq(message_id, text)
    return {"id": message_id, "status": "queued"}


app.add_api_route("/v1/messages/channel", _accept, methods=["POST"], status_code=201)
