"""The consumer groups as the broker knows them: how many consumers each has, and what it has not committed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiokafka.errors import for_code

from sluice.bus.connection import KafkaConnection
from sluice.bus.topic_admin import open_admin
from sluice.bus.topics import SUBSCRIPTIONS, Group
from sluice.bus.uncommitted import read_first_records, read_ranges


class GroupStatus(NamedTuple):
    """A consumer group. ``lag_seconds``: the age of the oldest record that it has not committed; 0 for none."""

    consumers: int
    lag_records: int
    lag_seconds: float


async def read_group_status(kafka: KafkaConnection) -> dict[Group, GroupStatus]:
    """All groups.

    Raises:
        KafkaError: the broker does not respond.
    """
    consumers = await _count_consumers(kafka)
    found = {}
    for group, ranges in (await read_ranges(kafka, SUBSCRIPTIONS)).items():
        records = sum(end - offset for offset, end in ranges.values())
        first = await read_first_records(kafka, ranges)
        oldest = min((record.timestamp for record in first.values()), default=None)
        age = 0.0 if oldest is None else max(0.0, time.time() - oldest / 1000)
        found[group] = GroupStatus(consumers.get(group.value, 0), records, age)
    return found


async def _count_consumers(kafka: KafkaConnection) -> Mapping[str, int]:
    async with open_admin(kafka) as admin:
        responses = await admin.describe_consumer_groups([group.value for group in Group])
    found: dict[str, int] = {}
    for response in responses:
        for described in response.groups:
            error, group, _, _, _, members = _fields(described)
            if error:
                raise for_code(error)
            found[group] = len(members)
    return found


def _fields(described: Any) -> tuple[Any, ...]:
    """The first six fields of a group, which every version of the response has."""
    return tuple(described)[:6]
