"""Twilio SMS, REST API 2010-04-01, Messages (https://www.twilio.com/docs/messaging, OpenAPI of 2026-04-14).

No idempotency key and no field for our reference: it is in the query of the callback URL, which the signature of a
receipt covers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import httpx
from pydantic import Field

from sluice.model.message import Channel, Sms
from sluice.model.outcome import (
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Refusal,
    Scope,
    Throttled,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters._twilio import TwilioAccount, classify_message, post_message, read_callback, sample
from sluice.providers.contract import (
    DeliveryReceipt,
    OutboundMessage,
    Package,
    ReceiptSource,
    TransportKind,
    UnsupportedMessageError,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.kit.error_table import ErrorTable, rows


class TwilioCredentials(TwilioAccount):
    """An account and its sender: a messaging service, or one number or name."""

    from_: str | None = Field(default=None, alias="from", min_length=1, max_length=20, title="Sender")
    messaging_service_sid: str | None = Field(
        default=None, alias="messagingServiceSid", pattern=r"^MG[0-9a-fA-F]{32}$", title="Messaging service"
    )


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: TwilioCredentials) -> httpx.Request:
    """One text to one number."""
    if not isinstance(message.content, Sms):
        raise UnsupportedMessageError("Twilio's SMS package carries SMS only")
    fields = {"To": message.recipient, **_sender(message.content, credentials), "Body": message.content.text}
    return post_message(message, credentials, fields)


def _sender(sms: Sms, credentials: TwilioCredentials) -> dict[str, str]:
    """The account's messaging service, else the account's sender, else the message's.

    The account's setting comes first because only a sender of that account can be used there, and a message
    must be able to fail over between accounts with different senders.
    """
    if credentials.messaging_service_sid:
        service = {"MessagingServiceSid": credentials.messaging_service_sid}
        return service | ({"From": credentials.from_} if credentials.from_ else {})
    sender = credentials.from_ or sms.sender
    if not sender:
        raise UnsupportedMessageError("neither the message nor the account names a sender")
    return {"From": sender}


# Responses -------------------------------------------------------------------------------------------------


_INVALID = Declined(Reason.INVALID_CONTENT)
_SENDER = Declined(Reason.SENDER)
_SENDER_SETTING = Declined(Reason.SENDER, scope=Scope.ACCOUNT)
_TRIAL = Declined(Reason.REPUTATION, scope=Scope.ACCOUNT)

ERROR_CODES: Mapping[int, Refusal] = {
    **rows(AuthFailed(), 20003, 20005, 10001, 21472, 20006, 20403, 20008, 20404, 21470, 21471),
    **rows(AuthFailed(), 21609),  # the callback URL, which is the installation's and in every request
    **rows(_TRIAL, 10002, 21607, 21608, 21219),
    **rows(Unknown(), 20409, 20500),
    **rows(ProviderFault(), 20410, 20503, 21619, 21730),
    **rows(Throttled(), 20429),
    **rows(Throttled(scope=Scope.SENDER), 21611),  # the queue of this sender is full
    **rows(Throttled(scope=Scope.PAIR), 14107),  # a loop of replies between two numbers
    # About the recipient.
    **rows(RecipientRejected(Reason.INVALID_ADDRESS), 21211, 21217, 21401, 21421),
    **rows(RecipientRejected(Reason.UNREACHABLE), 21214),
    **rows(RecipientRejected(Reason.UNSUBSCRIBED), 21610),  # the recipient sent STOP to this sender
    **rows(RecipientRejected(Reason.UNKNOWN_RECIPIENT), 21614, 21635),  # not a mobile number
    # About the message, or how the request was built.
    **rows(_INVALID, 20001, 20004, 20422, 21602, 21604, 21618, 21620, 21624, 90007, 30045, 21653, 21910),
    **rows(Declined(Reason.TOO_LARGE), 21605, 21617),
    **rows(Declined(Reason.UNSUPPORTED), 21408, 21612),  # this account does not reach this country or number
    **rows(_SENDER, 21212, 21213, 21603, 21606, 21616, 21601, 21657, 21659, 21660, 21708, 21709),
    **rows(_SENDER_SETTING, 21701, 21702, 21703, 21704, 21705, 21711, 21712),  # the messaging service
    # Channels other than SMS; listed so that they are recognised.
    **rows(AuthFailed(), 63001, 63002, 63007, 63008, 63020, 63022, 63051, 63015, 63035),
    **rows(RecipientRejected(Reason.OTHER), 63003, 63024, 63031),
    **rows(RecipientRejected(Reason.BLOCKED), 63014, 63032, 63033),
    **rows(_INVALID, 63005, 63006, 63013, 63019, 63021, *range(63026, 63031), 63034, 63037, 63040, 63041, 63042),
    **rows(Declined(Reason.POLICY), 63016),  # outside of the conversation window
    **rows(ProviderFault(), 63009, 63010, 63011, 63012, 63023, 63036),
    **rows(Throttled(), 63017, 63018, 63038, 63039),
}
STATUS_FALLBACK: Mapping[int, Refusal] = {
    400: _INVALID,
    401: AuthFailed(),
    403: AuthFailed(),
    404: AuthFailed(),
    409: Unknown(),
    422: _INVALID,
    429: Throttled(),
}
# Codes of a message that was created and then failed. What they say in a receipt ("undelivered"): an event type and a
# reason, FAILED where none is given. What they say in the 201 itself: nothing was sent, so the next provider may be
# tried, unless the code says otherwise.
ASYNC_ERROR_CODES: Mapping[int, tuple[EventType, Reason, Refusal]] = {
    30003: (EventType.SOFT_BOUNCE, Reason.UNREACHABLE, ProviderFault()),
    30017: (EventType.SOFT_BOUNCE, Reason.NETWORK, ProviderFault()),
    30036: (EventType.SOFT_BOUNCE, Reason.EXPIRED, ProviderFault()),
    30004: (EventType.BOUNCED, Reason.BLOCKED, RecipientRejected(Reason.BLOCKED)),
    30005: (EventType.BOUNCED, Reason.UNKNOWN_RECIPIENT, RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    30006: (EventType.BOUNCED, Reason.UNREACHABLE, RecipientRejected(Reason.UNREACHABLE)),
    30019: (EventType.BOUNCED, Reason.FULL, Declined(Reason.FULL)),
    21610: (EventType.BOUNCED, Reason.UNSUBSCRIBED, RecipientRejected(Reason.UNSUBSCRIBED)),
    30007: (EventType.FAILED, Reason.SPAM, Declined(Reason.SPAM)),
    **dict.fromkeys((30014, 30015, 30016), (EventType.FAILED, Reason.INVALID_CONTENT, _INVALID)),
    30002: (EventType.FAILED, Reason.CREDENTIALS, AuthFailed()),
    **dict.fromkeys((30018, 30024, 30032, 30033, 30034, 30035), (EventType.FAILED, Reason.SENDER, _SENDER)),
    30410: (EventType.SOFT_BOUNCE, Reason.NETWORK, Unknown()),  # the carrier did not answer: perhaps delivered
    **{code: (EventType.FAILED, Reason.QUOTA, Throttled()) for code in (30022, 30023, 30027)},
}
_NEVER_FAILED = frozenset({21610, 30410})  # FAILED would allow another attempt after an unknown outcome
_ERRORS = ErrorTable(ERROR_CODES, STATUS_FALLBACK)


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 2xx that carries a message sid and no failure."""
    return classify_message(response, _ERRORS, _created_as_failed)


