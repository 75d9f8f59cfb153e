"""The values that pass between an SMPP session and its owner: configuration, messages, results, events."""

from __future__ import annotations

import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from pydantic import SecretStr

from sluice.providers.kit.smpp_status import StatusClass
from sluice.transports.smpp.encoding import Alphabet, LongMessageMode, segment
from sluice.transports.smpp.pdu import Address, PduError, ShortMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class SmppConfig:
    """One account at one SMSC. Times are seconds."""

    host: str
    port: int = 2775
    system_id: str
    password: SecretStr
    system_type: str = ""
    interface_version: int = 0x34
    tls: ssl.SSLContext | None = None  # TLS from the first octet; the certificate must name ``host``
    service_type: str = ""
    default_alphabet: Alphabet = Alphabet.GSM7
    long_message_mode: LongMessageMode = LongMessageMode.UDH
    status_overrides: Mapping[int, StatusClass] = field(default_factory=dict)
    window: int = 10  # messages with an unanswered submit_sm
    bind_timeout: float = 10.0  # for connecting, TLS and the bind together
    enquire_link_interval: float = 30.0  # without a PDU from the SMSC
    enquire_link_timeout: float = 10.0
    reconnect_delay: float = 1.0  # the longest first delay; it doubles up to max_reconnect_delay, with full jitter
    max_reconnect_delay: float = 60.0
    auth_retry_delay: float = 300.0  # after a refused bind: repeated wrong passwords make operators block an address
    late_answer_ttl: float = 600.0  # an answer after the timeout is still matched to its message
    max_concurrent_stores: int = 64
    store_timeout: float = 10.0
    drain_timeout: float = 10.0  # for open answers and stores at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundSms:
    """One text for one subscriber.

    ``reference`` identifies the attempt in late answers and in logs. The parts of a long text are marked with a number
    derived from it, so a repeat under the same reference completes the parts that arrived before.
    """

    reference: str
    source: Address
    destination: Address
    text: str = field(repr=False)
    validity: timedelta | None = None  # None: the SMSC's default
    receipt: bool = True

    def bodies(self, config: SmppConfig) -> list[bytes]:
        """The submit_sm bodies, one for each segment.

        Raises:
            EncodingError: the text cannot be sent.
            PduError: an address or the validity does not fit.
        """
        segments = segment(
            self.text,
            reference=zlib.crc32(self.reference.encode()),
            mode=config.long_message_mode,
            default=config.default_alphabet,
        )
        return [
            ShortMessage(
                source=self.source,
                destination=self.destination,
                short_message=each.short_message,
                data_coding=each.data_coding,
                esm_class=each.esm_class,
                registered_delivery=int(self.receipt),
                service_type=config.service_type,
                validity_period="" if self.validity is None else relative_time(self.validity),
                tlvs=each.tlvs,
            ).encode()
            for each in segments
        ]


def relative_time(span: timedelta) -> str:
    """A span in the relative form of SMPP, ``YYMMDDhhmmss000R``, rounded down to seconds.

    Raises:
        PduError: it is shorter than a second or longer than 31 days.
    """
    if not timedelta(seconds=1) <= span < timedelta(days=32):
        raise PduError("a validity is from one second to 31 days")
    minutes, seconds = divmod(span.seconds, 60)
    return f"0000{span.days:02}{minutes // 60:02}{minutes % 60:02}{seconds:02}000R"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The SMSC took every segment. One id for each, in order; "" where the SMSC gave none."""

    message_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The SMSC refused the bind or a segment: it does not have the whole message. Another provider may be tried.

    ``message_ids``: those of the segments that it took before.
    """

    status: int
    status_class: StatusClass
    text: str = ""  # the SMSC's own words, when it sent some
    message_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """Every segment was written and the last has no answer: the SMSC may or may not have the whole message."""

    reason: str
    message_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotSent:
    """At least one segment was not written: the SMSC does not have the whole message. Another provider may be tried."""

    reason: str
    message_ids: tuple[str, ...] = ()


SubmitResult = Accepted | Refused | Unknown | NotSent


@dataclass(frozen=True, slots=True)
class Bound:
    """The session is bound and takes messages."""


@dataclass(frozen=True, slots=True)
class BindRefused:
    """The SMSC refused the bind. With AUTH_FAILED the session waits ``auth_retry_delay`` before the next one."""

    status: int
    status_class: StatusClass


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The connection ended or could not be opened; the session connects again."""

    reason: str


@dataclass(frozen=True, slots=True)
class SubmitThrottled:
    """The SMSC refused a segment because of a rate or a full queue; it names no time to wait."""

    status: int


SessionEvent = Bound | BindRefused | ConnectionLost | SubmitThrottled


class SessionHandler(Protocol):
    """What the owner of a session does with what arrives. One handler may serve several sessions."""

    async def store(self, message: ShortMessage) -> None:
        """Store a deliver_sm durably. When this returns, the SMSC gets a success; after an error it sends again.

        Calls are concurrent and are cancelled after ``store_timeout``. A message that was stored can come again.
        """
        ...

    async def late_answer(self, reference: str, result: Accepted | Refused) -> None:
        """The answer of a message whose result was Unknown, or whose caller was cancelled. It comes at most once."""
        ...

    def on_event(self, event: SessionEvent) -> None:
        """A change of the session. Must not block and must not raise."""
        ...
