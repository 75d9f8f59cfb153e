"""Connecting to Kafka: retried until the broker responds, logged once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import structlog
from aiokafka.errors import KafkaError

from sluice.bus.connection import KafkaConnection, explain

log = structlog.get_logger()

_RETRY_DELAY = 0.5  # seconds
_START_LIMIT = 40.0  # seconds: longer than a rebalance that waits for the drain of a member


class KafkaClient(Protocol):
    """A client of aiokafka or FastStream."""

    async def start(self) -> Any: ...
    async def stop(self) -> Any: ...


C = TypeVar("C", bound=KafkaClient)


async def connected(kafka: KafkaConnection, factory: Callable[[], C], *, client: str) -> C:
    """A started client; each try makes a new one, until the broker responds. ``client`` names it in the log.

    A consumer's start waits for its partitions, and for ever when the task that joins the group has ended. So a start
    that lasts is given up as well.
    """
    logged = False
    while True:
        made = factory()
        try:
            await asyncio.wait_for(made.start(), _START_LIMIT)
            return made
        except (KafkaError, OSError) as error:
            await stop_client(made)
            if not logged:
                reason = "the start does not end" if isinstance(error, TimeoutError) else await explain(kafka)
                log.warning("kafka_unreachable", client=client, error=reason)
            logged = True
            await asyncio.sleep(_RETRY_DELAY)
        except BaseException:
            await stop_client(made)
            raise


async def stop_client(client: KafkaClient, *, within: float = 5.0) -> None:
    """Stop a client and wait at most ``within`` seconds; an error of the stop is only logged.

    A stop waits for tasks of the client, and ends with the cancellation of one that was cancelled.
    """
    stopping = asyncio.create_task(client.stop())
    try:
        await asyncio.wait([stopping], timeout=within)
    finally:
        stopping.cancel()
    if stopping.done() and not stopping.cancelled() and (error := stopping.exception()) is not None:
        log.warning("kafka_client_not_stopped", error=repr(error))
