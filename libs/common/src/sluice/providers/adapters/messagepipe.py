"""The built-in SMS package: SMS over the link that the operator of the installation configured.

A project needs no credentials. Without a link the messages are captured in the sandbox, and the event says so. With an
SMPP link the account's package is :data:`SMPP_LINK`; with a link over another package, it is that package
(``sluice.providers.sms_link`` decides). The SMPP facts are those of SMPP 3.4 Issue 1.2 and 5.0, read on 2026-11-28.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sluice.model.message import Channel, Sms
from sluice.model.outcome import Accepted, AuthFailed, Declined, Outcome, ProviderFault, RecipientRejected, Throttled
from sluice.model.reasons import Reason
from sluice.providers.adapters.sandbox import CaptureRequest, CaptureResult
from sluice.providers.contract import (
    Credentials,
    OutboundMessage,
    Package,
    ReceiptSource,
    TransportKind,
    UnsupportedMessageError,
)
from sluice.providers.kit.smpp_status import StatusClass, status_name
from sluice.providers.kit.smpp_types import SmppResponse, SmppSubmission

CAPTURED = "captured in the sandbox and not sent: this installation has no SMS link (SLUICE_SMS_LINK_KIND)"


class MessagePipeCredentials(Credentials):
    """None are needed: the link belongs to the installation."""


class SmppLinkCredentials(Credentials):
    """What a message needs to know of the link; its owner, the session, has the rest."""

    sender: str = ""  # of every message; "": the message's own


# Without a link --------------------------------------------------------------------------------------------


def build_capture(message: OutboundMessage, _: MessagePipeCredentials) -> CaptureRequest:
    """The text, for the sandbox."""
    return CaptureRequest(message.reference, message.message_id, message.recipient, _sms(message))


def classify_capture(result: CaptureResult) -> Outcome:
    """Accepted, with a detail that says that nothing was sent."""
    return Accepted(result.capture_id, detail=CAPTURED)


# Over SMPP -------------------------------------------------------------------------------------------------


def build_submission(message: OutboundMessage, credentials: SmppLinkCredentials) -> SmppSubmission:
    """The text, for the session, from the link's sender, else the message's, else none, which the SMSC may fill."""
    sms = _sms(message)
    return SmppSubmission(message.reference, credentials.sender or sms.sender or "", message.recipient, sms.text)


def _sms(message: OutboundMessage) -> Sms:
    if not isinstance(message.content, Sms):
        raise UnsupportedMessageError("the built-in SMS package carries SMS only")
    if not message.content.text:
        raise UnsupportedMessageError("text: an SMS without text cannot be sent")
    return message.content


_OUTCOMES: Mapping[StatusClass, Outcome] = {
    StatusClass.RECIPIENT_REJECTED: RecipientRejected(Reason.INVALID_ADDRESS),
    StatusClass.DECLINED: Declined(Reason.INVALID_CONTENT),
    StatusClass.THROTTLED: Throttled(),
    StatusClass.AUTH_FAILED: AuthFailed(),
    StatusClass.PROVIDER_FAULT: ProviderFault(),
}
_REASONS: Mapping[int, Reason] = {  # of statuses that are declined for another reason than the content
    0x01: Reason.TOO_LARGE,
    0x0A: Reason.SENDER,
    0x50: Reason.INVALID_ADDRESS,
    0x51: Reason.INVALID_ADDRESS,
    0x65: Reason.OTHER,
    0x66: Reason.OTHER,
    0xFE: Reason.OTHER,
}


def classify_submission(response: SmppResponse) -> Outcome:
    """The outcome of the status class, which the link may override for a status.

    Accepted needs a message id for every segment only as far as the SMSC gives one: the status is the acceptance.
    """
    if response.status_class is None:
        first = next(filter(None, response.message_ids), "")
        return Accepted(first, tuple(filter(None, response.receipt_ids)))
    if response.status is None:
        return Declined(Reason.UNSUPPORTED, response.text)
    outcome = _OUTCOMES[response.status_class]
    if isinstance(outcome, Declined):
        outcome = replace(outcome, reason=_REASONS.get(response.status, outcome.reason))
    words = status_name(response.status) + (f": {response.text}" if response.text else "")
    return replace(outcome, detail=words)


MESSAGEPIPE = Package(
    name="provider-messagepipe",
    title="Built-in SMS",
    channels=(Channel.SMS,),
    credentials=MessagePipeCredentials,
    transport=TransportKind.SANDBOX,
    build=build_capture,
    classify=classify_capture,
    docs_url="https://smpp.org/SMPP_v3_4_Issue1_2.pdf",
    receipts=ReceiptSource.SESSION,
    segments=True,
)
SMPP_LINK = Package(
    name=MESSAGEPIPE.name,
    title=MESSAGEPIPE.title,
    channels=MESSAGEPIPE.channels,
    credentials=SmppLinkCredentials,
    transport=TransportKind.SMPP,
    build=build_submission,
    classify=classify_submission,
    docs_url=MESSAGEPIPE.docs_url,
    receipts=ReceiptSource.SESSION,
    segments=True,
)
