"""Amazon SNS, Publish to a telephone number, query protocol of 2010-03-31 (https://docs.aws.amazon.com/sns, 2026-08).

No idempotency key and no field for our reference. SNS has no receipts for SMS: it writes delivery status to CloudWatch
Logs, and a function of the account's own can forward the entries to the receipt URL (docs/providers/sns.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import httpx
from pydantic import AfterValidator, Field

from sluice.model.message import Channel, Sms
from sluice.model.outcome import Accepted, Outcome
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters._aws import AwsAccount
from sluice.providers.adapters._sns import (
    ERROR_CODES,
    ERROR_TEXTS,
    EVENT_TYPES,
    INVALID_VALUE,
    STATUS_FALLBACK,
    LogBatchTooLargeError,
    log_entries,
)
from sluice.providers.contract import (
    DeliveryReceipt,
    OptOut,
    OutboundMessage,
    Package,
    TransportKind,
    UnsupportedMessageError,
    WebhookAnswer,
    WebhookEvent,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.kit import sns_envelope
from sluice.providers.kit.credentials import WebhookToken
from sluice.providers.kit.error_table import ErrorTable
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.requests import encode_form, endpoint, post
from sluice.providers.kit.responses import dump_json, identifier, number_of, text_of, xml_texts
from sluice.providers.kit.signatures import token_sample, verify_url_token
from sluice.providers.kit.sigv4 import sign_v4
from sluice.providers.kit.times import parse_iso_time

_SENDER_ID = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9-]{1,9}[A-Za-z0-9]")
_NUMBER = re.compile(r"\+?[0-9]{5,14}")
_CONTENT_TYPE = "application/x-www-form-urlencoded; charset=utf-8"


def _sender_id(value: str) -> str:
    if not _SENDER_ID.fullmatch(value):
        raise ValueError("3 to 11 letters, digits or hyphens, with a letter, without a hyphen at an end")
    return value


class SnsCredentials(AwsAccount):
    """An access key in a region, the attributes of its messages, and what proves the origin of log entries."""

    sender_id: Annotated[str, AfterValidator(_sender_id)] | None = Field(
        default=None, alias="senderId", title="Sender ID"
    )
    origination_number: str | None = Field(
        default=None, alias="originationNumber", pattern=f"^{_NUMBER.pattern}$", title="Number"
    )
    sms_type: Literal["Transactional", "Promotional"] = Field(default="Transactional", alias="smsType", title="Type")
    max_price: Decimal | None = Field(default=None, alias="maxPrice", gt=0, le=1000, title="Maximum price in USD")
    entity_id: str | None = Field(default=None, alias="entityId", min_length=1, max_length=50, title="India: entity")
    template_id: str | None = Field(
        default=None, alias="templateId", min_length=1, max_length=50, title="India: template"
    )
    webhook_token: WebhookToken | None = Field(default=None, alias="webhookToken", title="Token in the receipt URL")
    success_means: Literal["delivered", "sent"] = Field(
        default="delivered", alias="successMeans", title="Meaning of an entry that the carrier accepted the message"
    )


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: SnsCredentials) -> httpx.Request:
    """One text to one number."""
    if not isinstance(message.content, Sms):
        raise UnsupportedMessageError("SNS carries SMS only")
    fields = {
        "Action": "Publish",
        "Version": "2010-03-31",
        "PhoneNumber": "+" + message.recipient.removeprefix("+"),
        "Message": message.content.text,
    }
    for number, (name, kind, value) in enumerate(_attributes(message.content, credentials), start=1):
        entry = f"MessageAttributes.entry.{number}"
        fields |= {f"{entry}.Name": name, f"{entry}.Value.DataType": kind, f"{entry}.Value.StringValue": value}
    url, content = endpoint(credentials.address_of("sns"), "/"), encode_form(fields)
    key, region, at = credentials.key, credentials.region, message.attempted_at
    signed = sign_v4(url, content, _CONTENT_TYPE, key, service="sns", region=region, at=at)
    return post(url, content, content_type=_CONTENT_TYPE, accept="text/xml", **signed)


def _attributes(sms: Sms, credentials: SnsCredentials) -> Iterator[tuple[str, str, str]]:
    """Name, type and value of each attribute. The sender is the account's, else the message's."""
    sender_id, number = credentials.sender_id, credentials.origination_number
    if sender_id is None and number is None and sms.sender:
        if _NUMBER.fullmatch(sms.sender):
            number = sms.sender
        elif _SENDER_ID.fullmatch(sms.sender):
            sender_id = sms.sender
        else:
            raise UnsupportedMessageError("the message's sender is neither a sender ID of SNS nor a number")
    price = None if credentials.max_price is None else f"{credentials.max_price:f}"
    for name, kind, value in (
        ("AWS.SNS.SMS.SMSType", "String", credentials.sms_type),
        ("AWS.SNS.SMS.SenderID", "String", sender_id),
        ("AWS.SNS.SMS.MaxPrice", "Number", price),
        ("AWS.MM.SMS.OriginationNumber", "String", number),
        ("AWS.MM.SMS.EntityId", "String", credentials.entity_id),
        ("AWS.MM.SMS.TemplateId", "String", credentials.template_id),
    ):
        if value is not None:
            yield name, kind, value


# Responses -------------------------------------------------------------------------------------------------

_ERRORS = ErrorTable(ERROR_CODES, STATUS_FALLBACK)
_INVALID_VALUES = ErrorTable(ERROR_TEXTS, STATUS_FALLBACK)


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 200 with a message id. A limit, an opt-out and the sandbox show up in the logs only."""
    texts = xml_texts(response.content)
    message_id = identifier(texts.get("PublishResponse/PublishResult/MessageId"))
    if response.status_code == 200 and message_id:
        return Accepted(message_id, (message_id,))
    code = texts.get("ErrorResponse/Error/Code", "").removesuffix("Exception")
    words = texts.get("ErrorResponse/Error/Message", "")
    if code in INVALID_VALUE:
        field = next((part for part in ERROR_TEXTS if part in words.casefold()), None)
        return _INVALID_VALUES.outcome(response, field, f"{code} {words}")
    return _ERRORS.outcome(response, code or None, words)


