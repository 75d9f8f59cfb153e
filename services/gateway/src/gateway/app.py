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

from gateway.auth.api_keys import Keys
from gateway.error_page import create_error_page
from gateway.errors import ApiError, Invalid, NotAllowed, NotFound
from gateway.ingest.fast_path import Sending, refusal
from gateway.ingest.ingest import Acceptance
from gateway.ingest.kafka_ingress import Intake
from gateway.messages.v1 import create_messages
from gateway.receipts.endpoint import Receipts
from sluice.bus.consumer import Consumer, Limits
from sluice.bus.publisher import open_publisher
from sluice.bus.topics import Group, Topic
from sluice.delivery.outbox import Announcer
from sluice.delivery.retry_policy import Timing
from sluice.runtime.http_server import Readiness, serving, set_up_logs, side_routes, stop_event
from sluice.runtime.settings import ConveyorSettings, KeyedSettings, load
from sluice.store.cipher import Vault
from sluice.store.config_cache import Configuration
from sluice.store.db import Pool, open_pool


class GatewaySettings(Timing, KeyedSettings, ConveyorSettings):
    """Settings of the gateway."""

    largest_body: int = Field(26_214_400, gt=0, description="largest request, bytes; attachments count in base64")
    callback_base: str | None = Field(None, description="public address of this gateway, as providers call it")
    largest_waiting: int = Field(5_000, gt=0, description="requests waiting to be recorded before 503")


def create_app(
    *,
    keys: Keys,
    acceptance: Acceptance,
    receipts: Receipts,
    announcer: Announcer,
    configuration: Configuration,
    pool: Pool,
    largest_body: int,
    ready: Readiness,
) -> ASGIApp:
    """The HTTP API."""
    app = FastAPI(title="Sluice", version="1", docs_url=None, redoc_url=None)
    app.router.routes.append(receipts.route())
    app.router.routes.append(create_error_page())
    app.router.routes.extend(side_routes(ready))
    app.include_router(create_messages(keys, configuration, pool, announcer))

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> Response:
        return refusal(error)

    @app.exception_handler(Exception)
    async def bug(_: Request, error: Exception) -> Response:
        return refusal(ApiError("something is wrong on our side"))

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        match error.status_code:
            case 404:
                return refusal(NotFound("there is nothing at this path"))
            case 405:
                return refusal(NotAllowed("this path does not know the method"))
            case _:
                answer = refusal(Invalid(str(error.detail)))
                answer.status_code = error.status_code
                return answer

    return Sending(keys, acceptance, largest_body=largest_body, others=app)


async def main() -> None:
    """Accept until asked to stop."""
    settings = load(GatewaySettings)
    set_up_logs(settings.log_level, "gateway")
    vault = Vault(settings.credentials_key())
    stopped = stop_event(settings.stop_grace)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(settings.postgres, size=settings.pool_size, name="gateway"))
        configuration = await stack.enter_async_context(Configuration().following(settings.postgres))
        publisher = await stack.enter_async_context(open_publisher(settings.kafka, name="gateway"))
        acceptance = await stack.enter_async_context(
            Acceptance(
                pool,
                configuration,
                publisher,
                redrive=timedelta(seconds=settings.redrive),
                waiting=settings.largest_waiting,
                conveyor=settings.conveyor,
            ).running()
        )
        announcer = await stack.enter_async_context(Announcer(pool, publisher).running())
        receipts = await stack.enter_async_context(
            Receipts(pool, configuration, vault, announcer, public_base=settings.callback_base).running()
        )
        keys = Keys(configuration, pool)
        intake = Intake(keys, acceptance, publisher, largest_body=settings.largest_body)
        consumer = Consumer(
            [Topic.SEND_REQUESTS],
            intake.take,
            servers=settings.kafka,
            group=Group.INTAKE,
            limits=Limits(in_flight=1000, window=500),
            drain=settings.stop_grace - 5,
        )
        app = create_app(
            keys=keys,
            acceptance=acceptance,
            receipts=receipts,
            announcer=announcer,
            configuration=configuration,
            pool=pool,
            largest_body=settings.largest_body,
            ready=lambda: "stopping" if stopped.is_set() else None,
        )
        await stack.enter_async_context(serving(app, settings, grace=10.0))
        consuming = asyncio.create_task(consumer.run(), name="intake")
        await asyncio.wait([consuming, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
        consumer.stop()
        await consuming
