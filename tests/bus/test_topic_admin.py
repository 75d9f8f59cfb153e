"""Creating topics from deploy/topics.yml, and adding partitions."""

import uuid
from enum import StrEnum

import pytest

from sluice.bus import topic_admin
from sluice.bus.connection import KafkaConnection
from sluice.bus.topic_admin import add_partitions, ensure_topics, read_partitions, read_topic_specs
from sluice.runtime.errors import SluiceError
from sluice_launcher.process_info import free_port
from tests.polling import wait_until


def a_list_of_topics(path, partitions=2, *, more=""):
    """Two topics whose names begin as the file's."""
    path.write_text(
        f"defaults: {{partitions: {partitions}, replication: 1, config: {{retention.ms: 60000}}}}\n"
        f"topics:\n  {path.stem}.one: {{}}\n  {path.stem}.two: {{partitions: 1}}\n{more}"
    )
    return path


@pytest.fixture
async def topics_file(tmp_path, admin):
    file = tmp_path / f"test-{uuid.uuid4().hex[:12]}.yml"
    yield file
    if names := [name for name in await admin.list_topics() if name.startswith(file.stem)]:
        await admin.delete_topics(names)


async def has_partitions(admin, file, wanted):
    """A broker may describe a topic as it was before the last change."""
    described = await admin.describe_topics([f"{file.stem}.one", f"{file.stem}.two"])
    return [len(topic["partitions"]) for topic in described] == wanted


async def test_missing_topics_are_created(kafka_bootstrap, admin, topics_file):
    done = await ensure_topics(KafkaConnection.to(kafka_bootstrap), a_list_of_topics(topics_file))

    assert done == [f"created {topics_file.stem}.one", f"created {topics_file.stem}.two"]
    await wait_until(lambda: has_partitions(admin, topics_file, [2, 1]))


async def test_a_second_call_changes_nothing(kafka_bootstrap, admin, topics_file):
    await ensure_topics(KafkaConnection.to(kafka_bootstrap), a_list_of_topics(topics_file))

    assert await ensure_topics(KafkaConnection.to(kafka_bootstrap), topics_file) == []


async def test_missing_partitions_are_added(kafka_bootstrap, admin, topics_file):
    await ensure_topics(KafkaConnection.to(kafka_bootstrap), a_list_of_topics(topics_file))
    await wait_until(lambda: has_partitions(admin, topics_file, [2, 1]))

    done = await ensure_topics(KafkaConnection.to(kafka_bootstrap), a_list_of_topics(topics_file, 4))

    assert done == [f"expanded {topics_file.stem}.one to 4 partitions"]
    await wait_until(lambda: has_partitions(admin, topics_file, [4, 1]))


async def test_a_topic_with_more_partitions_than_specified_stays(kafka_bootstrap, admin, topics_file):
    await ensure_topics(KafkaConnection.to(kafka_bootstrap), a_list_of_topics(topics_file, 4))
    await wait_until(lambda: has_partitions(admin, topics_file, [4, 1]))

    assert await ensure_topics(KafkaConnection.to(kafka_bootstrap), a_list_of_topics(topics_file, 2)) == []


async def test_a_refused_topic_is_named_in_the_error(kafka_bootstrap, topics_file):
    third = f"{topics_file.stem}.three"
    file = a_list_of_topics(topics_file, more=f"  {third}: {{config: {{cleanup.policy: nonsense}}}}\n")

    with pytest.raises(SluiceError, match=third):
        await ensure_topics(KafkaConnection.to(kafka_bootstrap), file)


async def test_an_unreachable_broker_is_named_in_the_error(topics_file):
    address = f"127.0.0.1:{free_port()}"

    with pytest.raises(SluiceError, match=f"could not be created at {address}"):
        await ensure_topics(KafkaConnection.to(address), a_list_of_topics(topics_file))


@pytest.mark.parametrize(
    "text", ["", "[]", "topics: 7", "defaults: {}\ntopics: {a: {partitions: many}}", "{", "topics: {a: {colour: red}}"]
)
def test_an_invalid_file_is_named_in_the_error(tmp_path, text):
    file = tmp_path / "topics.yml"
    file.write_text(text)

    with pytest.raises(SluiceError, match=r"topics\.yml is not a list of topics"):
        read_topic_specs(file)


def test_a_missing_file_is_named_in_the_error(tmp_path):
    with pytest.raises(SluiceError, match="nowhere"):
        read_topic_specs(tmp_path / "nowhere.yml")


@pytest.fixture
async def existing(monkeypatch, kafka_bootstrap, admin, topics_file):
    """Two topics of this test in the place of ours; their names."""
    await ensure_topics(KafkaConnection.to(kafka_bootstrap), a_list_of_topics(topics_file))
    await wait_until(lambda: has_partitions(admin, topics_file, [2, 1]))
    names = [f"{topics_file.stem}.one", f"{topics_file.stem}.two"]
    stand_in = StrEnum("Topic", {"ONE": names[0], "HEALTH": names[1], "MISSING": f"{topics_file.stem}.missing"})
    monkeypatch.setattr(topic_admin, "Topic", stand_in)
    return names


async def test_partitions_are_added_to_a_topic(kafka_bootstrap, admin, topics_file, existing):
    kafka = KafkaConnection.to(kafka_bootstrap)

    raised = await add_partitions(kafka, {existing[0]: 5})
    await wait_until(lambda: has_partitions(admin, topics_file, [5, 1]))

    assert raised == {existing[0]: 2}
    assert await read_partitions(kafka) == {existing[0]: 5, existing[1]: 1}
    assert await add_partitions(kafka, {existing[0]: 5}) == {}


@pytest.mark.parametrize(
    ("topic", "total", "error"),
    [
        (0, 1, "has 2 partitions, and Kafka cannot remove any"),
        (0, 0, "=0: a topic has 1 to 1000 partitions"),
        (0, 1001, "=1001: a topic has 1 to 1000 partitions"),
        (1, 2, "keeps one partition: its records replace each other by key"),
        (None, 2, "there is no topic elsewhere; there are "),
    ],
)
async def test_partitions_that_cannot_be_had_are_an_error_that_changes_nothing(
    kafka_bootstrap, existing, topic, total, error
):
    kafka = KafkaConnection.to(kafka_bootstrap)
    name = "elsewhere" if topic is None else existing[topic]

    with pytest.raises(SluiceError, match=error):
        await add_partitions(kafka, {existing[0]: 7, name: total})

    assert await read_partitions(kafka) == {existing[0]: 2, existing[1]: 1}


async def test_partitions_of_an_unreachable_broker_are_an_error():
    with pytest.raises(SluiceError, match="cannot be read"):
        await read_partitions(KafkaConnection.to(f"127.0.0.1:{free_port()}"))
