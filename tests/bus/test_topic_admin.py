"""Creating topics, and reading how far the conveyor has been read."""

from datetime import UTC, datetime

import pytest
from aiokafka.errors import KafkaError

from sluice.bus.topic_admin import QueueProgress, ensure_topics, read_topic_specs
from sluice.bus.topics import Group, Topic
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from sluice.runtime.errors import SluiceError
from sluice_launcher.process_info import free_port
from tests.bus.bus import Handler, a_producer, consuming, is_committed, put
from tests.bus.conftest import are_gone
from tests.examples import a_task, after, an_assignment
from tests.polling import wait_until

pytestmark = pytest.mark.system


# -- creating ----------------------------------------------------------------------------------------------------


def a_list_of_topics(path, partitions=2, *, more=""):
    path.write_text(
        f"defaults: {{partitions: {partitions}, replication: 1, config: {{retention.ms: 60000}}}}\n"
        f"topics:\n  test.one: {{}}\n  test.two: {{partitions: 1}}\n{more}"
    )
    return path


@pytest.fixture
async def topics_file(tmp_path, admin):
    yield tmp_path / "topics.yml"
    names = {"test.one", "test.two", "test.three"} & set(await admin.list_topics())
    if names:
        await admin.delete_topics(list(names))
        await wait_until(lambda: are_gone(admin, names))


async def has_partitions(admin, wanted):
    """A broker that has just been told answers from what it knew before."""
    described = await admin.describe_topics(["test.one", "test.two"])
    return [len(topic["partitions"]) for topic in described] == wanted


async def test_missing_topics_are_created(kafka_bootstrap, admin, topics_file):
    done = await ensure_topics(kafka_bootstrap, a_list_of_topics(topics_file))

    assert done == ["created test.one", "created test.two"]
    await wait_until(lambda: has_partitions(admin, [2, 1]))


async def test_a_second_time_changes_nothing(kafka_bootstrap, admin, topics_file):
    await ensure_topics(kafka_bootstrap, a_list_of_topics(topics_file))

    assert await ensure_topics(kafka_bootstrap, topics_file) == []


async def test_a_topic_grows(kafka_bootstrap, admin, topics_file):
    await ensure_topics(kafka_bootstrap, a_list_of_topics(topics_file))

    done = await ensure_topics(kafka_bootstrap, a_list_of_topics(topics_file, 4))

    assert done == ["grew test.one to 4"]
    await wait_until(lambda: has_partitions(admin, [4, 1]))


async def test_a_topic_never_shrinks(kafka_bootstrap, admin, topics_file):
    await ensure_topics(kafka_bootstrap, a_list_of_topics(topics_file, 4))

    assert await ensure_topics(kafka_bootstrap, a_list_of_topics(topics_file, 2)) == []


async def test_a_refused_topic_is_named(kafka_bootstrap, topics_file):
    file = a_list_of_topics(topics_file, more="  test.three: {config: {cleanup.policy: nonsense}}\n")

    with pytest.raises(SluiceError, match=r"test\.three"):
        await ensure_topics(kafka_bootstrap, file)


async def test_a_broker_that_does_not_answer_is_named(topics_file):
    place = f"127.0.0.1:{free_port()}"

    with pytest.raises(SluiceError, match=f"could not be created at {place}"):
        await ensure_topics(place, a_list_of_topics(topics_file))


@pytest.mark.parametrize(
    "text", ["", "[]", "topics: 7", "defaults: {}\ntopics: {a: {partitions: many}}", "{", "topics: {a: {colour: red}}"]
)
def test_a_file_that_is_no_list_of_topics_is_named(tmp_path, text):
    file = tmp_path / "topics.yml"
    file.write_text(text)

    with pytest.raises(SluiceError, match=r"topics\.yml is not a list of topics"):
        read_topic_specs(file)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(SluiceError, match="nowhere"):
        read_topic_specs(tmp_path / "nowhere.yml")


# -- how far the conveyor has been read --------------------------------------------------------------------------


@pytest.fixture
async def stages(make_topic, admin):
    """The topics of the conveyor, empty, as no group has ever read them."""
    for topic in QueueProgress.READERS:
        await make_topic(name=topic.value, partitions=2)
    await wait_until(lambda: coordinates(admin))


async def coordinates(admin):
    """A broker that was just started has no coordinator of groups for a moment."""
    try:
        return [await admin.find_coordinator(group.value) for group in Group]
    except KafkaError:
        return None


@pytest.fixture
def conveyor(kafka_bootstrap):
    return QueueProgress(kafka_bootstrap)


