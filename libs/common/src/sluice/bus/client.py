"""What the roles use of an aiokafka consumer beyond its public interface."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from sluice.bus import record_batches
from sluice.runtime.errors import SluiceError
from sluice.runtime.tasks import place_of

record_batches.install()

ISOLATION_LEVEL: Final = "read_committed"
"""Of every consumer: records of an aborted transaction never happened, those of an open one have not happened yet."""

SESSION_TIMEOUT_MS: Final = 6_000
"""Of every member of a consumer group, in milliseconds. After a crash the group does not rebalance until it expires, so
it is short; a process that is paused for longer is evicted, and some records are consumed twice."""

HEARTBEAT_INTERVAL_MS: Final = SESSION_TIMEOUT_MS // 4
"""Of every member of a consumer group, in milliseconds."""

_ANSWER_LIMIT = 5.0  # seconds without a response after which the broker counts as unavailable
_WATCH_INTERVAL = 1.0  # seconds
_MEMBERSHIP_LIMIT = 60.0  # seconds outside its group, while the broker answers, after which a client is given up
_NO_MEMBER = "not in the consumer group yet"


class BrokerContact:
    """When the broker has last answered a request of one client, a fetch or a heartbeat among them."""

    def __init__(self) -> None:
        self._client: AIOKafkaConsumer | None = None
        self._answered_at: float | None = None

    def observe(self, client: AIOKafkaConsumer) -> None:
        """Take note of the answers to ``client`` from now on."""
        self._client = client
        send = client._client.send

        async def observed(*request: Any, **options: Any) -> Any:
            response = await send(*request, **options)
            self._answered_at = time.monotonic()
            return response

        self._answered_at = time.monotonic()  # a client that has started has been answered
        client._client.send = observed

    def fault(self) -> str | None:
        """None while the broker answers; otherwise a sentence for readiness."""
        if self._answered_at is None:
            return _NO_MEMBER
        silence = time.monotonic() - self._answered_at
        return f"Kafka has not answered for {silence:.0f} s" if silence > _ANSWER_LIMIT else None

    def fault_of_membership(self) -> str | None:
        """None while the client has the partitions that its group assigned to it, even if none; or a sentence."""
        subscription = self._client._subscription.subscription if self._client else None
        rebalancing = subscription is None or subscription._reassignment_in_progress
        return _NO_MEMBER if rebalancing else None

    async def watch(self, is_polling: Callable[[], bool]) -> None:
        """Wait until the client cannot recover by itself: then the process must end and be restarted.

        A task of the client that an error or a cancellation has ended is not started again, and a member that no
        longer joins holds up the rebalances of its group for minutes.

        Raises:
            SluiceError: always, with what is wrong.
        """
        assert self._client is not None
        member_at = time.monotonic()
        while True:
            await asyncio.sleep(_WATCH_INTERVAL)
            if not is_polling():
                raise SluiceError("nothing polls the Kafka client any more")
            if ended := self._ended_task():
                raise SluiceError(f"the {ended} of the Kafka client has ended")
            if self.fault() or not self.fault_of_membership():
                member_at = time.monotonic()
            elif (age := time.monotonic() - member_at) > _MEMBERSHIP_LIMIT:
                raise SluiceError(
                    f"not in the consumer group for {age:.0f} s, while Kafka answers; the client waits in"
                    f" {place_of(self._client._coordinator._coordination_task)}"
                )

    def _ended_task(self) -> str | None:
        assert self._client is not None
        tasks = {
            "coordination": self._client._coordinator._coordination_task,
            "fetching": self._client._fetcher._fetch_task,
        }
        return next((name for name, task in tasks.items() if task.done()), None)


async def partitions_of(client: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """The partitions of a topic that ``client`` is not subscribed to, in order.

    Raises:
        KafkaError: the broker does not answer, or has no such topic.
    """
    cluster = await client._client.fetch_all_metadata()
    found = cluster.partitions_for_topic(topic)
    if not found:
        raise UnknownTopicOrPartitionError(topic)
    return [TopicPartition(topic, number) for number in sorted(found)]


async def seek_back(client: AIOKafkaConsumer, partitions: Iterable[TopicPartition], since: datetime) -> None:
    """Read ``partitions``, which are assigned to ``client``, again from the first record at ``since`` or later.

    Raises:
        KafkaError: the broker does not answer.
    """
    milliseconds = int(since.timestamp() * 1000)
    found = await client.offsets_for_times(dict.fromkeys(partitions, milliseconds))
    for partition, place in found.items():
        if place is not None:  # otherwise there is no such record
            client.seek(partition, place.offset)


def position(client: AIOKafkaConsumer, partition: TopicPartition) -> int | None:
    """The offset from which ``client`` reads next; None while it does not know one.

    Behind a transaction it lies above the last record: the client has read over the control record.
    """
    assignment = client._subscription.subscription.assignment
    if assignment is None or partition not in assignment.tps:
        return None
    state = assignment.state_value(partition)
    return int(state.position) if state.has_valid_position else None
