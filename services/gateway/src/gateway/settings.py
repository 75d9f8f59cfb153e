"""The settings of the gateway."""

from __future__ import annotations

from pydantic import Field

from sluice.delivery.retry_policy import RetryPolicy
from sluice.providers.sms_link import SmsLinkSettings
from sluice.runtime.settings import DispatchSettings, EncryptionSettings


class GatewaySettings(RetryPolicy, SmsLinkSettings, EncryptionSettings, DispatchSettings):
    """Settings of the gateway."""

    max_request_bytes: int = Field(26_214_400, gt=0, description="largest request, bytes; attachments count in base64")
    public_url: str | None = Field(None, description="public address of this gateway, as providers call it")
    kafka_plain_api_keys: bool = Field(
        True, description="accept records on send.requests that contain the API key; without it they have to be signed"
    )
    max_pending_writes: int = Field(5_000, gt=0, description="requests waiting for their commit before 503")
