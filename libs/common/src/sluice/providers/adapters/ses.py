"""Amazon SES, SendEmail of the API v2 of 2019-09-27 (https://docs.aws.amazon.com/ses, botocore's model of 2026-08).

No idempotency key. The attempt's reference is a tag of the message, which events repeat that come through a
configuration set. They arrive in signed envelopes of Amazon SNS.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
from pydantic import Field

from sluice.model.address import Address, parse_address
from sluice.model.message import Channel, Email
from sluice.model.outcome import Accepted, Outcome
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters._aws import AwsAccount
from sluice.providers.adapters._ses import BOUNCE_TYPES, ERROR_CODES, ERROR_TEXTS, EVENT_TYPES, STATUS_FALLBACK
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
from sluice.providers.kit import sns_envelope
from sluice.providers.kit.bounces import bounce_reason
from sluice.providers.kit.error_table import ErrorTable, find_text
from sluice.providers.kit.mail_fields import mailbox, require_ascii, texts_of
from sluice.providers.kit.mime import unsubscribe_headers, write_mail
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.requests import encode_json, endpoint, post
from sluice.providers.kit.responses import identifier, json_object, object_of, text_of
from sluice.providers.kit.sigv4 import sign_v4
from sluice.providers.kit.times import parse_iso_time

_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")


class SesCredentials(AwsAccount):
    """An access key in a region; a configuration set and its topics are needed for receipts only."""

    configuration_set: str | None = Field(
        default=None, alias="configurationSetName", pattern=r"^[A-Za-z0-9_-]{1,64}$", title="Configuration set"
    )
    identity_arn: str | None = Field(
        default=None,
        alias="identityArn",
        pattern=r"^arn:aws[a-z-]*:ses:[a-z0-9-]{3,30}:[0-9]{12}:identity/[!-~]{1,320}$",
        title="Identity of another account that may be used as sender",
    )
    tenant: str | None = Field(default=None, alias="tenantName", pattern=r"^[A-Za-z0-9_-]{1,64}$", title="Tenant")


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: SesCredentials) -> httpx.Request:
    """One request for the whole envelope: its parts, or with attachments the mail as MIME."""
    mail = message.content
    if not isinstance(mail, Email):
        raise UnsupportedMessageError("SES carries e-mail only")
    require_ascii(mail)
    content = encode_json(
        {
            **(_raw(mail, message) if mail.attachments else _simple(mail, message)),
            "EmailTags": [_tag("ref", message.reference), _tag("msg", message.message_id)],
            "ConfigurationSetName": credentials.configuration_set,
            "FromEmailAddressIdentityArn": credentials.identity_arn,
            "TenantName": credentials.tenant,
        }
    )
    url, kind = endpoint(credentials.address_of("email"), "/v2/email/outbound-emails"), "application/json"
    key, region, at = credentials.key, credentials.region, message.attempted_at
    signed = sign_v4(url, content, kind, key, service="ses", region=region, at=at)
    return post(url, content, content_type=kind, accept=kind, **signed)


def _simple(mail: Email, message: OutboundMessage) -> dict[str, Any]:
    bodies = {{"text/plain": "Text", "text/html": "Html"}[kind]: _utf8(text) for kind, text in texts_of(mail)}
    return {
        "FromEmailAddress": mailbox(parse_address(mail.sender)),
        "Destination": _destination(mail, mailbox),
        "ReplyToAddresses": [mailbox(parse_address(mail.reply_to))] if mail.reply_to else None,
        "Content": {
            "Simple": {
                "Subject": _utf8(mail.subject),
                "Body": bodies,
                "Headers": [
                    {"Name": "X-Sluice-Message-Id", "Value": message.message_id},
                    {"Name": "Auto-Submitted", "Value": "auto-generated"},
                    *({"Name": name, "Value": value} for name, value in unsubscribe_headers(mail).items()),
                ],
            }
        },
    }


def _raw(mail: Email, message: OutboundMessage) -> dict[str, Any]:
    """The header is that of the MIME text: a ``FromEmailAddress`` would replace it."""
    files, at = message.attachments, message.created_at
    content = write_mail(mail, message_id=message.message_id, date=at, contents=files)
    envelope = _destination(mail, lambda address: address.bare)
    return {"Destination": envelope, "Content": {"Raw": {"Data": base64.b64encode(content).decode("ascii")}}}


def _destination(mail: Email, write: Callable[[Address], str]) -> dict[str, list[str]]:
    lists = {"ToAddresses": mail.to, "CcAddresses": mail.cc, "BccAddresses": mail.bcc}
    return {name: [write(parse_address(text)) for text in texts] for name, texts in lists.items() if texts}


def _utf8(text: str) -> dict[str, str]:
    return {"Data": text, "Charset": "UTF-8"}


def _tag(name: str, value: str) -> dict[str, str]:
    """Tags take ASCII letters, digits, ``_`` and ``-`` only, which our ids are made of."""
    if not _TAG.fullmatch(value):
        raise UnsupportedMessageError("one of our ids is not valid in a tag")
    return {"Name": name, "Value": value}


# Responses -------------------------------------------------------------------------------------------------

_CODES = ErrorTable(ERROR_CODES, STATUS_FALLBACK)
_TEXTS = ErrorTable(ERROR_TEXTS, STATUS_FALLBACK)


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 200 with a message id. A virus or a suppressed address shows up in the events only."""
    body = json_object(response.content)
    message_id = identifier(body.get("MessageId"))
    if response.status_code == 200 and message_id:
        return Accepted(message_id, receipt_ids=(message_id,))
    words = text_of(body.get("message"), 1000) or text_of(body.get("Message"), 1000) or ""
    code = _code(response, body)
    if (row := find_text(ERROR_TEXTS, code, words)) is not None:
        return _TEXTS.outcome(response, row, f"{code} {words}")
    return _CODES.outcome(response, code or None, words)


