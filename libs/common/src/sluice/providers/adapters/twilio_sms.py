"""Twilio SMS, REST API 2010-04-01, Messages (https://www.twilio.com/docs/messaging, OpenAPI of 2026-04-14).

No idempotency key and no field for our reference: it is in the query of the callback URL, which the signature of a
receipt covers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import httpx
from pydantic import Field

from sluice.model.message import Channel, Sms
from sluice.model.outcome import (
    Accepted,
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
from sluice.providers.adapters._twilio import TwilioAccount, callback_url, error_code, verify_signature
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
from sluice.providers.kit.error_table import ErrorTable, fill
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.requests import endpoint, post_form
from sluice.providers.kit.responses import json_object

_SID = re.compile(r"(SM|MM)[0-9a-fA-F]{32}")


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
    fields = {
        "To": message.recipient,
        **_sender(message.content, credentials),
        "Body": message.content.text,
        **({"StatusCallback": callback_url(message)} if message.callback_url else {}),
    }
    url = endpoint(credentials.address, f"/2010-04-01/Accounts/{credentials.account_sid}/Messages.json")
    return post_form(url, fields, authorization=credentials.basic)


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


def _codes(refusal: Refusal, *codes: int) -> dict[int, Refusal]:
    return dict.fromkeys(codes, refusal)


_INVALID = Declined(Reason.INVALID_CONTENT)
_SENDER = Declined(Reason.SENDER)
_SENDER_SETTING = Declined(Reason.SENDER, scope=Scope.ACCOUNT)
_TRIAL = Declined(Reason.REPUTATION, scope=Scope.ACCOUNT)

ERROR_CODES: Mapping[int, Refusal] = {
    **_codes(AuthFailed(), 20003, 20005, 10001, 21472, 20006, 20403, 20008, 20404, 21470, 21471),
    **_codes(AuthFailed(), 21609),  # the callback URL, which is the installation's and in every request
    **_codes(_TRIAL, 10002, 21607, 21608, 21219),
    **_codes(Unknown(), 20409, 20500),
    **_codes(ProviderFault(), 20410, 20503, 21619, 21730),
    **_codes(Throttled(), 20429),
    **_codes(Throttled(scope=Scope.SENDER), 21611),  # the queue of this sender is full
    **_codes(Throttled(scope=Scope.PAIR), 14107),  # a loop of replies between two numbers
    # About the recipient.
    **_codes(RecipientRejected(Reason.INVALID_ADDRESS), 21211, 21217, 21401, 21421),
    **_codes(RecipientRejected(Reason.UNREACHABLE), 21214),
    **_codes(RecipientRejected(Reason.UNSUBSCRIBED), 21610),  # the recipient sent STOP to this sender
    **_codes(RecipientRejected(Reason.UNKNOWN_RECIPIENT), 21614, 21635),  # not a mobile number
    # About the message, or how the request was built.
    **_codes(_INVALID, 20001, 20004, 20422, 21602, 21604, 21618, 21620, 21624, 90007, 30045, 21653, 21910),
    **_codes(Declined(Reason.TOO_LARGE), 21605, 21617),
    **_codes(Declined(Reason.UNSUPPORTED), 21408, 21612),  # this account does not reach this country or number
    **_codes(_SENDER, 21212, 21213, 21603, 21606, 21616, 21601, 21657, 21659, 21660, 21708, 21709),
    **_codes(_SENDER_SETTING, 21701, 21702, 21703, 21704, 21705, 21711, 21712),  # the messaging service
    # Channels other than SMS; listed so that they are recognised.
    **_codes(AuthFailed(), 63001, 63002, 63007, 63008, 63020, 63022, 63051, 63015, 63035),
    **_codes(RecipientRejected(Reason.OTHER), 63003, 63024, 63031),
    **_codes(RecipientRejected(Reason.BLOCKED), 63014, 63032, 63033),
    **_codes(_INVALID, 63005, 63006, 63013, 63019, 63021, *range(63026, 63031), 63034, 63037, 63040, 63041, 63042),
    **_codes(Declined(Reason.POLICY), 63016),  # outside of the conversation window
    **_codes(ProviderFault(), 63009, 63010, 63011, 63012, 63023, 63036),
    **_codes(Throttled(), 63017, 63018, 63038, 63039),
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
    **{code: (EventType.FAILED, Reason.QUOTA, Throttled()) for code in (30022, 30023, 30027)},
}
_ERRORS = ErrorTable(ERROR_CODES, STATUS_FALLBACK)


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 2xx that carries a message sid; a 5xx without a known code may have been a send."""
    body = json_object(response.content)
    sid = body.get("sid")
    if response.is_success and isinstance(sid, str) and _SID.fullmatch(sid):
        return _created(sid, body)
    return _ERRORS.outcome(response, error_code(body.get("code")), body.get("message") or body.get("detail"))


def _created(sid: str, body: Mapping[str, object]) -> Outcome:
    """A message can be created as failed: it is in the provider's log, and never sent."""
    if body.get("status") not in ("failed", "undelivered"):
        return Accepted(sid)
    code = error_code(body.get("error_code"))
    refusal = ASYNC_ERROR_CODES[code][2] if code in ASYNC_ERROR_CODES else ProviderFault()
    return fill(refusal, f"created as {body['status']}, error {code or 'unknown'}")


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
    fields = verify_signature(request, credentials.auth_token)
    status = fields.get("MessageStatus") or fields.get("SmsStatus") or ""
    sid = fields.get("MessageSid") or fields.get("SmsSid") or ""
    code = error_code(fields.get("ErrorCode"))
    detail = " ".join(filter(None, [status, fields.get("ErrorCode"), fields.get("ErrorMessage")]))
    return WebhookReply(
        [
            DeliveryReceipt(
                receipt_id=f"{sid}:{event_type}" if status == "read" else f"{sid}:{status}",
                type=event_type,
                reference=dict(parse_qsl(urlsplit(request.url).query)).get("ref"),
                provider_message_id=sid or None,
                recipient=fields.get("To"),
                occurred_at=_parse_time(fields.get("RawDlrDoneDate", "")),
                reason=_reason(event_type, code),
                detail=redact(detail, limit=500),
            )
            for event_type in _event_types(status, code)
        ]
    )


def _event_types(status: str, code: int) -> Iterable[EventType]:
    if code in ASYNC_ERROR_CODES and (status == "undelivered" or (status == "failed" and code == 21610)):
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
    signs_url=True,
    docs_url="https://www.twilio.com/docs/messaging/api/message-resource",
    receipts=ReceiptSource.WEBHOOK,
    segments=True,
    names_sender=lambda account: account.from_ is not None or account.messaging_service_sid is not None,
)
