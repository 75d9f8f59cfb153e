"""Creating topics from deploy/topics.yml, and adding partitions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.protocol.admin import CreateAclsRequest
from pydantic import BaseModel, ConfigDict, ValidationError

from sluice.bus.connection import KafkaConnection, explain
from sluice.bus.topics import Topic
from sluice.runtime.errors import SluiceError
from sluice.runtime.paths import deploy_dir

MAX_PARTITIONS = 1_000
"""Of one topic, against a slip of the keyboard: Kafka cannot take partitions back."""


class TopicSpec(BaseModel):
    """One topic of deploy/topics.yml."""

    model_config = ConfigDict(extra="forbid")

    partitions: int
    replication: int
    config: dict[str, str | int]


def read_topic_specs(path: Path | None = None) -> dict[str, TopicSpec]:
    """The topics of deploy/topics.yml by name, with the defaults filled in.

    Raises:
        SluiceError: the file cannot be read or does not have that form.
    """
    file = path or deploy_dir() / "topics.yml"
    try:
        document = yaml.safe_load(file.read_text("utf-8"))
        defaults = document["defaults"]
        return {
            name: TopicSpec(**{**defaults, **own, "config": {**defaults.get("config", {}), **own.get("config", {})}})
            for name, own in document["topics"].items()
        }
    except (OSError, yaml.YAMLError, ValidationError, KeyError, TypeError) as error:
        raise SluiceError(f"{file} is not a list of topics: {error}") from error


async def ensure_topics(kafka: KafkaConnection, path: Path | None = None) -> list[str]:
    """Create missing topics and add missing partitions; returns one line of text for each change.

    Raises:
        SluiceError: the broker does not respond or refuses.
    """
    specs = read_topic_specs(path)
    try:
        async with open_admin(kafka) as admin:
            described = await admin.describe_topics(await admin.list_topics())
            existing = {topic["topic"]: len(topic["partitions"]) for topic in described}
            missing = {name: spec for name, spec in specs.items() if name not in existing}
            created = await _create(admin, missing) if missing else []
            expanded = {
                name: spec.partitions for name, spec in specs.items() if existing.get(name, 10**9) < spec.partitions
            }
            if expanded:
                await admin.create_partitions({name: NewPartitions(total) for name, total in expanded.items()})
    except (KafkaError, OSError) as error:
        raise SluiceError(f"topics could not be created at {kafka.servers}: {await explain(kafka)}") from error
    return [f"created {name}" for name in created] + [
        f"expanded {name} to {total} partitions" for name, total in expanded.items()
    ]


async def read_partitions(kafka: KafkaConnection) -> dict[str, int]:
    """The number of partitions of each of our topics that exists.

    Raises:
        SluiceError: the broker does not respond.
    """
    try:
        async with open_admin(kafka) as admin:
            described = await admin.describe_topics(await admin.list_topics())
    except (KafkaError, OSError) as error:
        raise SluiceError(f"the topics at {kafka.servers} cannot be read: {await explain(kafka)}") from error
    found = {topic["topic"]: len(topic["partitions"]) for topic in described}
    return {topic.value: found[topic] for topic in Topic if topic in found}


async def add_partitions(kafka: KafkaConnection, totals: Mapping[str, int]) -> dict[str, int]:
    """Raise topics to these numbers of partitions; returns those that had fewer, with their former number.

    Raises:
        SluiceError: a topic is unknown, has more partitions already or must keep one, or the broker refuses.
    """
    existing = await read_partitions(kafka)
    for name, total in totals.items():
        _check_total(name, total, existing)
    raised = {name: total for name, total in totals.items() if total > existing[name]}
    if raised:
        try:
            async with open_admin(kafka) as admin:
                await admin.create_partitions({name: NewPartitions(total) for name, total in raised.items()})
        except (KafkaError, OSError) as error:
            raise SluiceError(f"partitions could not be added: {error or type(error).__name__}") from error
    return {name: existing[name] for name in raised}


def _check_total(name: str, total: int, existing: Mapping[str, int]) -> None:
    if name not in existing:
        raise SluiceError(f"there is no topic {name}; there are {', '.join(existing)}")
    if name == Topic.HEALTH:
        raise SluiceError(f"{name} keeps one partition: its records replace each other by key, within a partition only")
    if not 1 <= total <= MAX_PARTITIONS:
        raise SluiceError(f"{name}={total}: a topic has 1 to {MAX_PARTITIONS} partitions")
    if total < existing[name]:
        raise SluiceError(f"{name} has {existing[name]} partitions, and Kafka cannot remove any")


async def _create(admin: AIOKafkaAdminClient, specs: Mapping[str, TopicSpec]) -> list[str]:
    """The names of the created topics. One may exist already: a broker lists a new topic with a delay."""
    response = await admin.create_topics(
        [
            NewTopic(
                name,
                num_partitions=spec.partitions,
                replication_factor=spec.replication,
                topic_configs={key: str(value) for key, value in spec.config.items()},
            )
            for name, spec in specs.items()
        ]
    )
    for name, code, *_rest in response.topic_errors:
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise SluiceError(f"topic {name} could not be created: {for_code(code).__name__}")
    return [name for name, code, *_rest in response.topic_errors if not code]


_ALLOW, _ANY_HOST = 3, "*"
_TOPIC, _GROUP = 2, 3  # resource types of the protocol
_LITERAL, _PREFIXED = 3, 4
_READ, _WRITE, _DESCRIBE = 3, 4, 8


async def grant_producer(kafka: KafkaConnection, user: str) -> None:
    """Let a Kafka user publish on send.requests, read delivery.events, and commit in groups named after it.

    Raises:
        SluiceError: the broker does not respond, has no authorizer, or refuses.
    """
    granted = [
        *((_TOPIC, Topic.SEND_REQUESTS.value, _LITERAL, operation) for operation in (_WRITE, _DESCRIBE)),
        *((_TOPIC, Topic.EVENTS.value, _LITERAL, operation) for operation in (_READ, _DESCRIBE)),
        *((_GROUP, user, _PREFIXED, operation) for operation in (_READ, _DESCRIBE)),
    ]
    try:
        async with open_admin(kafka) as admin:
            for kind, name, pattern, operation in granted:
                request = CreateAclsRequest(kind, name, pattern, f"User:{user}", _ANY_HOST, operation, _ALLOW)
                answer = await admin._send_request(request)  # the client has no method for it
                for code, text in answer.creation_responses:
                    if code:
                        raise SluiceError(f"{user} cannot be granted access: {text or for_code(code).__name__}")
    except (KafkaError, OSError) as error:
        raise SluiceError(f"{user} cannot be granted access: {error or type(error).__name__}") from error


@asynccontextmanager
async def open_admin(kafka: KafkaConnection) -> AsyncIterator[Any]:
    """A started admin client.

    Raises:
        KafkaError: the broker does not respond.
    """
    admin = AIOKafkaAdminClient(**kafka.options(), request_timeout_ms=10_000)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
