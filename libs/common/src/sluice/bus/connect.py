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


class KafkaClient(Protocol):
    """A client of aiokafka or FastStream."""

    async def start(self) -> Any: ...
    async def stop(self) -> Any: ...


C = TypeVar("C", bound=KafkaClient)


async def connected(kafka: KafkaConnection, factory: Callable[[], C], *, client: str) -> C:
    """A started client; each try makes a new one, until the broker responds. ``client`` names it in the log."""
    logged = False
    while True:
        made = factory()
        try:
            await made.start()
            return made
        except (KafkaError, OSError):
            await made.stop()
            if not logged:
                log.warning("kafka_unreachable", client=client, error=await explain(kafka))
            logged = True
            await asyncio.sleep(_RETRY_DELAY)
        except BaseException:
            await made.stop()
            raise
