"""Africa's Talking SMS, ``/version1/messaging`` (https://developers.africastalking.com/docs/sms, read 2026-08).

No idempotency key, no field for our reference and no signature: receipts lead to the attempt by the message id, and a
token in their address, which is entered in the dashboard, proves their origin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

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
from sluice.providers.contract import (
    Credentials,
    DeliveryReceipt,
    InboundMessage,
    OptOut,
    OutboundMessage,
    Package,
    ReceiptSource,
    TransportKind,
    UnsupportedMessageError,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.kit.credentials import BASE_URL, HeaderSecret, WebhookToken
from sluice.providers.kit.error_table import ErrorTable, fill
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.requests import endpoint, post_form
from sluice.providers.kit.responses import describe, identifier, json_object, number_of, retry_after, text_of
from sluice.providers.kit.signatures import token_sample, verify_url_token
from sluice.providers.kit.times import parse_iso_time

_NUMBER = re.compile(r"\+?[0-9]{1,20}")


class AfricasTalkingCredentials(Credentials):
    """An application and its sender. The user name ``sandbox`` selects the sandbox."""

    username: str = Field(min_length=1, max_length=100, title="User name of the application")
    api_key: HeaderSecret = Field(alias="apiKey", title="API key")
    from_: str | None = Field(default=None, alias="from", min_length=1, max_length=20, title="Short code or sender ID")
    enqueue: bool = Field(default=False, title="Answer before the network has the message")
    base_url: str | None = Field(default=None, alias="baseUrl", pattern=BASE_URL, title="Address")
    webhook_token: WebhookToken | None = Field(default=None, alias="webhookToken", title="Token in the receipt URL")

    @property
    def address(self) -> str:
        """The API's base URL."""
        host = "api.sandbox" if self.username == "sandbox" else "api"
        return self.base_url or f"https://{host}.africastalking.com"


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: AfricasTalkingCredentials) -> httpx.Request:
    """One text to one number, from the account's sender, else the message's."""
    if not isinstance(message.content, Sms):
        raise UnsupportedMessageError("Africa's Talking carries SMS only")
    if not _NUMBER.fullmatch(message.recipient):  # a comma would make several recipients of it
        raise UnsupportedMessageError("the recipient is not a telephone number")
    sender = credentials.from_ or message.content.sender
    fields = {
        "username": credentials.username,
        "to": "+" + message.recipient.removeprefix("+"),
        "message": message.content.text,
        "bulkSMSMode": "1",
        **({"from": sender} if sender else {}),
        **({"enqueue": "1"} if credentials.enqueue else {}),
    }
    url = endpoint(credentials.address, "/version1/messaging")
    return post_form(url, fields, apikey=credentials.api_key.get_secret_value())


# Responses. A refused recipient is inside of a 201, with a code of its own. ---------------------------------

_SENDER = Declined(Reason.SENDER)
_NO_BALANCE = Declined(Reason.QUOTA, scope=Scope.ACCOUNT)

ERROR_CODES: Mapping[int, Refusal] = {
    401: Declined(Reason.POLICY, scope=Scope.ACCOUNT),  # RiskHold
    402: _SENDER,  # InvalidSenderId
    403: RecipientRejected(Reason.INVALID_ADDRESS),  # InvalidPhoneNumber
    404: RecipientRejected(Reason.UNKNOWN_RECIPIENT),  # UnsupportedNumberType: not a mobile number
    405: _NO_BALANCE,  # InsufficientBalance
    406: Declined(Reason.BLOCKED),  # UserInBlacklist: for this sender only, and not always by the recipient
    407: Declined(Reason.UNSUPPORTED),  # CouldNotRoute: no route to this network
    409: Declined(Reason.POLICY),  # DoNotDisturbRejection: a transactional route of another provider may deliver
    500: ProviderFault(),  # InternalServerError
    501: ProviderFault(),  # GatewayError
    502: ProviderFault(),  # RejectedByGateway
}
# A pattern of ``Message``, in lower case, when the list of recipients is empty: nothing was sent.
ERROR_TEXTS: Mapping[str, Refusal] = {
    r"sender": _SENDER,
    r"balance|credit": _NO_BALANCE,
    r"account|user ?name|api ?key|authenticat": AuthFailed(),
    r"": Declined(Reason.INVALID_CONTENT),
}
STATUS_FALLBACK: Mapping[int, Refusal] = {
    400: Declined(Reason.INVALID_CONTENT),
    401: AuthFailed(),  # also for a key that is some minutes old
    403: AuthFailed(),
    404: AuthFailed(),
    429: Throttled(),
    503: ProviderFault(),
}
_ERRORS: ErrorTable[int] = ErrorTable({}, STATUS_FALLBACK)
_ACCEPTED = (100, 101, 102)  # processed, sent, queued


def classify(response: httpx.Response) -> Outcome:
    """Accepted by the recipient's own code in a 200 or 201, with a message id."""
    data = json_object(response.content).get("SMSMessageData")
    if response.status_code in (200, 201) and isinstance(data, dict):
        return _recipients(response, data)
    return _ERRORS.outcome(response, None, response.content[:300].decode("utf-8", "replace"))


