"""Consumer lag: what each group has not committed yet, in records and in seconds.

Measured by every router and not by the consumers themselves: the lag of a group without a running consumer counts most.
"""

from __future__ import annotations

import asyncio
import math

import structlog
from aiokafka.errors import KafkaError

from sluice.bus.connection import KafkaConnection
from sluice.bus.topics import SUBSCRIPTIONS, Group
from sluice.bus.uncommitted import Ranges, age_of, read_first_records, read_ranges
from sluice.runtime import metrics

log = structlog.get_logger()

_INTERVAL = 15.0  # seconds


class LagMonitor:
    """Sets the metrics of consumer lag; while Kafka does not answer there are none."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._kafka = kafka
        self._unknown = False

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            try:
                await self.measure()
                self._unknown = False
            except (KafkaError, OSError, TimeoutError) as error:
                if not self._unknown:
                    log.warning("consumer_lag_unknown", error=type(error).__name__)
                self._unknown = True
                metrics.CONSUMER_LAG.clear()
                metrics.CONSUMER_LAG_AGE.clear()
            await asyncio.sleep(_INTERVAL)

    async def measure(self) -> None:
        """Measure once.

        Raises:
            KafkaError: the broker does not respond.
        """
        for group, ranges in (await read_ranges(self._kafka, SUBSCRIPTIONS)).items():
            await self._measure_group(group, ranges)

    async def _measure_group(self, group: Group, ranges: Ranges) -> None:
        for topic in SUBSCRIPTIONS[group]:
            records = sum(end - offset for tp, (offset, end) in ranges.items() if tp.topic == topic)
            metrics.CONSUMER_LAG.labels(topic.value, group.value).set(records)
        try:
            first = await read_first_records(self._kafka, ranges)
            unknown = 0.0
        except KafkaError:  # a partition without a leader must not hide the lag of other groups
            first, unknown = {}, math.nan
        for topic in SUBSCRIPTIONS[group]:
            age = age_of(record for tp, record in first.items() if tp.topic == topic)
            metrics.CONSUMER_LAG_AGE.labels(topic.value, group.value).set(unknown if age is None else age)
