"""The wiring of the worker for SMS and messaging apps; a setting selects the channels of a process."""

from __future__ import annotations

from pydantic import Field

from sluice.bus.topics import Group
from sluice.delivery.bootstrap import run_worker
from sluice.delivery.settings import WorkerSettings
from sluice.model.message import Channel
from sluice.runtime.settings import load


class SmsWorkerSettings(WorkerSettings):
    """Settings of the sms-worker."""

    sms_worker_channels: frozenset[Channel] = Field(
        frozenset({Channel.SMS, Channel.WHATSAPP, Channel.TELEGRAM, Channel.SIGNAL}),
        description="channels of this process, a JSON list; all replicas must agree",
    )


async def main() -> None:
    """Deliver the messages of the configured channels until shutdown is requested."""
    channels = sorted(load(SmsWorkerSettings).sms_worker_channels)
    await run_worker("sms-worker", Group.SMS_WORKER, channels)