def _code(response: httpx.Response, body: Mapping[str, Any]) -> str:
    """``namespace#CodeException:url`` in the header, else in the body, reduced to the code."""
    named = [response.headers.get("x-amzn-errortype"), *(body.get(name) for name in ("code", "Code", "__type"))]
    if response.status_code == 429 and not any(named):
        return "TooManyRequests"  # the body is only a message
    found = next((one for one in named if isinstance(one, str) and one), "")
    return found.partition(":")[0].rpartition("#")[2].strip().removesuffix("Exception")[:100]


# Receipts --------------------------------------------------------------------------------------------------


def parse_webhook(request: WebhookRequest, credentials: SesCredentials, fetched: Mapping[str, bytes]) -> WebhookReply:
    """The event in a notification of a topic; one receipt for each of its recipients."""
    topics, base_url = credentials.topic_arns, credentials.base_url
    notification = sns_envelope.open_envelope(request, topics, fetched, base_url=base_url)
    if isinstance(notification, WebhookReply):
        return notification
    event = json_object(notification.message.encode("utf-8", "replace"))  # the first message of a topic is a sentence
    return WebhookReply(list(_receipts(event, notification.message_id)))


def _receipts(event: Mapping[str, Any], notification_id: str) -> Iterator[DeliveryReceipt]:
    kind = text_of(event.get("eventType")) or text_of(event.get("notificationType")) or ""
    if kind not in EVENT_TYPES:
        return
    field, type_, reason = EVENT_TYPES[kind]
    details, mail = object_of(event, field), object_of(event, "mail")
    tags, at = object_of(mail, "tags").get("ref"), details.get("timestamp") or mail.get("timestamp")
    if details.get("complaintFeedbackType") == "not-spam":
        return
    for number, (recipient, words) in enumerate(_recipients(details, mail)):
        if kind in ("Bounce", "Complaint"):
            type_, reason = _bounce(kind, details, words)
        yield DeliveryReceipt(
            receipt_id=f"{notification_id}:{number}",
            type=type_,
            reference=text_of(tags[0]) if isinstance(tags, list) and tags else None,
            provider_message_id=text_of(mail.get("messageId")),
            recipient=recipient,
            occurred_at=parse_iso_time(at),
            reason=reason,
            detail=redact(" ".join([*_words(details), *words]), limit=500),
        )


def _recipients(details: Mapping[str, Any], mail: Mapping[str, Any]) -> Iterator[tuple[str | None, list[str]]]:
    """The event's own list of recipients with what the mail server said, else the mail's recipient if it has one."""
    names = ("bouncedRecipients", "complainedRecipients", "delayedRecipients", "recipients")
    listed = next((found for name in names if isinstance(found := details.get(name), list) and found), None)
    for one in listed or ():
        fields = one if isinstance(one, dict) else {"emailAddress": one}
        said = (text_of(fields.get(name), 300) for name in ("status", "diagnosticCode"))
        yield text_of(fields.get("emailAddress")), [word for word in said if word]
    if listed is None:
        everyone = mail.get("destination")
        only = everyone[0] if isinstance(everyone, list) and len(everyone) == 1 else None
        yield text_of(only), []


def _bounce(kind: str, details: Mapping[str, Any], words: list[str]) -> tuple[EventType, Reason]:
    """By type and subtype; what they leave open, the mail server's words may say."""
    if kind == "Complaint":
        subtype = text_of(details.get("complaintSubType")) or ""
        return BOUNCE_TYPES.get((kind, subtype), (EventType.COMPLAINED, Reason.COMPLAINT))
    bounce, subtype = (text_of(details.get(name)) or "" for name in ("bounceType", "bounceSubType"))
    known = BOUNCE_TYPES.get((bounce, subtype)) or BOUNCE_TYPES.get((bounce, ""))
    type_, reason = known or (EventType.SOFT_BOUNCE, Reason.OTHER)
    return type_, bounce_reason(*words, subtype=subtype) if reason is Reason.OTHER else reason


def _words(details: Mapping[str, Any]) -> Iterator[str]:
    names = ("bounceType", "bounceSubType", "complaintSubType", "complaintFeedbackType", "delayType")
    for name in (*names, "reason", "errorMessage", "smtpResponse"):
        if word := text_of(details.get(name), 300):
            yield word


SES = Package(
    name="provider-ses",
    title="Amazon SES",
    channels=(Channel.EMAIL,),
    credentials=SesCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    docs_url="https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html",
    receipts=ReceiptSource.WEBHOOK,
    max_recipients=50,
    supports_attachments=True,
    supports_html=True,
    webhook_urls=sns_envelope.WEBHOOK_URLS,
)
