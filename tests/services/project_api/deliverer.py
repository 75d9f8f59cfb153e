"""What follows the gateway, in process: the router's handler, and a worker whose providers answer as a test says."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

from router.handler import RoutingHandler
from sluice.bus.messages import Assignment, DeliveryTask, RetryHandle
from sluice.delivery.retry_policy import resolve
from sluice.delivery.settled_notices import SettledNotices
from sluice.delivery.settlement import Settlement, SettlementWriter
from sluice.model.ids import uuid7
from sluice.model.message import Channel
from sluice.model.outcome import Accepted
from sluice.providers.adapters.sandbox import SANDBOX_PROVIDER_ID
from sluice.runtime.clock import utc_now
from sluice.runtime.tasks import cancel_and_wait
from sluice.store import deliveries, providers
from sluice.store.deliveries import Claim
from tests.examples import a_policy
from tests.polling import wait_until
from tests.services.fakes import FakeRecord

_TOPICS = ("deliveries.accepted", "deliveries.reroute")


class Deliverer:
    """Routes and delivers what the gateway publishes. ``answers``: outcome by package and recipient, or by package.

    ``calls`` has (package, recipient) of every call; nothing is delivered while ``gate`` is closed.
    """

    def __init__(self, gateway, roles, bus, redis):
        self.gateway, self.roles, self.bus = gateway, roles, bus
        self.answers, self.calls = {}, []
        self.gate = asyncio.Event()
        self.gate.set()
        self.health = {}
        self.settlements = SettlementWriter(roles.router, bus, notices=SettledNotices(redis))
        self._read = dict.fromkeys((*_TOPICS, *(f"deliveries.{channel}" for channel in Channel)), 0)

    @asynccontextmanager
    async def running(self):
        self.router = RoutingHandler(
            config=self.gateway.config,
            health=self.health,
            publisher=self.bus,
            settlements=self.settlements,
            policy=a_policy(retry_schedule=(60.0,)),
        )
        async with self.settlements.running():
            working = asyncio.create_task(self._work())
            yield self
            await cancel_and_wait(working)
            await self.router.join()

    async def add_provider(self, package, channel, *, project_id=None, priority=None, name=None):
        """A provider of the first project, or of another one, behind the existing ones."""
        project_id = project_id or await self.gateway.pool.fetchval("SELECT id FROM projects WHERE slug = 'shop'")
        provider_id = uuid7()
        await providers.create_provider(
            self.gateway.pool,
            provider_id,
            project_id,
            package=package,
            channel=Channel(channel),
            name=name or package,
            encrypted_credentials=b"-",
            now=utc_now(),
        )
        await wait_until(lambda: provider_id in self.gateway.config.providers)
        return provider_id

    def _new(self, topic):
        values = self.bus.on(topic)[self._read[topic] :]
        self._read[topic] += len(values)
        return values

    async def _work(self):
        while True:
            await self.gate.wait()
            tasks = [value for topic in _TOPICS for value in self._new(topic)]
            if tasks:
                await self.router.handle_batch([FakeRecord(value) for value in tasks])
            assignments = [
                Assignment.model_validate_json(value)
                for channel in Channel
                for value in self._new(f"deliveries.{channel}")
            ]
            if assignments:
                await self._deliver(assignments)
            await asyncio.sleep(0.002)

    async def _deliver(self, assignments):
        claims = [self._claim(one) for one in assignments]
        claimed = await deliveries.claim(self.roles.worker, claims, lease=timedelta(seconds=60))
        for assignment, row in zip(assignments, claimed, strict=True):
            assert row is not None
            self.calls.append((assignment.package, row.recipient))
            outcome = self.answers.get((assignment.package, row.recipient)) or self.answers.get(assignment.package)
            handle = RetryHandle(provider_id=assignment.provider_id, reference=assignment.reference)
            resolution = resolve(
                *(assignment.task, handle, outcome or Accepted("their-id")),
                idempotent=False,
                at=utc_now(),
                policy=a_policy(),
            )
            self.settlements.settle(Settlement(assignment.task, resolution))

    @staticmethod
    def _claim(assignment):
        task: DeliveryTask = assignment.task
        return Claim(
            delivery_id=task.delivery_id,
            project_id=task.project_id,
            attempt=task.attempt,
            provider_id=assignment.provider_id,
            retry_round=task.retry_round,
            reference=assignment.reference,
            routing_decision=assignment.routing_decision,
            sandbox=assignment.provider_id == SANDBOX_PROVIDER_ID,
        )
