"""The installation's SMS link: its settings, and the package and credentials that they stand for."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator

from sluice.model.message import Channel
from sluice.providers.adapters.messagepipe import MESSAGEPIPE, SMPP_LINK, SmppLinkCredentials
from sluice.providers.contract import AnyPackage, Credentials
from sluice.providers.kit.smpp_status import StatusClass
from sluice.providers.registry import UnknownPackageError, get_package
from sluice.runtime.errors import SluiceError


class SmsLinkKind(StrEnum):
    """What carries the SMS of ``provider-messagepipe``."""

    NONE = "none"
    SMPP = "smpp"
    PACKAGE = "package"


class SmsLinkSettings(BaseModel, frozen=True, allow_inf_nan=False):
    """The SMS link of the installation; all replicas of the sms-worker and of the gateway must agree."""

    sms_link_kind: SmsLinkKind = Field(
        SmsLinkKind.NONE,
        description="what carries the SMS of `provider-messagepipe`: `smpp`, `package` (one account of another SMS "
        "package), or `none` (captured in the sandbox)",
    )
    sms_link_package: str | None = Field(None, description="kind package: its name, such as `provider-twilio`")
    sms_link_credentials: SecretStr | None = Field(None, description="kind package: its credentials, JSON")
    sms_link_credentials_file: Path | None = Field(None, description="file with these credentials, instead of them")
    sms_link_host: str | None = Field(None, min_length=1, description="SMPP: name or address of the SMSC")
    sms_link_port: int = Field(2775, ge=1, le=65535, description="SMPP: port of the SMSC")
    sms_link_tls: bool = Field(False, description="SMPP: TLS from the first octet; the certificate must name the host")
    sms_link_ca_file: Path | None = Field(
        None, description="SMPP: certificate authority of the SMSC; without it the system's are trusted"
    )
    sms_link_system_id: str | None = Field(
        None, min_length=1, max_length=15, pattern=r"^[\x21-\x7e]+$", description="SMPP: user name of the account"
    )
    sms_link_password: SecretStr | None = Field(None, description="SMPP: password of the account")
    sms_link_password_file: Path | None = Field(None, description="file with this password, instead of it")
    sms_link_system_type: str = Field("", max_length=12, pattern=r"^[\x20-\x7e]*$", description="SMPP: system_type")
    sms_link_service_type: str = Field("", max_length=5, pattern=r"^[\x20-\x7e]*$", description="SMPP: service_type")
    sms_link_interface_version: int = Field(
        0x34, ge=0x33, le=0x50, description="SMPP: interface_version, decimal: 52 for 3.4, 80 for 5.0"
    )
    sms_link_binds: int = Field(
        1, ge=1, le=1000, description="SMPP: transceivers bound at once over all workers; a worker uses at most one"
    )
    sms_link_window: int = Field(10, ge=1, le=1000, description="SMPP: unanswered messages on one bind")
    sms_link_enquire_link_interval: float = Field(
        30.0, gt=0, description="SMPP: time without a PDU from the SMSC before enquire_link"
    )
    sms_link_bind_timeout: float = Field(10.0, gt=0, description="SMPP: connecting, TLS and the bind together")
    sms_link_response_timeout: float = Field(
        60.0, gt=0, description="SMPP: longest wait for a place in the window and for the answers to one message"
    )
    sms_link_reconnect_delay: float = Field(
        1.0, gt=0, description="SMPP: longest first pause before a new connection; it doubles up to a minute"
    )
    sms_link_sender: str = Field(
        "", max_length=20, description="SMPP: sender of every message; without it the message's own"
    )
    sms_link_source_ton: int | None = Field(
        None, ge=0, le=6, description="SMPP: type of number of the sender; without it, by the form of the sender"
    )
    sms_link_source_npi: int | None = Field(None, ge=0, le=18, description="SMPP: numbering plan of the sender")
    sms_link_dest_ton: int = Field(1, ge=0, le=6, description="SMPP: type of number of the recipient")
    sms_link_dest_npi: int = Field(1, ge=0, le=18, description="SMPP: numbering plan of the recipient")
    sms_link_data_coding_default: str = Field(
        "gsm7",
        pattern="^(gsm7|latin1|ascii)$",
        description="SMPP: what data_coding 0 means at the SMSC: `gsm7`, `latin1` or `ascii`",
    )
    sms_link_long_message_mode: str = Field(
        "udh", pattern="^(udh|sar|payload)$", description="SMPP: how long texts are sent: `udh`, `sar` or `payload`"
    )
    sms_link_registered_delivery: bool = Field(True, description="SMPP: whether receipts are requested")
    sms_link_message_id_format: str = Field(
        "asis",
        pattern="^(asis|resp_hex_dlr_dec|resp_dec_dlr_hex)$",
        description="SMPP: bases of the message id in responses and receipts: `asis`, `resp_hex_dlr_dec` or "
        "`resp_dec_dlr_hex`",
    )
    sms_link_timezone: str = Field("UTC", description="SMPP: zone of the dates in receipts, such as `Africa/Lagos`")
    sms_link_status_overrides: dict[int, StatusClass] = Field(
        default_factory=dict,
        description='SMPP: another class for a command_status, JSON such as `{"8": "throttled"}`: '
        "recipient_rejected, declined, throttled, auth_failed, provider_fault",
    )

    @field_validator("sms_link_timezone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (OSError, KeyError, ValueError):
            raise ValueError("must be a zone of the time zone database") from None
        return name

    def smpp_password(self) -> SecretStr:
        """The password of the SMPP account.

        Raises:
            SluiceError: neither the variable nor the file has one.
        """
        return _secret("SLUICE_SMS_LINK_PASSWORD", self.sms_link_password, self.sms_link_password_file)

    def tls_context(self) -> ssl.SSLContext | None:
        """None without TLS.

        Raises:
            SluiceError: the certificate authority's file cannot be read.
        """
        if not self.sms_link_tls:
            return None
        try:
            return ssl.create_default_context(cafile=self.sms_link_ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise SluiceError(f"SLUICE_SMS_LINK_CA_FILE: {self.sms_link_ca_file}: {error.strerror or error}") from None


def _secret(variable: str, value: SecretStr | None, path: Path | None) -> SecretStr:
    if value is None and path is not None:
        try:
            value = SecretStr(path.read_text("utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise SluiceError(f"{variable}_FILE: {path}: {reason}") from None
    if value is None or not value.get_secret_value():
        raise SluiceError(f"{variable} or {variable}_FILE: is not set")
    return value


class LinkedAccount(NamedTuple):
    """The package and the credentials that the accounts of a built-in package use."""

    package: AnyPackage
    credentials: Credentials


Links = Mapping[str, LinkedAccount]
"""Linked accounts by the name of the built-in package."""


def read_links(settings: SmsLinkSettings) -> Links:
    """The linked accounts of the installation. The SMPP password is not needed: only the session uses it.

    Raises:
        SluiceError: a setting of the link is missing or does not fit; the text names it and shows no credentials.
    """
    match settings.sms_link_kind:
        case SmsLinkKind.NONE:
            return {}
        case SmsLinkKind.SMPP:
            for name in ("sms_link_host", "sms_link_system_id"):
                if getattr(settings, name) is None:
                    raise SluiceError(f"SLUICE_{name.upper()}: is not set, and the SMS link is SMPP")
            return {MESSAGEPIPE.name: LinkedAccount(SMPP_LINK, SmppLinkCredentials(sender=settings.sms_link_sender))}
        case SmsLinkKind.PACKAGE:
            return {MESSAGEPIPE.name: _linked_package(settings)}


def _linked_package(settings: SmsLinkSettings) -> LinkedAccount:
    name = settings.sms_link_package
    if not name:
        raise SluiceError("SLUICE_SMS_LINK_PACKAGE: is not set, and the SMS link is a package")
    try:
        package = get_package(name)
    except UnknownPackageError as error:
        raise SluiceError(f"SLUICE_SMS_LINK_PACKAGE: {error}") from None
    if Channel.SMS not in package.channels or package is MESSAGEPIPE:
        raise SluiceError(f"SLUICE_SMS_LINK_PACKAGE: {name} cannot be the SMS link")
    secret = _secret("SLUICE_SMS_LINK_CREDENTIALS", settings.sms_link_credentials, settings.sms_link_credentials_file)
    try:
        credentials = package.credentials.model_validate_json(secret.get_secret_value())
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg'].lower()}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise SluiceError(f"SLUICE_SMS_LINK_CREDENTIALS: {faults}") from None
    # Under its own name in metrics and logs: a project sees the built-in package.
    return LinkedAccount(replace(package, name=MESSAGEPIPE.name), credentials)
