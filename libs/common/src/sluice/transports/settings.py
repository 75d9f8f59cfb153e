"""Time limits of the transports, and the name by which this installation greets SMTP servers."""

from __future__ import annotations

import re

from pydantic import BaseModel, Field, field_validator

from sluice.providers.kit.smtp_types import EHLO_NAME
from sluice.transports.outgoing import OutgoingAddresses, parse_networks


class OutgoingSettings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Which addresses the operator allows beside the public ones."""

    outgoing_allow: str = Field(
        "",
        description="networks that are not public and that providers may be in, all ports of them, "
        "such as `10.1.0.0/16,fd00:1::/48`",
    )

    def outgoing(self) -> OutgoingAddresses:
        """The addresses that may be dialled."""
        return OutgoingAddresses(parse_networks(self.outgoing_allow))

    @field_validator("outgoing_allow")
    @classmethod
    def _are_networks(cls, networks: str) -> str:
        parse_networks(networks)
        return networks


class TransportSettings(OutgoingSettings, frozen=True, extra="forbid", allow_inf_nan=False):
    """How long each step of a provider call may take. Durations are seconds.

    The SMTP defaults are the minima of RFC 5321, 4.5.3.2: a server may be slow, and a client that gives up earlier
    repeats mail that the server has taken.
    """

    http_timeout: float = Field(
        10.0,
        gt=0,
        description="longest HTTP call, unless its package needs longer; a request with a large body gets a second "
        "more for each 64 KiB",
    )
    smtp_connect_timeout: float = Field(
        10.0, gt=0, description="SMTP: longest connection to an address of the server, and longest TLS handshake"
    )
    smtp_command_timeout: float = Field(
        300.0, gt=0, description="SMTP: longest wait for the greeting and for the reply to each command"
    )
    smtp_data_timeout: float = Field(120.0, gt=0, description="SMTP: longest wait for the reply to DATA")
    smtp_block_timeout: float = Field(
        180.0, gt=0, description="SMTP: longest time for the server to take each 64 KiB of a mail"
    )
    smtp_final_timeout: float = Field(
        600.0, gt=0, description="SMTP: longest wait for the reply to the final dot; a shorter one duplicates mail"
    )
    smtp_ehlo_name: str | None = Field(
        None,
        description="SMTP: the name in EHLO, fully qualified, or an address literal like `[192.0.2.1]`; default: this "
        "machine's name if it is fully qualified, otherwise the literal of the connection's own address",
    )

    @field_validator("smtp_ehlo_name")
    @classmethod
    def _is_qualified(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(EHLO_NAME, name):
            raise ValueError("must be a fully qualified name or an address literal")
        return name


DEFAULT_LIMITS = TransportSettings()
