"""Settings of the workers."""

from __future__ import annotations

from pydantic import Field

from sluice.delivery.retry_policy import RetryPolicy
from sluice.providers.sms_link import SmsLinkSettings
from sluice.runtime.settings import EncryptionSettings
from sluice.transports.settings import TransportSettings


class WorkerPolicy(RetryPolicy, TransportSettings):
    """Limits and timeouts of a worker: plain data, without addresses and keys. Durations are seconds."""

    call_timeout: float = Field(
        3600.0, gt=0, description="longest provider call; each of its steps has a shorter limit of its own"
    )
    urgent_call_timeout: float = Field(
        15.0, gt=0, description="class urgent: longest provider call; the next provider may then send a duplicate"
    )

    provider_concurrency: int = Field(
        256, ge=1, description="calls in flight at one provider, unless its package or its settings say otherwise"
    )
    # Large enough that the jobs of one saturated provider do not keep other assignments from being read.
    prefetch: int = Field(5000, ge=1, description="assignments read and not acknowledged")
    provider_queue_timeout: float = Field(
        2.0, gt=0, description="longest wait for a slot of a provider before the delivery is rerouted"
    )
    public_url: str | None = Field(None, description="public address of the gateway, for the receipts of providers")


class WorkerSettings(WorkerPolicy, SmsLinkSettings, EncryptionSettings):
    """Settings that every worker reads."""
