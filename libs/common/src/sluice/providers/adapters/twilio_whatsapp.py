"""WhatsApp through Twilio, REST API 2010-04-01, Messages with ``whatsapp:`` addresses (OpenAPI of 2026-04-14).

Templates are Twilio's content templates: the account's settings name the ``HX…`` of each. Most refusals come later,
with a receipt. No idempotency key; our reference is in the query of the callback URL, which the signature covers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Self

import httpx
from pydantic import Field, StringConstraints, model_validator

from sluice.model.message import Channel, Whatsapp
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
from sluice.providers.adapters._twilio import TwilioAccount, classify_message, post_message, read_callback
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
from sluice.providers.kit.error_table import ErrorTable, reason_of, rows
from sluice.providers.kit.whatsapp import digits_of

_CONTENT_SID = r"^HX[0-9a-fA-F]{32}$"
_PREFIX = "whatsapp:"


class TwilioWhatsappCredentials(TwilioAccount):
    """An account, its WhatsApp sender, and the content template behind each template's name."""

    from_: str | None = Field(
        default=None, alias="from", pattern=r"^(whatsapp:)?\+[1-9][0-9]{5,14}$", title="WhatsApp sender"
    )
    messaging_service_sid: str | None = Field(
        default=None, alias="messagingServiceSid", pattern=r"^MG[0-9a-fA-F]{32}$", title="Messaging service"
    )
    templates: dict[str, Annotated[str, StringConstraints(pattern=_CONTENT_SID)]] = Field(
        default_factory=dict, title="Content templates: HX… by name or name:language"
    )

    @model_validator(mode="after")
    def _has_sender(self) -> Self:
        if self.from_ is None and self.messaging_service_sid is None:
            raise ValueError("from or messagingServiceSid is needed")
        return self


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: TwilioWhatsappCredentials) -> httpx.Request:
    """One template or text to one number."""
    content = message.content
    if not isinstance(content, Whatsapp):
        raise UnsupportedMessageError("Twilio's WhatsApp package carries WhatsApp messages only")
    service, sender = credentials.messaging_service_sid, credentials.from_
    fields = {
        "To": f"{_PREFIX}+{digits_of(message.recipient)}",
        **({"MessagingServiceSid": service} if service else {}),
        **({"From": _PREFIX + sender.removeprefix(_PREFIX)} if sender else {}),
        **_content(content, credentials.templates),
    }
    return post_message(message, credentials, fields)


def _content(content: Whatsapp, templates: Mapping[str, str]) -> dict[str, str]:
    """A text, or a content template with all its variables: for a missing one Twilio would send its sample."""
    name = content.template_name
    if name is None:
        if content.text is None:
            raise UnsupportedMessageError("a WhatsApp message has a template or a text")
        return {"Body": content.text}
    sid = templates.get(f"{name}:{content.template_language}") or templates.get(name)
    sid = name if sid is None and re.fullmatch(_CONTENT_SID, name) else sid
    if sid is None:
        raise UnsupportedMessageError("the account's templates name no content template for this name and language")
    variables = {str(number): text for number, text in enumerate(content.template_params, start=1)}
    # Not orjson: half a character has to reach the form, which refuses it.
    return {"ContentSid": sid, **({"ContentVariables": json.dumps(variables, ensure_ascii=False)} if variables else {})}


# Responses. Codes of a created message come with a receipt, or with the 201 itself. -------------------------

_INVALID = Declined(Reason.INVALID_CONTENT)
_POLICY = Declined(Reason.POLICY)

ERROR_CODES: Mapping[int, Refusal] = {
    # A code of the channel that is not documented, before those that are.
    **rows(ProviderFault(), *range(63000, 64000)),
    **rows(AuthFailed(), 20003, 20404, 21212, 21606, 21603, 21609, 21701, 21703, 21704, 21910),
    **rows(AuthFailed(), 30002, 63001, 63002, 63007, 63008),
    **rows(Declined(Reason.REPUTATION, scope=Scope.ACCOUNT), 21608, 63015),  # a trial account, the sandbox
    **rows(Throttled(), 20429, 21611, 30001, 63017, 63018, 63119),
    63038: Throttled(retry_after=timedelta(hours=1)),  # the account's limit of a day
    20500: Unknown(),  # an internal error: the message may exist
    **rows(ProviderFault(), 20503, 63009, 63010, 63012, 63023),
    **rows(RecipientRejected(Reason.INVALID_ADDRESS), 21211),
    **rows(RecipientRejected(Reason.UNKNOWN_RECIPIENT), 21614, 63003, 63024),
    21610: RecipientRejected(Reason.UNSUBSCRIBED),
    63014: RecipientRejected(Reason.BLOCKED),
    **rows(_INVALID, 20422, 21602, 21619, 21620, 21654, 21656, 92005, 63005, 63019, 63021, 63028),
    **rows(Declined(Reason.TOO_LARGE), 21617, 21658, 63034),
    63031: Declined(Reason.INVALID_ADDRESS),  # the recipient is this sender
    # A country or route that this account does not have; a template that it does not have.
    **rows(Declined(Reason.UNSUPPORTED), 21408, 21612, 21655, 63027, 63030),
    # The 24-hour window, limits of Meta to a person, templates that Meta rejected, paused or disabled.
    **rows(_POLICY, 63013, 63016, 63032, 63049, 63040, 63041, 63042),
}
STATUS_FALLBACK: Mapping[int, Refusal] = {
    **dict.fromkeys(range(400, 500), _INVALID),
    **dict.fromkeys((401, 403, 404), AuthFailed()),
    409: Unknown(),
    429: Throttled(),
}
_ERRORS = ErrorTable(ERROR_CODES, STATUS_FALLBACK)


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 2xx that carries a message sid and no failure."""
    return classify_message(response, _ERRORS, lambda code: ERROR_CODES.get(code, ProviderFault()))


# Receipts --------------------------------------------------------------------------------------------------

EVENT_TYPES: Mapping[str, tuple[EventType, ...]] = {
    "sent": (EventType.SENT,),
    "delivered": (EventType.DELIVERED,),
    "read": (EventType.DELIVERED, EventType.READ),
    "failed": (EventType.FAILED,),
    "undelivered": (EventType.FAILED,),
    "canceled": (EventType.FAILED,),  # cancelled at Twilio's end
}


def parse_webhook(
    request: WebhookRequest, credentials: TwilioWhatsappCredentials, _fetched: Mapping[str, bytes]
) -> WebhookReply:
    """The receipts of a status callback; none for intermediate states and inbound messages."""
    callback = read_callback(request, credentials.auth_token)
    status = "read" if callback.fields.get("EventType") == "READ" else callback.status
    refusal = ERROR_CODES.get(callback.code)
    return WebhookReply(
        [
            DeliveryReceipt(
                receipt_id=f"{callback.sid}:{event_type}",
                type=event_type,
                reference=callback.reference,
                provider_message_id=callback.sid or None,
                recipient=callback.fields.get("To", "").removeprefix(_PREFIX) or None,
                reason=(reason_of(refusal) if refusal else Reason.OTHER) if event_type is EventType.FAILED else None,
                detail=callback.detail,
            )
            for event_type in EVENT_TYPES.get(status, ())
        ]
    )


TWILIO_WHATSAPP = Package(
    name="provider-twilio-whatsapp",
    title="WhatsApp (Twilio)",
    channels=(Channel.WHATSAPP,),
    credentials=TwilioWhatsappCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    signs_url=True,
    docs_url="https://www.twilio.com/docs/whatsapp/api",
    receipts=ReceiptSource.WEBHOOK,
)
