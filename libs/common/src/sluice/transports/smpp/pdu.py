"""The PDUs of SMPP 3.4, to octets and back.

All integers are big-endian. A C-octet string ends with a NUL octet. A TLV is a tag, a length (2 octets each) and a
value; unknown tags are kept and ignored. Encoding is strict about the lengths of the specification, decoding is not:
an SMSC that sends a longer address is still understood.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Self

HEADER = struct.Struct("!IIII")  # command_length, command_id, command_status, sequence_number
MAX_PDU_BYTES = 65_536  # octets of a whole PDU, header included; a longer one means that the stream is out of step
RESPONSE_BIT = 0x80000000
MAX_SEQUENCE = 0x7FFFFFFF
_MAX_SHORT_MESSAGE = 254  # octets
_MAX_TLV = 0xFFFF  # octets of a value
_MAX_PASSWORD = 65  # with NUL; the specification has 9, and some operators hand out longer ones


class Command(IntEnum):
    """The command_id of a request; its response has RESPONSE_BIT set as well."""

    BIND_TRANSCEIVER = 0x09
    SUBMIT_SM = 0x04
    DELIVER_SM = 0x05
    UNBIND = 0x06
    OUTBIND = 0x0B
    ENQUIRE_LINK = 0x15
    ALERT_NOTIFICATION = 0x102
    GENERIC_NACK = 0x80000000  # a response without a request


class Tag(IntEnum):
    """The TLVs that Sluice reads or writes."""

    ADDITIONAL_STATUS_INFO_TEXT = 0x001D
    RECEIPTED_MESSAGE_ID = 0x001E
    SAR_MSG_REF_NUM = 0x020C
    SAR_TOTAL_SEGMENTS = 0x020E
    SAR_SEGMENT_SEQNUM = 0x020F
    SC_INTERFACE_VERSION = 0x0210
    NETWORK_ERROR_CODE = 0x0423
    MESSAGE_PAYLOAD = 0x0424
    DELIVERY_FAILURE_REASON = 0x0425
    MESSAGE_STATE = 0x0427


class PduError(ValueError):
    """Octets are not a PDU of this protocol, or a value does not fit into one. The text holds no content."""


@dataclass(frozen=True, slots=True)
class Pdu:
    """One PDU with its body still encoded. ``command`` is a plain integer because a peer may send any."""

    command: int
    status: int
    sequence: int
    body: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        """The octets of the whole PDU."""
        return HEADER.pack(HEADER.size + len(self.body), self.command, self.status, self.sequence) + self.body


def body_length(header: bytes) -> int:
    """The octets that follow a header of 16 octets.

    Raises:
        PduError: the header names a length that no PDU has.
    """
    length: int = HEADER.unpack(header)[0]
    if not HEADER.size <= length <= MAX_PDU_BYTES:
        raise PduError(f"a PDU claims to have {length} octets")
    return length - HEADER.size


def decode(header: bytes, body: bytes) -> Pdu:
    """The PDU made of a header of 16 octets and its body."""
    _, command, status, sequence = HEADER.unpack(header)
    return Pdu(command, status, sequence, body)


Tlvs = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Address:
    """A number or an alphanumeric sender with its type of number (TON) and numbering plan (NPI)."""

    ton: int
    npi: int
    value: str = field(repr=False)

    @classmethod
    def of(cls, text: str) -> Address:
        """The usual TON and NPI: international for 7 digits or more, network specific for a short code, else text."""
        digits = text.removeprefix("+")
        if not (digits.isascii() and digits.isdecimal()):
            return cls(5, 0, text)
        return cls(1 if len(digits) >= 7 else 3, 1, digits)


class MessageKind(IntEnum):
    """The meaning of a deliver_sm: bits 2 to 5 of its esm_class."""

    INBOUND = 0x00
    RECEIPT = 0x04
    DELIVERY_ACKNOWLEDGEMENT = 0x08
    USER_ACKNOWLEDGEMENT = 0x10
    INTERMEDIATE = 0x20


UDHI = 0x40  # in esm_class: the user data begins with a header
_KIND_BITS = 0x3C


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortMessage:
    """The body of submit_sm and of deliver_sm, which are laid out alike.

    In a deliver_sm the roles of the addresses are swapped: the source is the subscriber.
    """

    source: Address
    destination: Address
    short_message: bytes = field(default=b"", repr=False)
    data_coding: int = 0
    esm_class: int = 0
    registered_delivery: int = 0
    service_type: str = ""
    protocol_id: int = 0
    priority: int = 0
    schedule_delivery_time: str = ""
    validity_period: str = ""
    replace_if_present: int = 0
    default_message_id: int = 0
    tlvs: Tlvs = field(default=(), repr=False)

    @property
    def kind(self) -> int:
        """A value of MessageKind, or a reserved one."""
        return self.esm_class & _KIND_BITS

    @property
    def user_data(self) -> bytes:
        """The content with its header if it has one: message_payload where it is used, else short_message."""
        return self.short_message or self.tlv(Tag.MESSAGE_PAYLOAD) or b""

    def tlv(self, tag: int) -> bytes | None:
        """The value of the first TLV with this tag."""
        return next((value for each, value in self.tlvs if each == tag), None)

    def encode(self) -> bytes:
        """The body.

        Raises:
            PduError: a field is longer than the specification allows or not ASCII, or the whole is too long.
        """
        if len(self.short_message) > _MAX_SHORT_MESSAGE:
            raise PduError(f"short_message has {len(self.short_message)} octets, at most {_MAX_SHORT_MESSAGE} fit")
        body = b"".join(
            (
                c_string("service_type", self.service_type, 6),
                _encode_address("source_addr", self.source),
                _encode_address("destination_addr", self.destination),
                bytes((self.esm_class, self.protocol_id, self.priority)),
                c_string("schedule_delivery_time", self.schedule_delivery_time, 17),
                c_string("validity_period", self.validity_period, 17),
                bytes((self.registered_delivery, self.replace_if_present, self.data_coding, self.default_message_id)),
                bytes((len(self.short_message),)),
                self.short_message,
                _encode_tlvs(self.tlvs),
            )
        )
        if HEADER.size + len(body) > MAX_PDU_BYTES:
            raise PduError(f"a PDU of {HEADER.size + len(body)} octets is too long")
        return body

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """The fields of a body.

        Raises:
            PduError: it ends too early.
        """
        read = _Reader(body)
        return cls(  # keyword arguments are evaluated in this order, which is the order of the octets
            service_type=read.c_string(),
            source=Address(read.octet(), read.octet(), read.c_string()),
            destination=Address(read.octet(), read.octet(), read.c_string()),
            esm_class=read.octet(),
            protocol_id=read.octet(),
            priority=read.octet(),
            schedule_delivery_time=read.c_string(),
            validity_period=read.c_string(),
            registered_delivery=read.octet(),
            replace_if_present=read.octet(),
            data_coding=read.octet(),
            default_message_id=read.octet(),
            short_message=read.take(read.octet()),
            tlvs=read.tlvs(),
        )


def encode_bind(*, system_id: str, password: str, system_type: str = "", interface_version: int = 0x34) -> bytes:
    """The body of a bind, for every address.

    Raises:
        PduError: a field is too long or not ASCII.
    """
    return b"".join(
        (
            c_string("system_id", system_id, 16),
            c_string("password", password, _MAX_PASSWORD),
            c_string("system_type", system_type, 13),
            bytes((interface_version, 0, 0)),  # addr_ton, addr_npi
            c_string("address_range", "", 41),
        )
    )


def response_message_id(body: bytes) -> str:
    """The message_id of a submit_sm_resp; "" when the body is missing, which an error allows."""
    return body.partition(b"\0")[0].decode("latin-1")


def response_text(body: bytes) -> str:
    """The SMSC's own words in a submit_sm_resp (TLV additional_status_info_text); "" when there are none."""
    try:
        tlvs = _Reader(body.partition(b"\0")[2]).tlvs()
    except PduError:
        return ""
    return tlv_text(next((value for tag, value in tlvs if tag == Tag.ADDITIONAL_STATUS_INFO_TEXT), b""))