async def read_by(bootstrap, admin, group, topic, count):
    """The group reads the topic to its end and commits."""
    handler = Handler()
    async with consuming(bootstrap, topic, group, handler):
        await handler.has(count)
        await wait_until(lambda: is_committed(admin, group, topic, count))


async def test_an_empty_conveyor_has_been_read_until_now(stages, conveyor):
    before = utc_now()

    assert all(before <= mark <= utc_now() for mark in (await conveyor.low_watermarks()).values())


async def test_an_unread_drive_holds_the_mark_at_its_time(kafka_bootstrap, stages, conveyor):
    await put(kafka_bootstrap, Topic.ACCEPTED, a_task(enqueued_at=after(1)).encode(), a_task().encode())

    assert (await conveyor.low_watermarks())[Channel.EMAIL] == after(1)


async def test_an_unread_assignment_holds_it_at_the_time_of_its_drive(kafka_bootstrap, stages, conveyor):
    assignment = an_assignment(task=a_task(enqueued_at=after(2)))
    await put(kafka_bootstrap, Topic.SMS, assignment.encode(), partition=1)

    assert (await conveyor.low_watermarks())[Channel.SMS] == after(2)


async def test_the_oldest_of_all_stages_counts(kafka_bootstrap, stages, conveyor):
    await put(kafka_bootstrap, Topic.REROUTE, a_task(enqueued_at=after(9)).encode())
    await put(kafka_bootstrap, Topic.ACCEPTED, a_task(enqueued_at=after(5)).encode(), partition=1)
    await put(kafka_bootstrap, Topic.EMAIL, an_assignment(task=a_task(enqueued_at=after(7))).encode())

    assert (await conveyor.low_watermarks())[Channel.EMAIL] == after(5)


async def test_a_channel_whose_workers_are_away_holds_no_other(kafka_bootstrap, stages, conveyor):
    before = utc_now()
    await put(kafka_bootstrap, Topic.SMS, an_assignment(task=a_task(enqueued_at=after(1))).encode())

    marks = await conveyor.low_watermarks()

    assert [channel for channel, mark in marks.items() if mark < before] == [Channel.SMS]


async def test_what_was_read_does_not_hold_it(kafka_bootstrap, admin, stages, conveyor):
    await put(kafka_bootstrap, Topic.EMAIL, an_assignment().encode())
    await read_by(kafka_bootstrap, admin, Group.EMAIL_WORKER, Topic.EMAIL, 1)
    before = utc_now()

    assert (await conveyor.low_watermarks())[Channel.EMAIL] >= before


async def test_the_first_that_was_not_read_holds_it(kafka_bootstrap, admin, stages, conveyor):
    await put(kafka_bootstrap, Topic.ACCEPTED, a_task(enqueued_at=after(1)).encode())
    await read_by(kafka_bootstrap, admin, Group.ROUTER, Topic.ACCEPTED, 1)

    await put(kafka_bootstrap, Topic.ACCEPTED, a_task(enqueued_at=after(3)).encode())

    assert (await conveyor.low_watermarks())[Channel.EMAIL] == after(3)


@pytest.mark.parametrize("value", [b"{]", b"", None, b"{}"])
async def test_what_cannot_be_read_counts_from_when_it_was_written(kafka_bootstrap, stages, conveyor, value):
    written = datetime(2026, 1, 1, tzinfo=UTC)
    async with a_producer(kafka_bootstrap) as producer:
        moment = int(written.timestamp() * 1000)
        await producer.send_and_wait(Topic.ACCEPTED, value, key=b"k", partition=0, timestamp_ms=moment)

    assert (await conveyor.low_watermarks())[Channel.EMAIL] == written


async def test_a_conveyor_that_was_wiped_is_read_anew(kafka_bootstrap, admin, stages, conveyor, make_topic):
    await put(kafka_bootstrap, Topic.EMAIL, *[an_assignment().encode()] * 5)
    await read_by(kafka_bootstrap, admin, Group.EMAIL_WORKER, Topic.EMAIL, 5)
    await admin.delete_topics([Topic.EMAIL.value])
    await wait_until(lambda: are_gone(admin, [Topic.EMAIL.value]))
    await make_topic(name=Topic.EMAIL.value, partitions=2)

    await put(kafka_bootstrap, Topic.EMAIL, an_assignment(task=a_task(enqueued_at=after(4))).encode())

    assert (await conveyor.low_watermarks())[Channel.EMAIL] == after(4)


async def test_without_a_broker_nothing_is_concluded():
    with pytest.raises(KafkaError):
        await QueueProgress(f"127.0.0.1:{free_port()}").low_watermarks()
