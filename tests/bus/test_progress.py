"""Progress of the dispatch queue, read from committed offsets."""

import pytest
from aiokafka.errors import KafkaError

from sluice.bus.connection import KafkaConnection
from sluice.bus.progress import QueueProgress
from sluice.bus.topics import Group, Topic
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from sluice_launcher.process_info import free_port
from tests.bus.bus import Handler, a_producer, consuming, is_committed, put
from tests.bus.conftest import are_gone
from tests.examples import a_task, after, an_assignment, seconds
from tests.polling import wait_until


@pytest.fixture
async def queue_topics(make_topic, admin):
    """The topics of the dispatch queue, empty and without committed offsets."""
    for topic in QueueProgress.READERS:
        await make_topic(name=topic.value, partitions=2)
    await wait_until(lambda: nothing_is_committed(admin))


async def nothing_is_committed(admin):
    """The broker deletes the offsets of a deleted topic a moment after the topic."""
    groups = [await admin.list_consumer_group_offsets(group.value) for group in set(QueueProgress.READERS.values())]
    return not any(offset.offset >= 0 for group in groups for offset in group.values())


@pytest.fixture
def progress(kafka_bootstrap):
    return QueueProgress(KafkaConnection.to(kafka_bootstrap))


async def read_by(bootstrap, admin, group, topic, count):
    """The group reads the topic to its end and commits."""
    handler = Handler()
    async with consuming(bootstrap, topic, group, handler):
        await handler.has(count)
        await wait_until(lambda: is_committed(admin, group, topic, count))


async def test_the_low_watermark_of_an_empty_queue_is_now(queue_topics, progress):
    before = utc_now()

    assert all(before <= mark <= utc_now() for mark in (await progress.low_watermarks()).values())


async def test_an_unread_delivery_task_holds_the_mark_at_its_enqueue_time(kafka_bootstrap, queue_topics, progress):
    await put(kafka_bootstrap, Topic.ACCEPTED, a_task(enqueued_at=after(1)).encode(), a_task().encode())

    assert (await progress.low_watermarks())[Channel.EMAIL] == after(1)


async def test_an_unread_assignment_holds_the_mark_at_its_tasks_enqueue_time(kafka_bootstrap, queue_topics, progress):
    assignment = an_assignment(task=a_task(enqueued_at=after(2)))
    await put(kafka_bootstrap, Topic.SMS, assignment.encode(), partition=1)

    assert (await progress.low_watermarks())[Channel.SMS] == after(2)


async def test_the_oldest_record_of_all_topics_counts(kafka_bootstrap, queue_topics, progress):
    await put(kafka_bootstrap, Topic.REROUTE, a_task(enqueued_at=after(9)).encode())
    await put(kafka_bootstrap, Topic.ACCEPTED, a_task(enqueued_at=after(5)).encode(), partition=1)
    await put(kafka_bootstrap, Topic.EMAIL, an_assignment(task=a_task(enqueued_at=after(7))).encode())

    assert (await progress.low_watermarks())[Channel.EMAIL] == after(5)


async def test_a_channel_whose_workers_are_down_holds_back_no_other(kafka_bootstrap, queue_topics, progress):
    before = utc_now()
    await put(kafka_bootstrap, Topic.SMS, an_assignment(task=a_task(enqueued_at=after(1))).encode())

    marks = await progress.low_watermarks()

    assert [channel for channel, mark in marks.items() if mark < before] == [Channel.SMS]


async def test_a_committed_record_does_not_hold_the_low_watermark(kafka_bootstrap, admin, queue_topics, progress):
    await put(kafka_bootstrap, Topic.EMAIL, an_assignment().encode())
    await read_by(kafka_bootstrap, admin, Group.EMAIL_WORKER, Topic.EMAIL, 1)
    before = utc_now()

    assert (await progress.low_watermarks())[Channel.EMAIL] >= before


async def test_the_first_uncommitted_record_holds_the_low_watermark(kafka_bootstrap, admin, queue_topics, progress):
    await put(kafka_bootstrap, Topic.ACCEPTED, a_task(enqueued_at=after(1)).encode())
    await read_by(kafka_bootstrap, admin, Group.ROUTER, Topic.ACCEPTED, 1)

    await put(kafka_bootstrap, Topic.ACCEPTED, a_task(enqueued_at=after(3)).encode())

    assert (await progress.low_watermarks())[Channel.EMAIL] == after(3)


@pytest.mark.parametrize("value", [b"{]", b"", None, b"{}"])
async def test_an_unreadable_record_counts_from_the_time_it_was_written(kafka_bootstrap, queue_topics, progress, value):
    written = utc_now().replace(microsecond=0) - seconds(3600)  # the broker deletes what is older than a week
    async with a_producer(kafka_bootstrap) as producer:
        moment = int(written.timestamp() * 1000)
        await producer.send_and_wait(Topic.ACCEPTED, value, key=b"k", partition=0, timestamp_ms=moment)

    assert (await progress.low_watermarks())[Channel.EMAIL] == written


async def test_a_recreated_topic_is_read_from_its_beginning(kafka_bootstrap, admin, queue_topics, progress, make_topic):
    await put(kafka_bootstrap, Topic.EMAIL, *[an_assignment().encode()] * 5)
    await read_by(kafka_bootstrap, admin, Group.EMAIL_WORKER, Topic.EMAIL, 5)
    await admin.delete_topics([Topic.EMAIL.value])
    await wait_until(lambda: are_gone(admin, [Topic.EMAIL.value]))
    await make_topic(name=Topic.EMAIL.value, partitions=2)

    await put(kafka_bootstrap, Topic.EMAIL, an_assignment(task=a_task(enqueued_at=after(4))).encode())

    assert (await progress.low_watermarks())[Channel.EMAIL] == after(4)


async def test_without_a_broker_the_progress_is_unknown():
    with pytest.raises(KafkaError):
        await QueueProgress(KafkaConnection.to(f"127.0.0.1:{free_port()}")).low_watermarks()
