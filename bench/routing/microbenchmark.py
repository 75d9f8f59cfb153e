"""``python -m bench.routing.microbenchmark``: the time of one routing decision, as one JSON object.

The smallest of many short measurements is what the function costs; the others contain the work of other processes.
"""

from __future__ import annotations

import json
import sys
import timeit
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sluice.bus.messages import DeliveryTask, HealthState, ProviderHealth
from sluice.model.candidate import Candidate
from sluice.model.message import Channel, DeliveryClass
from sluice.model.routing_policy import RoutingPolicy
from sluice.routing.decision import encode_decision
from sluice.routing.probe_budget import ProbeBudget
from sluice.routing.selection import select_provider

CANDIDATES = 10
LIMIT_US = 20.0  # of select_provider with full health
_CALLS, _MEASUREMENTS = 20, 2000


def _microseconds(statement: object) -> float:
    return round(min(timeit.repeat(statement, number=_CALLS, repeat=_MEASUREMENTS)) / _CALLS * 1e6, 2)  # type: ignore[arg-type]


def _health(provider_id: UUID, project_id: UUID, now: datetime) -> ProviderHealth:
    """A provider that was unhealthy once, with a destination of another health."""
    return ProviderHealth(
        provider_id=provider_id,
        project_id=project_id,
        channel=Channel.SMS,
        status="healthy",
        error_rate=0.012,
        effective_samples=431.0,
        healthy_since=now - timedelta(minutes=9),
        full_share_at=now - timedelta(minutes=8),
        destinations={"+49": HealthState(status="degraded", probe_at=now + timedelta(seconds=5))},
        updated_at=now,
    )


def main() -> int:
    """Measure, print, and return 1 if the limit is broken."""
    now, project_id = datetime.now(UTC), uuid4()
    candidates = [Candidate(uuid4(), "provider-x", priority) for priority in range(CANDIDATES)]
    health = {one.id: _health(one.id, project_id, now) for one in candidates}
    task = DeliveryTask(
        delivery_id=uuid4(),
        message_id=uuid4(),
        project_id=project_id,
        channel=Channel.SMS,
        delivery_class=DeliveryClass.STANDARD,
        enqueued_at=now,
        expires_at=now,
        destination="+44",
    )
    allow = ProbeBudget().allow
    found = {
        policy.value: _microseconds(lambda policy=policy: select_provider(task, candidates, health, now, allow, policy))
        for policy in RoutingPolicy
    }
    selection = select_provider(task, candidates, health, now, allow)
    encoding = _microseconds(lambda: encode_decision(selection, RoutingPolicy.ADAPTIVE, task.destination))
    holds = found[RoutingPolicy.ADAPTIVE] < LIMIT_US
    print(
        json.dumps(
            {
                "candidates": CANDIDATES,
                "select_provider_us": found,
                "encode_decision_us": encoding,
                "limit_us": LIMIT_US,
                "holds": holds,
            }
        )
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
