"""The consumer groups as the broker knows them: how many consumers each has, and what it has not committed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiokafka.errors import for_code
from aiokafka.protocol.admin import DescribeGroupsRequest_v0, DescribeGroupsRequest_v1, DescribeGroupsRequest_v2
from aiokafka.protocol.api import Request

from sluice.bus.connection import KafkaConnection
from sluice.bus.topic_admin import open_admin
from sluice.bus.topics import SUBSCRIPTIONS, Group
from sluice.bus.uncommitted import age_of, read_first_records, read_ranges


class GroupStatus(NamedTuple):
    """A consumer group. ``lag_seconds``: the age of the oldest record that it has not committed; 0 for none."""

    consumers: int
    lag_records: int
    lag_seconds: float


class GroupSurvey(NamedTuple):
    """All groups. ``latency``: seconds that the broker took for one request, of the many of a survey."""

    groups: Mapping[Group, GroupStatus]
    latency: float


async def survey_groups(kafka: KafkaConnection) -> GroupSurvey:
    """The groups as they are now.

    Raises:
        KafkaError: the broker does not respond.
    """
    async with open_admin(kafka) as admin:
        began = time.monotonic()
        await admin.list_topics()
        latency = time.monotonic() - began
        consumers = await _count_consumers(admin)
    found = {}
    for group, ranges in (await read_ranges(kafka, SUBSCRIPTIONS)).items():
        records = sum(end - offset for offset, end in ranges.values())
        first = await read_first_records(kafka, ranges)
        found[group] = GroupStatus(consumers.get(group.value, 0), records, age_of(first.values()) or 0.0)
    return GroupSurvey(found, latency)


class _DescribeGroups(
    Request[DescribeGroupsRequest_v0 | DescribeGroupsRequest_v1 | DescribeGroupsRequest_v2]  # type: ignore[misc]
):
    """The client's own request reads the answer of version 3 in the form of version 2."""

    API_KEY = DescribeGroupsRequest_v0.API_KEY

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: Any) -> Any:
        """The request in a version that the broker knows."""
        return request_struct_class([self._group])


async def _count_consumers(admin: Any) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for group in Group:
        coordinator = await admin.find_coordinator(group.value)
        answer = await admin._send_request(_DescribeGroups(group.value), coordinator)
        for error, name, _state, _protocol_type, _protocol, members in answer.groups:
            if error:
                raise for_code(error)
            found[name] = len(members)
    return found
