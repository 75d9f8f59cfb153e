"""deploy/topics.yml: the topics of the code, with settings that Kafka accepts."""

from sluice.bus.topics import Topic
from tests.repository.files import read_yaml

KNOWN_CONFIG = {"retention.ms", "retention.bytes", "cleanup.policy", "segment.ms", "segment.bytes", "max.message.bytes"}


def test_the_topics_of_the_code_are_those_that_are_deployed():
    assert set(read_yaml("deploy/topics.yml")["topics"]) == {topic.value for topic in Topic}


def test_every_topic_has_partitions_and_replicas():
    read = read_yaml("deploy/topics.yml")

    for name, own in read["topics"].items():
        topic = read["defaults"] | own
        assert topic["partitions"] >= 1, name
        assert topic["replication"] >= 1, name


def test_every_setting_is_one_of_kafkas():
    read = read_yaml("deploy/topics.yml")
    settings = [read["defaults"], *read["topics"].values()]

    assert set().union(*(each.get("config", {}) for each in settings)) <= KNOWN_CONFIG
