"""Creating topics, and reading how far the conveyor has been read."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from pydantic import BaseModel, ConfigDict, ValidationError

from sluice.bus.messages import Assignment, DeliveryTask
from sluice.bus.topics import Group, Topic, delivery_topic
from sluice.model.message import Channel
from sluice.runtime.clock import utc_now
from sluice.runtime.errors import SluiceError
from sluice.runtime.paths import deploy_dir


class TopicSpec(BaseModel):
    """One topic of deploy/topics.yml."""

    model_config = ConfigDict(extra="forbid")

    partitions: int
    replication: int
    config: dict[str, str | int]


def read_topic_specs(path: Path | None = None) -> dict[str, TopicSpec]:
    """The topics of deploy/topics.yml with the defaults filled in.

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


async def ensure_topics(servers: str, path: Path | None = None) -> list[str]:
    """Create what is missing and add partitions where more are wanted; returns what was done, in words.

    Raises:
        SluiceError: the broker does not answer or refuses.
    """
    wanted = read_topic_specs(path)
    try:
        async with _admin(servers) as admin:
            described = await admin.describe_topics(await admin.list_topics())
            existing = {topic["topic"]: len(topic["partitions"]) for topic in described}
            missing = [name for name in wanted if name not in existing]
            made = await _create(admin, {name: wanted[name] for name in missing}) if missing else []
            grown = {
                name: spec.partitions for name, spec in wanted.items() if existing.get(name, 10**9) < spec.partitions
            }
            if grown:
                await admin.create_partitions({name: NewPartitions(total) for name, total in grown.items()})
    except (KafkaError, OSError) as error:
        raise SluiceError(f"topics could not be created at {servers}: {error or type(error).__name__}") from error
    return [f"created {name}" for name in made] + [f"grew {name} to {total}" for name, total in grown.items()]


async def _create(admin: AIOKafkaAdminClient, wanted: Mapping[str, TopicSpec]) -> list[str]:
    """The names that were not there yet: a broker lists a new topic a moment after it made it."""
    answer = await admin.create_topics(
        [
            NewTopic(
                name,
                num_partitions=spec.partitions,
                replication_factor=spec.replication,
                topic_configs={key: str(value) for key, value in spec.config.items()},
            )
            for name, spec in wanted.items()
        ]
    )
    for name, code, *_rest in answer.topic_errors:
        if code and for_code(code) is not TopicAlreadyExistsError:
            raise SluiceError(f"topic {name} could not be created: {for_code(code).__name__}")
    return [name for name, code, *_rest in answer.topic_errors if not code]


@asynccontextmanager
async def _admin(servers: str) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers, request_timeout_ms=10_000)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


class QueueProgress:
    """Tells how far the drives and assignments on the bus have been read."""

    READERS: Mapping[Topic, Group] = {
        Topic.ACCEPTED: Group.ROUTER,
        Topic.REROUTE: Group.ROUTER,
        Topic.EMAIL: Group.EMAIL_WORKER,
        Topic.SMS: Group.SMS_WORKER,
        Topic.WHATSAPP: Group.SMS_WORKER,
        Topic.TELEGRAM: Group.SMS_WORKER,
        Topic.SIGNAL: Group.SMS_WORKER,
        Topic.PUSH: Group.PUSH_WORKER,
    }

    def __init__(self, servers: str) -> None:
        self._servers = servers

    async def low_watermarks(self) -> dict[Channel, datetime]:
        """By channel, when the oldest record that is not finished yet was driven; now if its conveyor is empty.

        A channel's conveyor is what all channels share and its own topic: one whose workers are away holds no other.

        Raises:
            KafkaError: the broker does not tell; nothing may be concluded.
        """
        now = utc_now()
        waiting = await self._first_uncommitted()
        enqueued = await self._enqueued_at(waiting) if waiting else {}
        return {
            channel: min(
                (
                    at
                    for tp, at in enqueued.items()
                    if tp.topic in (Topic.ACCEPTED, Topic.REROUTE, delivery_topic(channel))
                ),
                default=now,
            )
            for channel in Channel
        }

    async def _first_uncommitted(self) -> dict[TopicPartition, int]:
        committed: dict[TopicPartition, int] = {}
        async with _admin(self._servers) as admin:
            for group in set(self.READERS.values()):
                offsets = await admin.list_consumer_group_offsets(group.value)
                topics = {topic for topic, reader in self.READERS.items() if reader is group}
                committed |= {tp: at.offset for tp, at in offsets.items() if tp.topic in topics and at.offset >= 0}
            described = await admin.describe_topics([topic.value for topic in self.READERS])
        partitions = [
            TopicPartition(topic["topic"], one["partition"]) for topic in described for one in topic["partitions"]
        ]
        async with self._reader() as reader:
            ends = await reader.end_offsets(partitions)
            begins = await reader.beginning_offsets(partitions)
        # A committed offset beyond the end belongs to a topic that was made anew: its reader starts over.
        firsts = {
            tp: begins[tp] if committed.get(tp, -1) < begins[tp] or committed[tp] > ends[tp] else committed[tp]
            for tp in partitions
        }
        return {tp: first for tp, first in firsts.items() if first < ends[tp]}

    async def _enqueued_at(self, firsts: Mapping[TopicPartition, int]) -> dict[TopicPartition, datetime]:
        found: dict[TopicPartition, datetime] = {}
        deadline = time.monotonic() + 5.0
        async with self._reader() as reader:
            while len(found) < len(firsts):
                open_ = [tp for tp in firsts if tp not in found]
                reader.assign(open_)
                for tp in open_:
                    reader.seek(tp, firsts[tp])
                for tp, records in (await reader.getmany(timeout_ms=500, max_records=len(open_))).items():
                    found[tp] = _enqueue_time(records[0])
                if time.monotonic() > deadline:
                    raise KafkaError("the first unread records did not come in time")
        return found

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[Any]:
        reader = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=16 * 1024,
            request_timeout_ms=10_000,
        )
        await reader.start()
        try:
            yield reader
        finally:
            await reader.stop()


def _enqueue_time(record: Any) -> datetime:
    for kind in (Assignment, DeliveryTask):
        try:
            read = kind.model_validate_json(record.value)
        except ValidationError:
            continue
        return read.task.enqueued_at if isinstance(read, Assignment) else read.enqueued_at
    return datetime.fromtimestamp(record.timestamp / 1000, UTC)
