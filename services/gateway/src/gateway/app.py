"""The gateway's wiring."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

from fastapi import FastAPI
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway.auth.api_keys import ApiKeyAuthenticator
from gateway.error_page import create_error_page
from gateway.errors import ApiError, MethodNotAllowed, NotFound, ValidationFailed
from gateway.ingest.fast_path import SendFastPath, error_response
from gateway.ingest.ingest import MessageIngest
from gateway.ingest.kafka_ingress import SendRequestConsumer
from gateway.messages.v1 import create_messages
from gateway.receipts.endpoint import ReceiptEndpoint
from sluice.bus.consumer import Consumer, Limits
from sluice.bus.publisher import open_publisher
from sluice.bus.topics import Group, Topic
from sluice.delivery.outbox import OutboxPublisher
from sluice.delivery.retry_policy import RetryPolicy
from sluice.runtime.http_server import Readiness, ops_routes, serve_http
from sluice.runtime.logs import configure_logging
from sluice.runtime.settings import DispatchSettings, EncryptionSettings, load
from sluice.runtime.signals import shutdown_event
from sluice.store.cipher import CredentialCipher
from sluice.store.config_cache import ConfigCache
from sluice.store.db import Pool, open_pool


class GatewaySettings(RetryPolicy, EncryptionSettings, DispatchSettings):
    """Settings of the gateway."""

    max_request_bytes: int = Field(26_214_400, gt=0, description="largest request, bytes; attachments count in base64")
    public_url: str | None = Field(None, description="public address of this gateway, as providers call it")
    max_pending_writes: int = Field(5_000, gt=0, description="requests waiting to be recorded before 503")


def create_app(
    *,
    authenticator: ApiKeyAuthenticator,
    ingest: MessageIngest,
    receipts: ReceiptEndpoint,
    outbox: OutboxPublisher,
    config: ConfigCache,
    pool: Pool,
    max_request_bytes: int,
    ready: Readiness,
) -> ASGIApp:
    """The HTTP API."""
    app = FastAPI(title="Sluice", version="1", docs_url=None, redoc_url=None)
    app.router.routes.append(receipts.route())
    app.router.routes.append(create_error_page())
    app.router.routes.extend(ops_routes(ready))
    app.include_router(create_messages(authenticator, config, pool, outbox))

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> Response:
        return error_response(error)

    @app.exception_handler(Exception)
    async def bug(_: Request, error: Exception) -> Response:
        return error_response(ApiError("something is wrong on our side"))

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        match error.status_code:
            case 404:
                return error_response(NotFound("there is nothing at this path"))
            case 405:
                return error_response(MethodNotAllowed("this path does not know the method"))
            case _:
                answer = error_response(ValidationFailed(str(error.detail)))
                answer.status_code = error.status_code
                return answer

    return SendFastPath(authenticator, ingest, max_body=max_request_bytes, next_app=app)


async def main() -> None:
    """Accept until asked to stop."""
    settings = load(GatewaySettings)
    configure_logging(settings.log_level, "gateway")
    cipher = CredentialCipher(settings.read_encryption_key())
    stopped = shutdown_event(settings.shutdown_timeout)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(settings.postgres_dsn, size=settings.postgres_pool_size, name="gateway")
        )
        config = await stack.enter_async_context(ConfigCache().subscribed(settings.postgres_dsn))
        publisher = await stack.enter_async_context(open_publisher(settings.kafka_bootstrap_servers, name="gateway"))
        acceptance = await stack.enter_async_context(
            MessageIngest(
                pool,
                config,
                publisher,
                requeue_after=timedelta(seconds=settings.requeue_after),
                max_pending=settings.max_pending_writes,
                dispatch_queue_limit=settings.dispatch_queue_limit,
            ).running()
        )
        announcer = await stack.enter_async_context(OutboxPublisher(pool, publisher).running())
        receipts = await stack.enter_async_context(
            ReceiptEndpoint(pool, config, cipher, announcer, public_url=settings.public_url).running()
        )
        keys = ApiKeyAuthenticator(config, pool)
        intake = SendRequestConsumer(keys, acceptance, publisher, max_body=settings.max_request_bytes)
        consumer = Consumer(
            [Topic.SEND_REQUESTS],
            intake.handle_batch,
            servers=settings.kafka_bootstrap_servers,
            group=Group.INGEST,
            limits=Limits(in_flight=1000, window=500),
            drain=settings.shutdown_timeout - 5,
        )
        app = create_app(
            authenticator=keys,
            ingest=acceptance,
            receipts=receipts,
            outbox=announcer,
            config=config,
            pool=pool,
            max_request_bytes=settings.max_request_bytes,
            ready=lambda: "stopping" if stopped.is_set() else None,
        )
        await stack.enter_async_context(serve_http(app, settings, grace=10.0))
        consuming = asyncio.create_task(consumer.run(), name="intake")
        await asyncio.wait([consuming, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
        consumer.stop()
        await consuming
