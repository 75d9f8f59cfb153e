"""`sluice doctor`: what cannot be made on a running system without harm to other tests."""

import asyncio
import os
from collections import namedtuple
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from sluice.bus.topic_admin import TopicSpec
from sluice_cli.diagnosis import machine
from sluice_cli.diagnosis.services import _check_clock, check_redis, check_topics, check_workers
from sluice_cli.doctor import examine
from tests.examples import NOON

Usage = namedtuple("Usage", "total used free")

PARTITIONS = dict.fromkeys(("send.requests", "deliveries.accepted", "deliveries.reroute", "delivery.events"), 8) | {
    f"deliveries.{channel}": 8 for channel in ("email", "sms", "whatsapp", "telegram", "signal", "push")
}


@pytest.mark.parametrize(
    ("ahead", "level"), [(0, "ok"), (1.5, "ok"), (2.5, "warn"), (-2.5, "warn"), (61, "FAIL"), (-7200, "FAIL")]
)
def test_a_clock_that_is_wrong_is_named_with_its_difference(ahead, level):
    finding = _check_clock(NOON + timedelta(seconds=ahead), NOON, NOON)

    assert (finding.level, finding.check) == (level, "clock")
    assert f"differ by {abs(ahead):.1f} s" in finding.text


@pytest.mark.parametrize(("free", "level"), [(50 << 30, "ok"), (1 << 30, "warn"), (100 << 20, "FAIL")])
def test_a_disk_that_is_nearly_full_is_named(monkeypatch, tmp_path, free, level):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Usage(100 << 30, (100 << 30) - free, free))

    (finding,) = run(machine.check_disk(SimpleNamespace(data_dir=tmp_path / "not yet made")))

    assert finding.level == level
    assert str(Path(tmp_path)) in finding.text


def test_where_nothing_runs_that_is_the_only_finding(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("SLUICE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLUICE_DATA_DIR", str(tmp_path))

    (finding,) = run(examine(post_samples=False))

    assert (finding.level, finding.check, finding.action) == ("FAIL", "processes", "`sluice up`")


def test_consumers_without_a_partition_are_counted_and_the_remedy_is_a_command():
    findings = check_workers(PARTITIONS, {"email-worker": 10, "router": 8, "gateway-ingest": 1})

    assert [(one.level, one.text, one.action) for one in findings] == [
        (
            "warn",
            "email-worker has 10 processes for 8 partitions: 2 of them get no work",
            "run `sluice partitions deliveries.email=10`",
        )
    ]


def test_enough_partitions_for_every_consumer_are_in_order():
    (finding,) = check_workers(PARTITIONS, {"email-worker": 8, "sms-worker": 3})

    assert finding.level == "ok"


async def test_redis_gets_the_password_that_is_not_in_its_address():
    received = []

    async def refuse(reader, writer):
        received.append(await reader.read(1024))
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        environment = {"SLUICE_REDIS_URL": url, "SLUICE_REDIS_PASSWORD": "canary"}
        await check_redis(SimpleNamespace(environment=environment, processes=[]))

    assert b"AUTH" in received[0]
    assert b"canary" in received[0]


def test_topics_that_are_not_as_the_file_has_them_are_named():
    def partitions(number, *, replicas=1, in_sync=None):
        synced = replicas if in_sync is None else in_sync
        return {"partitions": [{"replicas": [*range(replicas)], "isr": [*range(synced)]}] * number}

    specs = {name: TopicSpec(partitions=8, replication=3, config={}) for name in ("a", "b", "c", "d")}
    described = {"a": partitions(8, replicas=3), "b": partitions(4, replicas=3), "c": partitions(8, in_sync=1)}
    described["d"] = partitions(8, replicas=3, in_sync=2)

    found = check_topics(described, specs)
    missing = check_topics({}, {"a": specs["a"]})

    assert [(one.level, one.text) for one in found] == [
        ("FAIL", "b has 4 partitions, deploy/topics.yml has 8"),
        ("warn", "c has 1 replicas, deploy/topics.yml has 3"),
        ("warn", "8 partitions of d miss a replica"),
    ]
    assert [(one.level, one.text) for one in missing] == [("FAIL", "a is missing")]


def run(checking):
    """The findings of a check that waits for nothing."""
    with pytest.raises(StopIteration) as ended:
        checking.send(None)
    return ended.value.value
