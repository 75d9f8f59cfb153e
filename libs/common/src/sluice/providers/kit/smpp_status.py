"""The command_status values of SMPP 3.4 and 5.0 and what each means for an attempt, as data.

Operators use some values in their own way (0x08, 0x0B, 0x14, 0x45 and the vendor range): every connection can override
the class of a status.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

ROK = 0x00
RINVCMDLEN = 0x02
RINVCMDID = 0x03
RINVBNDSTS = 0x04  # the SMSC does not regard the session as bound
RX_T_APPN = 0x64  # temporary: the SMSC repeats the deliver_sm later
RX_P_APPN = 0x65  # permanent: the SMSC does not repeat it


class StatusClass(StrEnum):
    """The outcome of a refusal. The values are the words of :mod:`sluice.model.outcome`."""

    RECIPIENT_REJECTED = "recipient_rejected"
    DECLINED = "declined"  # this message, by this SMSC
    THROTTLED = "throttled"
    AUTH_FAILED = "auth_failed"  # credentials, number of binds, or configuration that every message meets
    PROVIDER_FAULT = "provider_fault"


_RECIPIENT = StatusClass.RECIPIENT_REJECTED
_DECLINED = StatusClass.DECLINED
_THROTTLED = StatusClass.THROTTLED
_AUTH = StatusClass.AUTH_FAILED
_FAULT = StatusClass.PROVIDER_FAULT

STATUSES: Mapping[int, tuple[str, StatusClass]] = {
    0x01: ("ESME_RINVMSGLEN", _DECLINED),
    0x02: ("ESME_RINVCMDLEN", _DECLINED),
    0x03: ("ESME_RINVCMDID", _DECLINED),
    0x04: ("ESME_RINVBNDSTS", _FAULT),
    0x05: ("ESME_RALYBND", _AUTH),
    0x06: ("ESME_RINVPRTFLG", _DECLINED),
    0x07: ("ESME_RINVREGDLVFLG", _DECLINED),
    0x08: ("ESME_RSYSERR", _FAULT),
    0x0A: ("ESME_RINVSRCADR", _DECLINED),  # a message may name its own sender: not a matter of the account
    0x0B: ("ESME_RINVDSTADR", _RECIPIENT),
    0x0C: ("ESME_RINVMSGID", _FAULT),
    0x0D: ("ESME_RBINDFAIL", _AUTH),
    0x0E: ("ESME_RINVPASWD", _AUTH),
    0x0F: ("ESME_RINVSYSID", _AUTH),
    0x11: ("ESME_RCANCELFAIL", _FAULT),
    0x13: ("ESME_RREPLACEFAIL", _FAULT),
    0x14: ("ESME_RMSGQFUL", _THROTTLED),
    0x15: ("ESME_RINVSERTYP", _AUTH),
    0x33: ("ESME_RINVNUMDESTS", _DECLINED),
    0x34: ("ESME_RINVDLNAME", _DECLINED),
    0x40: ("ESME_RINVDESTFLAG", _DECLINED),
    0x42: ("ESME_RINVSUBREP", _DECLINED),
    0x43: ("ESME_RINVESMCLASS", _DECLINED),
    0x44: ("ESME_RCNTSUBDL", _DECLINED),
    0x45: ("ESME_RSUBMITFAIL", _FAULT),
    0x48: ("ESME_RINVSRCTON", _AUTH),
    0x49: ("ESME_RINVSRCNPI", _AUTH),
    0x50: ("ESME_RINVDSTTON", _DECLINED),
    0x51: ("ESME_RINVDSTNPI", _DECLINED),
    0x53: ("ESME_RINVSYSTYP", _AUTH),
    0x54: ("ESME_RINVREPFLAG", _DECLINED),
    0x55: ("ESME_RINVNUMMSGS", _DECLINED),
    0x58: ("ESME_RTHROTTLED", _THROTTLED),
    0x61: ("ESME_RINVSCHED", _DECLINED),
    0x62: ("ESME_RINVEXPIRY", _DECLINED),
    0x63: ("ESME_RINVDFTMSGID", _DECLINED),
    0x64: ("ESME_RX_T_APPN", _FAULT),
    0x65: ("ESME_RX_P_APPN", _DECLINED),
    0x66: ("ESME_RX_R_APPN", _DECLINED),
    0x67: ("ESME_RQUERYFAIL", _FAULT),
    0xC0: ("ESME_RINVOPTPARSTREAM", _AUTH),
    0xC1: ("ESME_ROPTPARNOTALLWD", _AUTH),
    0xC2: ("ESME_RINVPARLEN", _AUTH),
    0xC3: ("ESME_RMISSINGOPTPARAM", _AUTH),
    0xC4: ("ESME_RINVOPTPARAMVAL", _AUTH),
    0xFE: ("ESME_RDELIVERYFAILURE", _DECLINED),
    0xFF: ("ESME_RUNKNOWNERR", _FAULT),
    0x100: ("ESME_RSERTYPUNAUTH", _AUTH),
    0x101: ("ESME_RPROHIBITED", _AUTH),
    0x102: ("ESME_RSERTYPUNAVAIL", _FAULT),
    0x103: ("ESME_RSERTYPDENIED", _AUTH),
    0x104: ("ESME_RINVDCS", _DECLINED),
}
_SUBUNIT_AND_BROADCAST = range(0x105, 0x113)  # of 5.0


def status_class(status: int, overrides: Mapping[int, StatusClass] | None = None) -> StatusClass:
    """The class of a status that is not ROK; a vendor's or reserved one is a provider fault."""
    if overrides and status in overrides:
        return overrides[status]
    if status in _SUBUNIT_AND_BROADCAST:
        return _DECLINED
    return STATUSES[status][1] if status in STATUSES else _FAULT


def status_name(status: int) -> str:
    """The name of a status for logs and reasons, such as ``ESME_RTHROTTLED (0x58)``."""
    name = STATUSES[status][0] if status in STATUSES else "command_status"
    return f"{name} ({status:#04x})"
