"""Which member of a group leads."""

from types import SimpleNamespace

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

from sluice.bus.leader import LeaderAssignor

CLUSTER = SimpleNamespace(partitions_for_topic=lambda topic: {2, 0, 1} if topic == "events" else None)


def members(**led_at):
    return {name: ConsumerProtocolMemberMetadata(0, ["events"], data) for name, data in led_at.items()}


def leader_of(**led_at):
    assigned = LeaderAssignor().assign(CLUSTER, members(**led_at))
    [leader] = [name for name, each in assigned.items() if each.assignment]
    assert assigned[leader].assignment == [("events", [0, 1, 2])]
    assert assigned.keys() == led_at.keys()
    return leader


@pytest.mark.parametrize(
    ("led_at", "leader"),
    [
        ({"b": b"0", "a": b"0"}, "a"),
        ({"b": b"1700000000000", "a": b"0"}, "b"),
        ({"b": b"1700000000001", "a": b"1700000000000"}, "b"),
        ({"b": b"", "a": b"no number"}, "a"),
        ({"a": b"0"}, "a"),
    ],
)
def test_the_newest_leader_leads_otherwise_the_smallest_id(led_at, leader):
    assert leader_of(**led_at) == leader


def test_a_member_that_was_assigned_partitions_states_it_until_it_loses_them():
    assignor = LeaderAssignor()
    led, none = (LeaderAssignor().assign(CLUSTER, members(a=b"0", b=b"0"))[name] for name in "ab")

    assignor.on_assignment(led)
    while_leading = assignor.metadata({"events"})
    assignor.on_assignment(none)

    assert int(while_leading.user_data) > 1_700_000_000_000
    assert (assignor.metadata({"events"}).user_data, while_leading.subscription) == (b"0", ["events"])


def test_a_topic_that_does_not_exist_yet_has_no_partitions():
    assigned = LeaderAssignor().assign(CLUSTER, {"a": ConsumerProtocolMemberMetadata(0, ["missing"], b"0")})

    assert assigned["a"].assignment == [("missing", [])]
