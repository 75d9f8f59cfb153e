"""Progress of the dispatch queue: the enqueue time of the oldest record that its consumer groups have not committed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from sluice.bus.connection import KafkaConnection
from sluice.bus.messages import Assignment, DeliveryTask
from sluice.bus.topics import SUBSCRIPTIONS, Group, Topic, delivery_topic
from sluice.bus.uncommitted import read_first_records, read_ranges
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now


class QueueProgress:
    """Reads the committed offsets of the router and the workers, and the records at them."""

    READERS: Mapping[Topic, Group] = {
        topic: group
        for group in (Group.ROUTER, Group.EMAIL_WORKER, Group.SMS_WORKER, Group.PUSH_WORKER)
        for topic in SUBSCRIPTIONS[group]
    }

    def __init__(self, kafka: KafkaConnection) -> None:
        self._kafka = kafka

    async def low_watermarks(self) -> dict[Channel, datetime]:
        """By channel, the enqueue time of the oldest uncommitted record; the current time if its queue is empty.

        The dispatch queue of a channel consists of the shared topics and the channel's own: one whose workers are down
        holds back no other.

        Raises:
            KafkaError: the broker does not respond; the progress is unknown.
        """
        now = utc_now()
        ranges = await read_ranges(self._kafka, set(self.READERS.values()))
        uncommitted = {tp: offsets for of_group in ranges.values() for tp, offsets in of_group.items()}
        first = await read_first_records(self._kafka, uncommitted)
        enqueued = {tp: _enqueue_time(record) for tp, record in first.items()}
        return {
            channel: min(
                (
                    at
                    for tp, at in enqueued.items()
                    if tp.topic in (Topic.ACCEPTED, Topic.REROUTE, delivery_topic(channel))
                ),
                default=now,
            )
            for channel in Channel
        }


def _enqueue_time(record: Any) -> datetime:
    """Of the record's delivery task; of an unreadable record, the time at which it was written."""
    for kind in (Assignment, DeliveryTask):
        try:
            read = kind.model_validate_json(record.value)
        except ValidationError:
            continue
        return read.task.enqueued_at if isinstance(read, Assignment) else read.enqueued_at
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)
