"""The settings of the rules by which providers are judged."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from sluice.health.breaker import HealthThresholds
from sluice.health.seed_rule import SeedThresholds


class HealthRuleSettings(BaseSettings):
    """The thresholds of both rules."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", frozen=True, extra="ignore", allow_inf_nan=False)

    health_thresholds: HealthThresholds = Field(
        default_factory=lambda: HealthThresholds(),
        description="circuit breaker, a JSON object: see health/breaker.py",
    )
    health_seed_thresholds: SeedThresholds = Field(
        default_factory=lambda: SeedThresholds(),
        description="seed rule, which projects can choose, a JSON object: see health/seed_rule.py",
    )