def _created_as_failed(code: int) -> Refusal:
    return ASYNC_ERROR_CODES[code][2] if code in ASYNC_ERROR_CODES else ProviderFault()


# Receipts --------------------------------------------------------------------------------------------------

EVENT_TYPES: Mapping[str, tuple[EventType, ...]] = {
    "sent": (EventType.SENT,),
    "delivered": (EventType.DELIVERED,),
    "read": (EventType.DELIVERED, EventType.READ),
    "partially_delivered": (EventType.SENT,),  # undocumented for SMS: an event, no new state
    "failed": (EventType.FAILED,),
    "undelivered": (EventType.FAILED,),
    "canceled": (EventType.FAILED,),  # cancelled at Twilio's side; our own cancels never reach it
}


def parse_webhook(
    request: WebhookRequest, credentials: TwilioCredentials, _fetched: Mapping[str, bytes]
) -> WebhookReply:
    """The receipts of a status callback; none for intermediate states (queued, sending …) and inbound messages."""
    callback = read_callback(request, credentials.auth_token)
    sid, status, code = callback.sid, callback.status, callback.code
    return WebhookReply(
        [
            DeliveryReceipt(
                receipt_id=f"{sid}:{event_type}" if status == "read" else f"{sid}:{status}",
                type=event_type,
                reference=callback.reference,
                provider_message_id=sid or None,
                recipient=callback.fields.get("To"),
                occurred_at=_parse_time(callback.fields.get("RawDlrDoneDate", "")),
                reason=_reason(event_type, code),
                detail=callback.detail,
            )
            for event_type in _event_types(status, code)
        ]
    )


def _event_types(status: str, code: int) -> Iterable[EventType]:
    if code in ASYNC_ERROR_CODES and (status == "undelivered" or (status == "failed" and code in _NEVER_FAILED)):
        return (ASYNC_ERROR_CODES[code][0],)
    return EVENT_TYPES.get(status, ())


def _reason(event_type: EventType, code: int) -> Reason | None:
    if event_type not in (EventType.FAILED, EventType.BOUNCED, EventType.SOFT_BOUNCE):
        return None
    return ASYNC_ERROR_CODES[code][1] if code in ASYNC_ERROR_CODES else Reason.OTHER


def _parse_time(value: str) -> datetime | None:
    """``YYMMDDhhmm``, the carrier's clock; no zone is documented, UTC is what was seen."""
    try:
        return datetime.strptime(value, "%y%m%d%H%M").replace(tzinfo=UTC)
    except ValueError:
        return None


TWILIO = Package(
    name="provider-twilio",
    title="Twilio SMS",
    channels=(Channel.SMS,),
    credentials=TwilioCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    sample=sample,
    signs_url=True,
    docs_url="https://www.twilio.com/docs/messaging/api/message-resource",
    receipts=ReceiptSource.WEBHOOK,
    segments=True,
)
