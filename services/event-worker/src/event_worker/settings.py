"""The settings of the event-worker."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from sluice.delivery.mailer import MailSettings
from sluice.runtime.settings import EncryptionSettings, Settings
from sluice.transports.settings import OutgoingSettings

_MINUTE, _HOUR = 60.0, 3600.0


class SilenceSettings(Settings):
    """When a provider's receipts count as stopped."""

    receipts_silent_after: float = Field(
        3600.0, gt=0, description="time without a receipt of a provider that has sent some and accepts messages"
    )
    receipts_silent_attempts: int = Field(
        20, ge=1, description="attempts that it accepted in that time; with fewer, its silence is no sign"
    )


class EventWorkerSettings(SilenceSettings, OutgoingSettings, MailSettings, EncryptionSettings):
    """Settings of the event-worker: how the webhooks of customers are sent."""

    webhook_timeout: float = Field(15.0, gt=0, le=60, description="time for an endpoint to answer a webhook")
    webhook_lease: float = Field(
        60.0, gt=0, description="time after which a webhook is sent again whose process ended; more than the timeout"
    )
    webhook_concurrency: int = Field(
        32, ge=1, description="webhook requests of this process that one endpoint gets at the same time"
    )
    webhook_total_concurrency: int = Field(
        512, ge=1, description="webhook requests of this process at the same time, to all endpoints"
    )
    webhook_retry_schedule: tuple[float, ...] = Field(
        (5.0, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR),
        description="pauses after each failed attempt of a webhook, seconds; up to a tenth is added at random",
    )
    webhook_disable_after: float = Field(
        72 * _HOUR,
        gt=0,
        description="time without a successful webhook after which an endpoint is disabled when retries are exhausted",
    )
    webhook_poll_interval: float = Field(0.5, gt=0, description="pause between looks for due webhooks, seconds")

    @field_validator("webhook_lease")
    @classmethod
    def _outlasts_a_call(cls, lease: float, info: ValidationInfo) -> float:
        if lease <= info.data.get("webhook_timeout", 0.0):
            raise ValueError("must be more than the timeout of a webhook")
        return lease

    @field_validator("webhook_retry_schedule")
    @classmethod
    def _has_no_negative_pause(cls, schedule: tuple[float, ...]) -> tuple[float, ...]:
        if any(pause < 0 for pause in schedule) or len(schedule) > 100:
            raise ValueError("must have at most 100 pauses, none of them negative")
        return schedule
