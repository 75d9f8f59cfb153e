"""The limits of requests: per client address, and per organization, whose projects share one."""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from uuid import UUID

from gateway.errors import TooManyRequests
from gateway.rate_limits.buckets import Budget, TokenBuckets
from sluice.runtime import metrics
from sluice.store.config_cache import ConfigCache


@dataclass
class Spent:
    """What the current request has spent; the response shows it."""

    budget: Budget | None = None


current: ContextVar[Spent | None] = ContextVar("rate_limit", default=None)
"""Of the request that is being answered."""


class RateLimits:
    """Requests per minute; 0: any number. ``per_address`` counts before a caller is known."""

    def __init__(
        self, buckets: TokenBuckets, config: ConfigCache, *, per_address: int = 0, per_organization: int = 0
    ) -> None:
        self._buckets = buckets
        self._config = config
        self._per_address = per_address
        self._per_organization = per_organization

    @property
    def is_on(self) -> bool:
        """Whether there is a limit."""
        return bool(self._per_address or self._per_organization)

    async def spend_address(self, address: str | None) -> None:
        """Count a request from a client address; of IPv6 its /64.

        Raises:
            TooManyRequests: none is left.
        """
        if self._per_address and address is not None:
            await self._spend("address", network_of(address), self._per_address)

    async def spend_project(self, project_id: UUID) -> None:
        """Count a request of a project for its organization.

        Raises:
            TooManyRequests: none is left.
        """
        if self._per_organization:
            project = self._config.projects.get(project_id)
            owner = project_id if project is None else project.organization_id
            await self._spend("organization", str(owner), self._per_organization)

    async def _spend(self, kind: str, name: str, limit: int) -> None:
        budget = await self._buckets.spend(f"{kind}:{name}", limit)
        show(budget)
        if budget.retry_after is not None:
            metrics.series(metrics.RATE_LIMITED, kind).inc()
            raise TooManyRequests(
                f"More than {limit} requests in a minute. Retry after the delay in Retry-After.",
                retry_after=max(1, math.ceil(budget.retry_after)),
            )


def show(budget: Budget) -> None:
    """Show a budget in the response of the current request, if it is the smallest of those that it has spent."""
    spent = current.get()
    if spent is not None and (spent.budget is None or budget.remaining <= spent.budget.remaining):
        spent.budget = budget


def network_of(address: str) -> str:
    """The address, or of IPv6 its network of 64 bits: one client has all of it."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found) if found.version == 4 else str(ip_network(f"{found}/64", strict=False))
