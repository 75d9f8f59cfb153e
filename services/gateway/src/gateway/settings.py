"""The settings of the gateway."""

from __future__ import annotations

from pydantic import Field

from sluice.delivery.mailer import MailSettings
from sluice.delivery.retry_policy import RetryPolicy
from sluice.providers.sms_link import SmsLinkSettings
from sluice.runtime.settings import DispatchSettings, EncryptionSettings


class GatewaySettings(RetryPolicy, SmsLinkSettings, MailSettings, EncryptionSettings, DispatchSettings):
    """Settings of the gateway."""

    max_request_bytes: int = Field(26_214_400, gt=0, description="largest request, bytes; attachments count in base64")
    public_url: str | None = Field(None, description="public address of this gateway, as providers call it")
    client_proxies: int = Field(
        0, ge=0, le=10, description="reverse proxies in front that append the client's address to X-Forwarded-For"
    )
    login_window: float = Field(900.0, ge=1, description="time in which attempts to log in are counted")
    login_attempts_per_account: int = Field(20, ge=1, description="attempts to log in to one account in that time")
    login_attempts_per_address: int = Field(
        100, ge=1, description="attempts to log in from one client address (of IPv6: one /64) in that time"
    )
    kafka_plain_api_keys: bool = Field(
        True, description="accept records on send.requests that contain the API key; without it they have to be signed"
    )
    max_pending_writes: int = Field(5_000, gt=0, description="requests waiting for their commit before 503")
