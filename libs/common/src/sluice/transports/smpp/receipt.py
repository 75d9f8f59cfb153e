"""Delivery receipts: a deliver_sm to the state of a message.

The text form is that of appendix B of SMPP 3.4, which calls it vendor specific: every key may be missing, ``err`` may
hold letters, dates have several forms. Nothing here raises on odd text. Where a TLV gives the same fact, it wins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import IntEnum, StrEnum

from sluice.transports.smpp.encoding import UCS2, split_header
from sluice.transports.smpp.pdu import UDHI, ShortMessage, Tag, tlv_text


class MessageState(IntEnum):
    """The values of the TLV message_state."""

    SCHEDULED = 0
    ENROUTE = 1
    DELIVERED = 2
    EXPIRED = 3
    DELETED = 4
    UNDELIVERABLE = 5
    ACCEPTED = 6
    UNKNOWN = 7
    REJECTED = 8
    SKIPPED = 9


_STATE_NUMBERS = frozenset(int(state) for state in MessageState)

_STATES: Mapping[str, MessageState] = {  # the words of ``stat:``
    "ENROUTE": MessageState.ENROUTE,
    "DELIVRD": MessageState.DELIVERED,
    "EXPIRED": MessageState.EXPIRED,
    "DELETED": MessageState.DELETED,
    "UNDELIV": MessageState.UNDELIVERABLE,
    "ACCEPTD": MessageState.ACCEPTED,
    "UNKNOWN": MessageState.UNKNOWN,
    "REJECTD": MessageState.REJECTED,
    "FAILED": MessageState.REJECTED,  # not in the specification; vendors write it for a final failure
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a receipt says. None: it does not say, or in a form that is not understood."""

    message_id: str | None  # as the SMSC wrote it; see comparable_id
    state: MessageState | None
    stat: str | None  # the word of the text, in capitals
    err: str | None  # text: operators use letters and four digits
    submitted_at: datetime | None
    done_at: datetime | None
    text: str | None = field(repr=False)  # the first characters of the message
    network_error: tuple[int, int] | None  # network type (3: GSM) and code
    failure_reason: int | None  # TLV delivery_failure_reason: 0 and 3 temporary, 1 and 2 permanent


def parse_receipt(message: ShortMessage, *, zone: tzinfo = UTC) -> Receipt:
    """Read a deliver_sm of kind RECEIPT or INTERMEDIATE.

    ``zone``: that of the SMSC's clock, for dates that name none.
    """
    written = _text(message)
    before, text = _cut_text(written)
    stat = _value("stat", before)
    network_error = message.tlv(Tag.NETWORK_ERROR_CODE) or b""
    return Receipt(
        message_id=tlv_text(message.tlv(Tag.RECEIPTED_MESSAGE_ID) or b"") or _value("id", before),
        state=_state(message, stat),
        stat=stat.upper() if stat else None,
        err=_value("err", before),
        submitted_at=_date(_value(r"submit[ _]?date", before), zone),
        done_at=_date(_value(r"done[ _]?date", before), zone),
        text=text,
        network_error=(network_error[0], int.from_bytes(network_error[1:])) if len(network_error) == 3 else None,
        failure_reason=_octet(message.tlv(Tag.DELIVERY_FAILURE_REASON)),
    )


def _text(message: ShortMessage) -> str:
    octets = message.user_data
    if message.esm_class & UDHI:
        octets = split_header(octets)[1]
    if message.data_coding == UCS2:
        return octets.decode("utf-16-be", "replace")
    # Not the default alphabet: SMSCs write ASCII here whatever they declare, and in GSM-7 the "_" of an id is another
    # character.
    return octets.decode("latin-1")


def _cut_text(written: str) -> tuple[str, str | None]:
    """What precedes ``text:``, and its value, which goes to the end and may look like other keys."""
    found = re.search(r"\btext:", written, re.IGNORECASE)
    return (written, None) if found is None else (written[: found.start()], written[found.end() :])


def _value(key: str, written: str) -> str | None:
    found = re.search(rf"\b{key}:(\S+)", written, re.IGNORECASE | re.ASCII)
    return found[1] if found else None


def _state(message: ShortMessage, stat: str | None) -> MessageState | None:
    number = _octet(message.tlv(Tag.MESSAGE_STATE))
    if number is not None and number in _STATE_NUMBERS:
        return MessageState(number)
    return _STATES.get(stat.upper()) if stat else None


def _octet(value: bytes | None) -> int | None:
    return value[0] if value and len(value) == 1 else None


_DATE = re.compile(
    r"(?P<digits>\d{10}|\d{12}|\d{14})(?:(?P<z>Z)|(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d)?)?\Z", re.ASCII
)
_ABSOLUTE = re.compile(r"(?P<digits>\d{12})\d(?P<quarters>\d\d)(?P<sign>[+-])\Z", re.ASCII)  # YYMMDDhhmmsstnnp
_FORMS = {10: ("%y%m%d%H%M",), 12: ("%y%m%d%H%M%S", "%Y%m%d%H%M"), 14: ("%Y%m%d%H%M%S",)}  # by digits


def _date(value: str | None, zone: tzinfo) -> datetime | None:
    if value is None:
        return None
    if absolute := _ABSOLUTE.match(value):
        return _parse_digits(absolute["digits"], _offset(absolute["sign"], 15 * int(absolute["quarters"])))
    if (found := _DATE.match(value)) is None:
        return None
    if found["z"]:
        return _parse_digits(found["digits"], UTC)
    if found["sign"]:
        minutes = 60 * int(found["hours"]) + int(found["minutes"] or 0)
        return _parse_digits(found["digits"], _offset(found["sign"], minutes))
    return _parse_digits(found["digits"], zone)


def _parse_digits(digits: str, zone: tzinfo | None) -> datetime | None:
    for form in _FORMS[len(digits)] if zone else ():
        try:
            return datetime.strptime(digits, form).replace(tzinfo=zone)
        except ValueError:
            continue
    return None


def _offset(sign: str, minutes: int) -> tzinfo | None:
    """None for a day or more, which no zone has."""
    return timezone(timedelta(minutes=-minutes if sign == "-" else minutes)) if minutes < 24 * 60 else None


class MessageIdFormat(StrEnum):
    """How an SMSC writes a message's id in submit_sm_resp and in its receipt."""

    AS_IS = "asis"
    HEX_THEN_DECIMAL = "resp_hex_dlr_dec"
    DECIMAL_THEN_HEX = "resp_dec_dlr_hex"


def comparable_id(message_id: str, form: MessageIdFormat, *, of_receipt: bool) -> str:
    """An id in the one form that submit_sm_resp and receipt share: capitals, no leading zeros, in the response's base.

    An id that is no number of the expected base stays as it is.
    """
    written = message_id.strip().upper()
    if of_receipt and form is MessageIdFormat.HEX_THEN_DECIMAL and re.fullmatch(r"[0-9]{1,64}", written):
        written = f"{int(written):X}"
    if of_receipt and form is MessageIdFormat.DECIMAL_THEN_HEX and re.fullmatch(r"[0-9A-F]{1,64}", written):
        written = str(int(written, 16))
    return written.lstrip("0") or written[-1:]
