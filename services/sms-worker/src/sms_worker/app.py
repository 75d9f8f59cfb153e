"""The worker of SMS and the messaging apps; a setting says which of them this process carries."""

from __future__ import annotations

from pydantic import Field

from sluice.bus.topics import Group
from sluice.delivery.bootstrap import run_worker
from sluice.delivery.settings import WorkerSettings
from sluice.model.message import Channel
from sluice.runtime.settings import load


class SmsWorkerSettings(WorkerSettings):
    """What the sms-worker reads beyond the other workers' settings."""

    sms_worker_channels: frozenset[Channel] = Field(
        frozenset({Channel.SMS, Channel.WHATSAPP, Channel.TELEGRAM, Channel.SIGNAL}),
        description="channels of this process, a JSON list; replicas of one group must agree",
    )


async def main() -> None:
    """Carry the channels of the settings."""
    channels = sorted(load(SmsWorkerSettings).sms_worker_channels)
    await run_worker("sms-worker", Group.SMS_WORKER, channels)