# Receipts: log entries, forwarded by a function of the account or through a topic ---------------------------


def parse_webhook(request: WebhookRequest, credentials: SnsCredentials, fetched: Mapping[str, bytes]) -> WebhookReply:
    """Delivery status entries: a log batch as CloudWatch writes it, its decoded form, one entry or a list."""
    body = request.body
    if sns_envelope.is_sns_request(request):
        topics, base_url = credentials.topic_arns, credentials.base_url
        notification = sns_envelope.open_envelope(request, topics, fetched, base_url=base_url)
        if isinstance(notification, WebhookReply):
            return notification
        body = notification.message.encode()
    else:
        verify_url_token(request, credentials.webhook_token)
    try:
        entries = log_entries(body)
    except LogBatchTooLargeError:
        return WebhookReply(answer=WebhookAnswer(413, b"the log batch is larger than a mebibyte"))
    return WebhookReply([event for entry in entries for event in _events(entry, credentials.success_means)])


def _events(entry: Mapping[str, Any], success_means: str) -> list[WebhookEvent]:
    notification, delivery, status = entry.get("notification"), entry.get("delivery"), entry.get("status")
    if not isinstance(notification, dict) or not isinstance(delivery, dict) or status not in ("SUCCESS", "FAILURE"):
        return []
    message_id, recipient = identifier(notification.get("messageId")), number_of(delivery.get("destination"))
    if message_id is None:
        return []
    words = text_of(delivery.get("providerResponse"), 500) or ""
    acknowledged = delivery.get("dwellTimeMsUntilDeviceAck")
    event_type: EventType = EventType.SENT
    reason: Reason | None = None
    if status == "FAILURE":
        known = (row for prefix, row in EVENT_TYPES.items() if words.casefold().startswith(prefix))
        event_type, reason = next(known)
    elif success_means == "delivered" or acknowledged is not None or "delivered" in words.casefold():
        event_type = EventType.DELIVERED
    sent_at, dwell = parse_iso_time(notification.get("timestamp")), acknowledged or delivery.get("dwellTimeMs")
    wait = timedelta(milliseconds=dwell) if type(dwell) is int and 0 <= dwell < 10**9 else timedelta()
    receipt = DeliveryReceipt(
        receipt_id=f"{message_id}:{status}",
        type=event_type,
        provider_message_id=message_id,
        recipient=recipient,
        occurred_at=None if sent_at is None else sent_at + wait,
        reason=reason,
        detail=redact(words, limit=500),
        payload=dump_json(entry),
    )
    return [receipt, OptOut(recipient)] if reason is Reason.UNSUBSCRIBED and recipient else [receipt]


SNS = Package(
    name="provider-sns",
    title="Amazon SNS",
    channels=(Channel.SMS,),
    credentials=SnsCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    sample=token_sample,  # as a function of the account forwards its logs; notifications only Amazon signs
    docs_url="https://docs.aws.amazon.com/sns/latest/api/API_Publish.html",
    segments=True,
    webhook_urls=sns_envelope.WEBHOOK_URLS,
)
