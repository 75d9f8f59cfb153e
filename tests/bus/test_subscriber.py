"""FastStream subscribers as the roles run them, with the acknowledgement policy of each, on a real broker."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from faststream import AckPolicy

from sluice.bus.connection import KafkaConnection
from sluice.bus.subscriber import SubscriberRunner, subscribe_to_batches
from sluice.runtime.errors import SluiceError
from sluice_launcher.process_info import free_port
from tests.bus.bus import a_producer, committed, is_committed, numbers
from tests.polling import wait_until


class Handler:
    """Keeps the values of its batches; raises while it has a ``fault``; waits while its ``gate`` is closed."""

    def __init__(self):
        self.values = []
        self.fault = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, records):
        self.values += [record.value for record in records]
        await self.gate.wait()
        if self.fault is not None:
            await asyncio.sleep(0.05)
            raise self.fault

    async def has(self, count):
        await wait_until(lambda: len(self.values) >= count)


@asynccontextmanager
async def running(bootstrap, topic, group, handler, policy=AckPolicy.NACK_ON_ERROR):
    """A runner with one batch subscriber until the block ends."""

    def declare(broker):
        subscriber = subscribe_to_batches(
            broker, topic, group=group, ack_policy=policy, auto_offset_reset="earliest", fetch_max_wait_ms=50
        )

        @subscriber
        async def on_records(records):
            await handler(records)

        return subscriber

    runner = SubscriberRunner(declare, kafka=KafkaConnection.to(bootstrap), group=group)
    async with consuming(runner):
        yield runner


@asynccontextmanager
async def consuming(runner):
    task = asyncio.create_task(runner.run())
    try:
        yield task
    finally:
        runner.stop()
        await asyncio.wait_for(task, 30)


async def test_a_handled_batch_is_committed(kafka_bootstrap, admin, topic, group):
    handler = Handler()
    await numbers(kafka_bootstrap, topic, 10)

    async with running(kafka_bootstrap, topic, group, handler):
        await wait_until(lambda: is_committed(admin, group, topic, 10))

    assert handler.values == [str(number).encode() for number in range(10)]


async def test_a_failed_batch_is_consumed_again_and_nothing_is_committed(kafka_bootstrap, admin, topic, group):
    handler = Handler()
    handler.fault = RuntimeError("a bug")
    await numbers(kafka_bootstrap, topic, 3)

    async with running(kafka_bootstrap, topic, group, handler):
        await handler.has(9)
        assert await committed(admin, group, topic) is None
        handler.fault = None
        await wait_until(lambda: is_committed(admin, group, topic, 3))


class Holder(ConsumerRebalanceListener):  # type: ignore[misc]
    """Keeps its group from rebalancing until it is released, as a killed member does until its session expires."""

    def __init__(self):
        self.released = asyncio.Event()
        self.released.set()

    async def on_partitions_assigned(self, assigned):
        pass

    async def on_partitions_revoked(self, revoked):
        await self.released.wait()


async def test_while_its_group_rebalances_a_runner_is_not_ready(kafka_bootstrap, topic, group):
    holder, handler = Holder(), Handler()
    options = {"group_id": group, "heartbeat_interval_ms": 500, "rebalance_timeout_ms": 120_000}
    holding, joining = (AIOKafkaConsumer(bootstrap_servers=kafka_bootstrap, **options) for _ in range(2))
    holding.subscribe([topic], listener=holder)
    joining.subscribe([topic])

    async with running(kafka_bootstrap, topic, group, handler) as runner:
        await holding.start()
        await wait_until(lambda: runner.readiness() is None)
        holder.released.clear()
        joined = asyncio.create_task(joining.start())
        rebalancing = await wait_until(runner.readiness)
        holder.released.set()
        await joined
        await holding.stop()
        await joining.stop()
        await wait_until(lambda: runner.readiness() is None)
        await numbers(kafka_bootstrap, topic, 1)
        await handler.has(1)

    assert rebalancing == "not in the consumer group yet"


@asynccontextmanager
async def holding(bootstrap, topic, group):
    """A member that keeps its group from rebalancing until it is released."""
    holder = Holder()
    member = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=group,
        heartbeat_interval_ms=500,
        rebalance_timeout_ms=120_000,
        enable_auto_commit=False,
    )
    member.subscribe([topic], listener=holder)
    await member.start()
    holder.released.clear()
    try:
        yield holder
    finally:
        holder.released.set()
        await member.stop()


async def test_a_runner_that_does_not_get_back_into_its_group_ends(kafka_bootstrap, topic, group, monkeypatch):
    monkeypatch.setattr("sluice.bus.client._MEMBERSHIP_LIMIT", 3.0)

    async def kept_out():
        async with running(kafka_bootstrap, topic, group, Handler()) as runner:
            await wait_until(lambda: runner.readiness() is None)
            joining = AIOKafkaConsumer(topic, bootstrap_servers=kafka_bootstrap, group_id=group)
            async with holding(kafka_bootstrap, topic, group) as holder:
                joined = asyncio.create_task(joining.start())
                await asyncio.sleep(6)
                holder.released.set()
                await joined
            await joining.stop()

    with pytest.raises(SluiceError, match=r"for \d+ s, while Kafka answers; the client waits in .*_do_rejoin_group > "):
        await kept_out()


async def test_a_runner_whose_start_does_not_end_makes_a_new_client(kafka_bootstrap, topic, group, monkeypatch):
    monkeypatch.setattr("sluice.bus.connect._START_LIMIT", 8.0)
    handler = Handler()
    await numbers(kafka_bootstrap, topic, 1)
    async with AsyncExitStack() as stack:
        async with holding(kafka_bootstrap, topic, group) as holder:
            runner = await stack.enter_async_context(running(kafka_bootstrap, topic, group, handler))
            consumer = await wait_until(lambda: runner._subscriber and runner._subscriber.consumer)
            await wait_until(lambda: hasattr(consumer._coordinator, "_coordination_task"))
            consumer._coordinator._coordination_task.cancel()
            await asyncio.sleep(1)
            holder.released.set()
            await wait_until(lambda: runner.readiness() is None)
        await handler.has(1)

    assert runner._subscriber.consumer is not consumer


async def test_a_runner_ends_with_the_coordination_of_its_client(kafka_bootstrap, topic, group):
    async def without_coordination():
        async with running(kafka_bootstrap, topic, group, Handler()) as runner:
            await wait_until(lambda: runner.readiness() is None)
            runner._subscriber.consumer._coordinator._coordination_task.cancel()
            await asyncio.sleep(3)

    with pytest.raises(SluiceError, match="nothing polls the Kafka client any more"):
        await without_coordination()


async def test_with_the_policy_of_the_health_service_a_failed_batch_is_skipped(kafka_bootstrap, admin, topic, group):
    handler = Handler()
    handler.fault = RuntimeError("a bug")
    await numbers(kafka_bootstrap, topic, 3)

    async with running(kafka_bootstrap, topic, group, handler, AckPolicy.ACK):
        await wait_until(lambda: is_committed(admin, group, topic, 3))

    assert len(handler.values) == 3


async def test_a_stop_waits_for_the_running_handler_and_commits_its_batch(kafka_bootstrap, admin, topic, group):
    handler = Handler()
    handler.gate.clear()
    await numbers(kafka_bootstrap, topic, 3)

    async with running(kafka_bootstrap, topic, group, handler) as runner:
        await handler.has(3)
        runner.stop()
        assert runner.readiness() == "stopping"
        await asyncio.sleep(0)
        handler.gate.set()

    assert await committed(admin, group, topic) == 3


@pytest.mark.parametrize("headers", [[("name", b"\xff\xfe")], [("name", None)], [("reply_to", b"elsewhere")]])
async def test_no_header_keeps_a_record_from_its_handler(kafka_bootstrap, admin, topic, group, headers):
    handler = Handler()
    async with a_producer(kafka_bootstrap) as producer:
        await producer.send_and_wait(topic, b"0", headers=headers)

    async with running(kafka_bootstrap, topic, group, handler):
        await wait_until(lambda: is_committed(admin, group, topic, 1))

    assert handler.values == [b"0"]


async def test_a_runner_is_ready_while_its_subscriber_consumes(kafka_bootstrap, topic, group):
    async with running(kafka_bootstrap, topic, group, Handler()) as runner:
        assert runner.readiness() == "not in the consumer group yet"
        await wait_until(lambda: runner.readiness() is None)

    assert runner.readiness() == "stopping"


async def test_a_runner_without_a_broker_can_be_stopped(group):
    async with running(f"127.0.0.1:{free_port()}", "nothing", group, Handler()) as runner:
        await asyncio.sleep(0.1)
        assert runner.readiness() == "not in the consumer group yet"


async def test_a_runner_ends_when_its_subscriber_is_cancelled_from_inside(kafka_bootstrap, topic, group):
    """FastStream does not restart a consume loop that was cancelled: the role must end and be restarted."""
    handler = Handler()
    handler.fault = asyncio.CancelledError()
    await numbers(kafka_bootstrap, topic, 1)

    async def cancelled():
        async with running(kafka_bootstrap, topic, group, handler) as runner:
            await handler.has(1)
            await wait_until(lambda: runner.readiness() == "the subscriber has ended")
            await asyncio.sleep(2)

    with pytest.raises(SluiceError, match="nothing polls the Kafka client"):
        await cancelled()
