"""What an SMPP package asks of its transport, and what the transport answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice.providers.kit.smpp_status import StatusClass


@dataclass(frozen=True, slots=True)
class SmppSubmission:
    """One text to one number; ``reference`` identifies the attempt in late answers."""

    reference: str
    sender: str  # a number, a short code, or at most 11 alphanumeric characters; "" for none
    recipient: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SmppResponse:
    """The SMSC's answer to the last segment that it was asked to take.

    ``status``: None when the message does not fit into SMPP and nothing was written; ``text`` is the reason then.
    ``status_class``: None when it took every segment. ``message_ids``: as the SMSC wrote them, one for each segment
    that it took. ``receipt_ids``: the same in the form that is compared with the ids of receipts.
    """

    status: int | None
    status_class: StatusClass | None
    text: str = ""
    message_ids: tuple[str, ...] = ()
    receipt_ids: tuple[str, ...] = ()
