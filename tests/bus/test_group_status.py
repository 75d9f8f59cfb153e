"""The consumer groups as the broker knows them."""

from sluice.bus.connection import KafkaConnection
from sluice.bus.group_status import survey_groups
from sluice.bus.topics import Group, Topic
from tests.bus.bus import Handler, consuming, put
from tests.bus.test_lag import TOPICS, nothing_is_committed
from tests.polling import wait_until


async def test_groups_have_their_consumers_and_their_lag(kafka_bootstrap, make_topic, admin):
    for topic in TOPICS:
        await make_topic(name=topic.value, partitions=2)
    await wait_until(lambda: nothing_is_committed(admin))
    kafka = KafkaConnection.to(kafka_bootstrap)
    await put(kafka_bootstrap, Topic.EMAIL, b"1", b"2")

    idle, latency = await survey_groups(kafka)
    async with consuming(kafka_bootstrap, Topic.EMAIL, Group.EMAIL_WORKER, Handler()):

        async def is_known():
            return (await survey_groups(kafka)).groups[Group.EMAIL_WORKER].consumers == 1

        await wait_until(is_known)

    assert idle.keys() == set(Group)
    assert latency > 0
    assert (idle[Group.EMAIL_WORKER].consumers, idle[Group.EMAIL_WORKER].lag_records) == (0, 2)
    assert 0 < idle[Group.EMAIL_WORKER].lag_seconds < 600
    assert idle[Group.PUSH_WORKER] == (0, 0, 0.0)
