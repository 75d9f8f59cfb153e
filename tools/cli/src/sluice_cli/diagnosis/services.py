"""The backing services: whether they answer, the clock, the schema, the topics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from sluice.bus.connection import KafkaConnection, explain
from sluice.bus.topic_admin import TopicSpec, open_admin, read_topic_specs
from sluice.bus.topics import Group, Topic, delivery_topic
from sluice.model.message import Channel
from sluice.runtime.errors import SluiceError
from sluice.runtime.redis_client import create_client
from sluice.store import migrations
from sluice_cli import context
from sluice_cli.diagnosis.finding import Finding, fail, ok, warn
from sluice_cli.diagnosis.installation import Installation

_SKEW_WARN, _SKEW_FAIL = 2.0, 60.0  # seconds
_TIMEOUT = 5.0  # seconds


async def check_postgres(installation: Installation) -> list[Finding]:
    """The server, its clock against this machine's, and the schema."""
    try:
        async with context.database() as connection:
            before = datetime.now(UTC)
            row = await connection.fetchrow(
                "SELECT current_setting('server_version') AS version, clock_timestamp() AS now, current_user AS login"
            )
            after = datetime.now(UTC)
            assert row is not None
            answered = ok("postgres", f"PostgreSQL {row['version']} answers the login {row['login']}")
            schema = await _check_schema(connection)
    except SluiceError as error:
        return [fail("postgres", str(error), _start(installation, "postgres", "SLUICE_POSTGRES_DSN"))]
    return [answered, _check_clock(row["now"], before, after), schema]


def _check_clock(theirs: datetime, before: datetime, after: datetime) -> Finding:
    """The roles follow PostgreSQL's clock; this machine's decides about certificates."""
    skew = max(0.0, (theirs - after).total_seconds(), (before - theirs).total_seconds())
    text = f"PostgreSQL's clock and this machine's differ by {skew:.1f} s"
    if skew >= _SKEW_FAIL:
        return fail("clock", text, "synchronise both machines (NTP): signed requests and receipts are refused")
    if skew >= _SKEW_WARN:
        return warn("clock", text, "synchronise both machines (NTP)")
    return ok("clock", text)


async def _check_schema(connection: Any) -> Finding:
    try:
        pending = await migrations.list_pending(connection)
    except SluiceError as error:
        return fail("schema", str(error), "install the version that the database belongs to")
    if pending:
        return fail("schema", f"pending migrations: {', '.join(pending)}", "run `sluice migrate`")
    return ok("schema", f"every migration is applied, the last is {migrations.load_migrations()[-1].name}")


async def check_redis(installation: Installation) -> list[Finding]:
    """The server, where one is configured."""
    url = installation.environment.get("SLUICE_REDIS_URL")
    if not url:
        text = "SLUICE_REDIS_URL is not set: the health service keeps no snapshot, each gateway counts logins alone"
        return [ok("redis", text)]
    password = installation.environment.get("SLUICE_REDIS_PASSWORD") or None
    try:
        async with create_client(url, password=password, timeout=_TIMEOUT) as redis:
            await redis.ping()
    except (SluiceError, RedisError, OSError, TypeError) as error:  # TypeError: an unknown option in the URL
        return [fail("redis", f"Redis: {error}", _start(installation, "redis", "SLUICE_REDIS_URL"))]
    return [ok("redis", "Redis answers")]


async def check_kafka(installation: Installation) -> list[Finding]:
    """The brokers, the topics against deploy/topics.yml, and the partitions against the workers."""
    kafka: KafkaConnection | None = None
    try:
        kafka = context.kafka()
        async with asyncio.timeout(4 * _TIMEOUT), open_admin(kafka) as admin:
            described = {topic["topic"]: topic for topic in await admin.describe_topics()}
            members = await _members(admin)
    except (SluiceError, KafkaError, OSError) as error:
        reason = str(error) if kafka is None else await explain(kafka)
        return [fail("kafka", f"Kafka: {reason}", _start(installation, "kafka", "SLUICE_KAFKA_BOOTSTRAP_SERVERS"))]
    return [
        ok("kafka", f"Kafka answers at {kafka.servers}"),
        *check_topics(described, read_topic_specs()),
        *check_workers({name: len(topic["partitions"]) for name, topic in described.items()}, members),
    ]


def check_topics(described: Mapping[str, Any], specs: Mapping[str, TopicSpec]) -> list[Finding]:
    """Topics that are missing, have too few partitions or replicas, or whose replicas are not in sync."""
    found: list[Finding] = []
    for name, spec in specs.items():
        partitions = described[name]["partitions"] if name in described else []
        if not partitions:
            found.append(fail("topics", f"{name} is missing", "run `sluice create-topics`"))
            continue
        if len(partitions) < spec.partitions:
            text = f"{name} has {len(partitions)} partitions, deploy/topics.yml has {spec.partitions}"
            found.append(fail("topics", text, "run `sluice create-topics`"))
        replicas = min(len(one["replicas"]) for one in partitions)
        if replicas < spec.replication:
            text = f"{name} has {replicas} replicas, deploy/topics.yml has {spec.replication}"
            found.append(warn("topics", text, "reassign its partitions (kafka-reassign-partitions.sh)"))
        behind = sum(len(one["isr"]) < len(one["replicas"]) for one in partitions)
        if behind:
            found.append(warn("topics", f"{behind} partitions of {name} miss a replica", "look at the brokers"))
    return found or [ok("topics", f"all {len(specs)} exist with the partitions of deploy/topics.yml")]


_CONSUMED: Mapping[Group, tuple[Topic, ...]] = {
    Group.INGEST: (Topic.SEND_REQUESTS,),
    Group.ROUTER: (Topic.ACCEPTED, Topic.REROUTE),
    Group.EMAIL_WORKER: (Topic.EMAIL,),
    Group.SMS_WORKER: tuple(
        delivery_topic(channel) for channel in Channel if channel not in (Channel.EMAIL, Channel.PUSH)
    ),
    Group.PUSH_WORKER: (Topic.PUSH,),
    Group.EVENT_WORKER: (Topic.EVENTS,),
}


def check_workers(partitions: Mapping[str, int], members: Mapping[str, int]) -> list[Finding]:
    """Groups with more consumers than a topic has partitions: those in excess get no work."""
    found: list[Finding] = []
    for group, topics in _CONSUMED.items():
        number = members.get(group.value, 0)
        most = max(partitions.get(topic.value, 0) for topic in topics)
        if number > most:
            text = f"{group.value} has {number} processes for {most} partitions: {number - most} of them get no work"
            more = " ".join(f"{topic.value}={number}" for topic in topics)
            found.append(warn("partitions", text, f"run `sluice partitions {more}`"))
    counts = ", ".join(f"{group.value} {members.get(group.value, 0)}" for group in _CONSUMED)
    return found or [ok("partitions", f"enough for the consumers ({counts})")]


async def _members(admin: Any) -> dict[str, int]:
    """The number of consumers in each group; none in one that does not exist yet."""
    found = {}
    for group in _CONSUMED:
        # One at a time: the client reads responses of version 3 as version 2, and fails at the second group.
        (response,) = await admin.describe_consumer_groups([group.value])
        for _error, name, _state, _kind, _protocol, members, *_ in response.groups:
            found[name] = len(members)
    return found


def _start(installation: Installation, name: str, variable: str) -> str:
    if any(row["name"] == name for row in installation.processes):
        return f"`sluice start {name}`, or look at `sluice logs {name}`"
    return f"start it, or correct {variable}"
