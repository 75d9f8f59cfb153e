"""FastStream as the roles run it: for every consumer that is not on the hot path (docs/decisions/0004).

A service declares its subscriber on a broker of :func:`create_broker`, with its acknowledgement policy written out,
and runs it with :class:`SubscriberRunner`. FastStream is installed with the extra ``sluice-common[faststream]``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from aiokafka import ConsumerRecord
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.subscriber.usecase import BatchSubscriber

from sluice.bus.client import HEARTBEAT_INTERVAL_MS, ISOLATION_LEVEL, SESSION_TIMEOUT_MS, BrokerContact
from sluice.bus.connect import connected, stop_client
from sluice.bus.connection import KafkaConnection, client_id
from sluice.bus.dead_letters import count_from_zero
from sluice.runtime.tasks import run_unless

# Milliseconds that a poll waits for records, and that FastStream sleeps, whatever arrives, after one without records.
_BATCH_TIMEOUT_MS = 100
_LEAVE_LIMIT = 5.0  # seconds to leave the group after the last handler


Records: TypeAlias = "tuple[ConsumerRecord, ...]"

OffsetReset: TypeAlias = Literal["earliest", "latest"]

Declare: TypeAlias = Callable[[KafkaBroker], BatchSubscriber]
"""Declares a service's subscriber, with its handler, on a broker."""


def create_broker(kafka: KafkaConnection, *, name: str, drain: float) -> KafkaBroker:
    """A FastStream broker that creates no topics and passes batches of the client's records to handlers as they are.

    Handlers parse the bytes themselves: about a batch with a record that FastStream cannot parse or decode, the
    acknowledgement policy alone would decide. ``drain`` is the time a handler has to finish at shutdown, in seconds.
    """
    return KafkaBroker(
        **kafka.faststream(),
        client_id=client_id(name),
        consumer_only=True,  # roles publish with sluice.bus.publisher
        allow_auto_create_topics=False,
        metadata_max_age_ms=3_000,  # a topic may be created after the first connection
        parser=_parse,
        decoder=_undecoded,
        graceful_timeout=drain,
        logger=None,
        apply_types=False,
    )


def subscribe_to_batches(
    broker: KafkaBroker,
    topic: str,
    *,
    group: str,
    ack_policy: AckPolicy,
    auto_offset_reset: OffsetReset,
    max_records: int | None = None,
    fetch_min_bytes: int = 1,
    fetch_max_wait_ms: int = 500,
    assignor: AbstractPartitionAssignor | type[AbstractPartitionAssignor] = RoundRobinPartitionAssignor,
    listener: ConsumerRebalanceListener | None = None,
) -> BatchSubscriber:
    """Declare a subscriber that gets committed records in batches; the options are those of ``broker.subscriber``.

    ``assignor``: which member of the group gets which partitions.
    """
    count_from_zero(topic)
    return broker.subscriber(
        topic,
        group_id=group,
        batch=True,
        batch_timeout_ms=_BATCH_TIMEOUT_MS,
        max_records=max_records,
        fetch_min_bytes=fetch_min_bytes,
        fetch_max_wait_ms=fetch_max_wait_ms,
        session_timeout_ms=SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
        isolation_level=ISOLATION_LEVEL,
        ack_policy=ack_policy,
        auto_offset_reset=auto_offset_reset,
        partition_assignment_strategy=(assignor,),
        listener=listener,
        no_reply=True,
    )


async def _parse(records: Records, original: Callable[[Records], Awaitable[KafkaMessage]]) -> KafkaMessage:
    try:
        return await original(records)
    except (UnicodeDecodeError, AttributeError):  # a header without a text; no handler reads headers
        return await original(tuple(replace(record, headers=()) for record in records))


async def _undecoded(message: KafkaMessage) -> Any:
    return message.raw_message


class SubscriberRunner:
    """Runs one FastStream subscriber with the interface of :class:`sluice.bus.consumer.Consumer`."""

    def __init__(self, declare: Declare, *, kafka: KafkaConnection, group: str, drain: float = 10.0) -> None:
        self._declare = declare
        self._kafka = kafka
        self._group = group
        self._drain = drain
        self._subscriber: BatchSubscriber | None = None
        self._stopping = asyncio.Event()
        self._contact = BrokerContact()

    async def run(self) -> None:
        """Consume until :meth:`stop`; then finish the handler that runs, commit, and leave the group.

        FastStream restarts its task after an error, but not when it is cancelled from inside the Kafka client.

        Raises:
            SluiceError: nothing is consumed any more, and only a restart helps.
        """
        broker = await run_unless(self._stopping, connected(self._kafka, self._new_broker, client=self._group))
        if broker is None:
            return
        if self._subscriber is not None and self._subscriber.consumer is not None:
            self._contact.observe(self._subscriber.consumer)
        try:
            await run_unless(self._stopping, self._contact.watch(self._is_consuming))
        finally:
            await stop_client(broker, within=self._drain + _LEAVE_LIMIT)

    def stop(self) -> None:
        """Read nothing more; :meth:`run` returns after the handler that runs."""
        self._stopping.set()

    def readiness(self) -> str | None:
        """None while the subscriber consumes, has its partitions and the broker answers; otherwise the reason."""
        if self._stopping.is_set():
            return "stopping"
        if fault := self._contact.fault():
            return fault
        return self._contact.fault_of_membership() if self._is_consuming() else "the subscriber has ended"

    def _new_broker(self) -> KafkaBroker:
        broker = create_broker(self._kafka, name=self._group, drain=self._drain)
        self._subscriber = self._declare(broker)
        return broker

    def _is_consuming(self) -> bool:
        return self._subscriber is not None and any(not task.done() for task in self._subscriber.tasks)