def _recipients(response: httpx.Response, data: Mapping[str, Any]) -> Outcome:
    entries, words = data.get("Recipients"), text_of(data.get("Message"), 1000) or ""
    if entries == []:
        refusal = next(found for pattern, found in ERROR_TEXTS.items() if re.search(pattern, words.lower()))
        return fill(refusal, describe(response, words), retry_after(response))
    if not isinstance(entries, list) or len(entries) != 1 or not isinstance(entries[0], dict):
        return Unknown(describe(response, words))
    entry = entries[0]
    code, message_id = _code(entry.get("statusCode")), identifier(entry.get("messageId"))
    if message_id == "None":
        message_id = None
    # A code that is not documented says less than the message id: with one the message was taken, else refused.
    if code and code not in ERROR_CODES and message_id:
        return Accepted(message_id, (message_id,))
    other: Refusal = ProviderFault() if code and code not in _ACCEPTED else Unknown()
    return fill(ERROR_CODES.get(code, other), describe(response, code, text_of(entry.get("status"))))


def _code(value: object) -> int:
    return int(value) if isinstance(value, int | str) and re.fullmatch("[1-9][0-9]{2}", str(value)) else 0


# Receipts --------------------------------------------------------------------------------------------------

# By status, case-folded.
EVENT_TYPES: Mapping[str, tuple[EventType, Reason | None]] = {
    "sent": (EventType.SENT, None),
    "submitted": (EventType.SENT, None),
    "buffered": (EventType.SENT, None),
    "success": (EventType.DELIVERED, None),
    "rejected": (EventType.FAILED, Reason.BLOCKED),
    "failed": (EventType.FAILED, Reason.NETWORK),
    "expired": (EventType.SOFT_BOUNCE, Reason.EXPIRED),
    "absentsubscriber": (EventType.SOFT_BOUNCE, Reason.UNREACHABLE),
}
# By ``failureReason`` of a rejected or failed message, case-folded.
ASYNC_ERROR_CODES: Mapping[str, tuple[EventType, Reason]] = {
    "insufficientcredit": (EventType.FAILED, Reason.QUOTA),
    "invalidlinkid": (EventType.FAILED, Reason.INVALID_CONTENT),
    "userisinactive": (EventType.BOUNCED, Reason.DISABLED),
    "useraccountsuspended": (EventType.BOUNCED, Reason.DISABLED),
    "userinblacklist": (EventType.BOUNCED, Reason.BLOCKED),
    "donotdisturbrejection": (EventType.BOUNCED, Reason.POLICY),
    "userindnd": (EventType.BOUNCED, Reason.POLICY),
    "notnetworksubscriber": (EventType.BOUNCED, Reason.UNKNOWN_RECIPIENT),
    "notnetworksubscribered": (EventType.BOUNCED, Reason.UNKNOWN_RECIPIENT),
    "userdoesnotexist": (EventType.BOUNCED, Reason.UNKNOWN_RECIPIENT),
    "usernotsubscribedtoproduct": (EventType.FAILED, Reason.OTHER),
    "absentsubscriber": (EventType.SOFT_BOUNCE, Reason.UNREACHABLE),
    "deliveryfailure": (EventType.FAILED, Reason.NETWORK),
    "routefailure": (EventType.FAILED, Reason.NETWORK),
}


def parse_webhook(
    request: WebhookRequest, credentials: AfricasTalkingCredentials, _fetched: Mapping[str, bytes]
) -> WebhookReply:
    """A receipt, an opt-out or an inbound message; their fields distinguish them."""
    verify_url_token(request, credentials.webhook_token)
    try:
        fields = dict(parse_qsl(request.body.decode(), keep_blank_values=True, errors="strict", max_num_fields=100))
    except ValueError:  # not UTF-8, or more fields than any callback has
        return WebhookReply()
    number, message_id = number_of(fields.get("phoneNumber")), identifier(fields.get("id"))
    if fields.get("senderId") and number and "status" not in fields:
        return WebhookReply([OptOut(number)])
    if (sender := number_of(fields.get("from"))) and message_id and "text" in fields:
        to, at = number_of(fields.get("to")), parse_iso_time(fields.get("date"))
        return WebhookReply([InboundMessage(message_id, sender, fields["text"], to, at)])
    return WebhookReply(_receipt(fields, message_id, number) if message_id else ())


def _receipt(fields: Mapping[str, str], message_id: str, number: str | None) -> list[DeliveryReceipt]:
    status, failure = fields.get("status", ""), fields.get("failureReason", "")
    known = EVENT_TYPES.get(status.casefold())
    if known is None:
        return []
    if status.casefold() in ("rejected", "failed"):
        known = ASYNC_ERROR_CODES.get(failure.casefold(), known)
    event_type, reason = known
    return [
        DeliveryReceipt(
            receipt_id=f"{message_id}:{status}",
            type=event_type,
            provider_message_id=message_id,
            recipient=number,
            reason=reason,
            detail=redact(" ".join(filter(None, [status, failure])), limit=500),
        )
    ]


AFRICASTALKING = Package(
    name="provider-africastalking",
    title="Africa's Talking",
    channels=(Channel.SMS,),
    credentials=AfricasTalkingCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    sample=token_sample,
    docs_url="https://developers.africastalking.com/docs/sms/sending/bulk",
    receipts=ReceiptSource.WEBHOOK,
    segments=True,
)
