"""The settings of the gateway."""

from __future__ import annotations

from pydantic import Field

from sluice.delivery.mailer import MailSettings
from sluice.delivery.retry_policy import RetryPolicy
from sluice.providers.sms_link import SmsLinkSettings
from sluice.runtime.settings import DispatchSettings, EncryptionSettings
from sluice.transports.settings import OutgoingSettings


class GatewaySettings(
    RetryPolicy, OutgoingSettings, SmsLinkSettings, MailSettings, EncryptionSettings, DispatchSettings
):
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
    sign_up: bool = Field(
        False,
        description="people create accounts and projects themselves (`POST /auth/signup`); otherwise by invitation",
    )
    login_window: float = Field(900.0, ge=1, description="time in which attempts to log in are counted")
    login_attempts_per_account: int = Field(20, ge=1, description="attempts to log in to one account in that time")
    login_attempts_per_address: int = Field(
        100, ge=1, description="attempts to log in from one client address (of IPv6: one /64) in that time"
    )
    mail_domain: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$",
        description="domain with the SPF and DKIM records of what sends the mail; customers' domains refer to it",
    )
    dns_servers: tuple[str, ...] = Field(
        (), description="DNS servers for the check of domains, `address` or `address:port`; by default the system's"
    )
    rate_limit_per_organization: int = Field(
        0, ge=0, description="requests per minute of all projects of an organization; 0: any number"
    )
    rate_limit_per_address: int = Field(
        0,
        ge=0,
        description="requests per minute of a client address (of IPv6: one /64), webhooks of providers apart; "
        "0: any number",
    )
    kafka_plain_api_keys: bool = Field(
        True, description="accept records on send.requests that contain the API key; without it they have to be signed"
    )
    project_messages_per_day: int = Field(
        10_000_000,
        ge=0,
        description="messages of a project in a day (UTC), test and live apart; one to several recipients counts once "
        "for each, an e-mail once; 0: any number",
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
    send_wait: float = Field(
        30.0, ge=0, le=300, description="time that a send request of the project API waits for its outcome before 202"
    )
    max_pending_writes: int = Field(5_000, gt=0, description="requests waiting for their commit before 503")
