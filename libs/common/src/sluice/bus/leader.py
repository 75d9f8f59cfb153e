"""One leader among the members of a consumer group: it gets all partitions, the others none and stand by.

Kafka's group protocol is the lock: a leader that dies loses its partitions when its session expires, and another member
gets them, with the offsets that were committed. Nothing else is needed, neither a lease nor a server for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

_VERSION = 0  # of Kafka's embedded consumer protocol


class LeaderAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """Assigns everything to the member that leads already, otherwise to the one with the smallest id.

    One object for each member. A member states when it was made leader last; the newest wins, so that a process that
    was paused and evicted does not take the place of its successor.
    """

    name = "leader"

    def __init__(self) -> None:
        self._led_at = 0  # Unix time in milliseconds; 0: it does not lead

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What this member states when it joins: its topics, and since when it leads."""
        return ConsumerProtocolMemberMetadata(_VERSION, list(topics), str(self._led_at).encode())

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """The assignment of each member, by its id."""
        leader = min(members, key=lambda member: (-_led_at(members[member].user_data), member))
        topics = [
            (topic, sorted(cluster.partitions_for_topic(topic) or ())) for topic in sorted(members[leader].subscription)
        ]
        return {
            member: ConsumerProtocolMemberAssignment(_VERSION, topics if member == leader else [], b"")
            for member in members
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Note whether this member leads now."""
        leads = any(partitions for _, partitions in assignment.assignment)
        self._led_at = time.time_ns() // 1_000_000 if leads else 0


def _led_at(user_data: bytes) -> int:
    return int(user_data) if user_data.isdigit() else 0
