"""The routing policies that a project can choose by name."""

from __future__ import annotations

from enum import StrEnum


class RoutingPolicy(StrEnum):
    """How a provider is selected among the candidates. Suspensions (credentials, ``Retry-After``) hold under each."""

    ADAPTIVE = "adaptive"  # the circuit breaker with time decay, destinations, probes and a ramp
    SEED = "seed"  # the rule of the last 100 attempts
    STATIC = "static"  # the priorities alone