def tlv_text(value: bytes) -> str:
    """The text of a TLV that is a C-octet string; some SMSCs leave the NUL away."""
    return value.partition(b"\0")[0].decode("latin-1")


def c_string(name: str, text: str, limit: int) -> bytes:
    """A C-octet string; ``limit`` includes its NUL. The error names the field and does not quote it."""
    if not text.isascii() or "\0" in text:
        raise PduError(f"{name} is not ASCII text")
    if len(text) >= limit:
        raise PduError(f"{name} has {len(text)} characters, at most {limit - 1} fit")
    return text.encode("ascii") + b"\0"


def _encode_address(name: str, address: Address) -> bytes:
    return bytes((address.ton, address.npi)) + c_string(name, address.value, 21)


def _encode_tlvs(tlvs: Tlvs) -> bytes:
    if any(len(value) > _MAX_TLV for _, value in tlvs):
        raise PduError("a TLV is too long")
    return b"".join(struct.pack("!HH", tag, len(value)) + value for tag, value in tlvs)


class _Reader:
    """A position in a body. Every method raises PduError when the body ends too early."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, count: int) -> bytes:
        taken = self._body[self._at : self._at + count]
        if len(taken) < count:
            raise PduError("a body ends too early")
        self._at += count
        return taken

    def octet(self) -> int:
        return self.take(1)[0]

    def c_string(self) -> str:
        end = self._body.find(b"\0", self._at)
        if end < 0:
            raise PduError("a string has no end")
        text = self._body[self._at : end].decode("latin-1")
        self._at = end + 1
        return text

    def tlvs(self) -> Tlvs:
        found: list[tuple[int, bytes]] = []
        while self._at < len(self._body):
            tag, length = struct.unpack("!HH", self.take(4))
            found.append((tag, self.take(length)))
        return tuple(found)
