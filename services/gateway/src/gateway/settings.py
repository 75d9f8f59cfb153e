"""The settings of the gateway."""

from __future__ import annotations

from pydantic import Field, field_validator

from sluice.delivery.retry_policy import RetryPolicy
from sluice.model.address import parse_address
from sluice.providers.adapters.smtp import SmtpCredentials
from sluice.providers.sms_link import SmsLinkSettings
from sluice.runtime.settings import DispatchSettings, EncryptionSettings


class GatewaySettings(RetryPolicy, SmsLinkSettings, EncryptionSettings, DispatchSettings):
    """Settings of the gateway."""

    ops_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="port of `/livez`, `/readyz` and `/metrics`, which need no key; 0 for any free one. The gateway's "
        "own port serves only its APIs",
    )
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
    mail_server: SmtpCredentials | None = Field(
        None,
        description="SMTP server for invitations and password resets, with the fields of the credentials of "
        "`provider-smtp`; without one the links are shown instead",
    )
    mail_sender: str | None = Field(None, description="sender of invitations and password resets")
    kafka_plain_api_keys: bool = Field(
        True, description="accept records on send.requests that contain the API key; without it they have to be signed"
    )
    project_messages_per_day: int = Field(
        10_000_000,
        ge=0,
        description="messages of a project in a day (UTC), test and live apart; 0: any number",
    )
    project_urgent_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="largest fraction of urgent messages of a project's day, beyond the first 10,000; 1: any number",
    )
    project_attachment_bytes: int = Field(
        21_474_836_480, ge=0, description="bytes of stored attachments of a project; 0: any number"
    )
    max_pending_writes: int = Field(5_000, gt=0, description="requests waiting for their commit before 503")

    @field_validator("mail_sender")
    @classmethod
    def _is_address(cls, sender: str | None) -> str | None:
        if sender is not None:
            parse_address(sender)
        return sender
