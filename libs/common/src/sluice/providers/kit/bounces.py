"""From the words of a mail server, as providers repeat them in receipts, to the cause of a bounce."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sluice.model.reasons import Reason

_STATUS = re.compile(r"(?<![\d.])[45]\.(\d{1,3}\.\d{1,3})(?![\d.])")

# Subject and detail of an enhanced status code: RFC 3463, 6710, 7372, 7505.
STATUS_REASONS: Mapping[str, Reason] = {
    "1.1": Reason.UNKNOWN_RECIPIENT,
    "1.2": Reason.UNKNOWN_RECIPIENT,
    "1.3": Reason.INVALID_ADDRESS,
    "1.6": Reason.UNKNOWN_RECIPIENT,  # moved, without a new address
    "1.8": Reason.SENDER,
    "1.10": Reason.UNKNOWN_RECIPIENT,  # the domain takes no mail
    "2.1": Reason.DISABLED,
    "2.2": Reason.FULL,
    "2.3": Reason.TOO_LARGE,
    "3.4": Reason.TOO_LARGE,
    "4.1": Reason.UNREACHABLE,
    "4.4": Reason.UNREACHABLE,
    "4.7": Reason.EXPIRED,
    "7.0": Reason.POLICY,
    "7.1": Reason.BLOCKED,
}


def bounce_reason(*words: object) -> Reason:
    """The cause that the first enhanced status code in ``words`` names; OTHER without one."""
    said = " ".join(word for word in words if isinstance(word, str))
    found = _STATUS.search(said)
    if found is None:
        return Reason.OTHER
    default = Reason.POLICY if found[1].startswith("7.") else Reason.OTHER
    return STATUS_REASONS.get(found[1], default)
