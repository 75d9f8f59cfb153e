"""The baseline: accept, insert a row, enqueue with Celery on Redis, POST with requests, set the row to sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any
from uuid import uuid4

import psycopg2
import requests
from celery import Celery
from fastapi import FastAPI
from psycopg2.pool import ThreadedConnectionPool
from pydantic import BaseModel

from bench.peers.settings import HEADERS, POSTGRES, PROVIDERS, REDIS

celery = Celery("bench", broker=REDIS)
celery.conf.update(task_ignore_result=True, task_default_queue="bench-celery", broker_connection_retry_on_startup=True)


class Message(BaseModel):
    """The request."""

    channel: str
    to: list[str]
    subject: str
    text: str


@cache
def _connection() -> Any:
    """One for each worker process, made at its first task."""
    connection = psycopg2.connect(POSTGRES)
    connection.autocommit = True
    return connection


@cache
def _session() -> requests.Session:
    return requests.Session()


def _deliver(message_id: str, body: str) -> None:
    answer = _session().post(f"{PROVIDERS[0]}/emails", data=body.encode(), headers=HEADERS, timeout=10)
    answer.raise_for_status()
    with _connection().cursor() as cursor:
        cursor.execute("UPDATE messages SET status = 'sent' WHERE id = %s", (message_id,))


deliver: Any = celery.task(name="deliver")(_deliver)

THREADS = 40  # as many as the framework runs plain functions in


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.pool = ThreadedConnectionPool(THREADS, THREADS, POSTGRES)
    yield
    app.state.pool.closeall()


app = FastAPI(lifespan=_lifespan)


def _accept(message: Message) -> dict[str, str]:
    message_id = str(uuid4())
    body = json.dumps(message.model_dump() | {"from": "Bench <bench@sluice.example>"})
    connection = app.state.pool.getconn()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO messages (id, body, status) VALUES (%s, %s, 'queued')", (message_id, body))
    finally:
        app.state.pool.putconn(connection)
    deliver.delay(message_id, body)
    return {"id": message_id, "status": "queued"}


app.add_api_route("/v1/messages/channel", _accept, methods=["POST"], status_code=201)
