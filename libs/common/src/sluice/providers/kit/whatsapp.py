"""WhatsApp's own message format, as Meta's Cloud API and its resellers speak it: bodies, errors, statuses.

Sources: Meta's OpenAPI of v23.0, its error codes (2026-05-15) and its status webhook (2026-05-21), read 2026-08.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx

from sluice.model.message import Whatsapp
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    ProviderFault,
    RecipientRejected,
    Refusal,
    Scope,
    Throttled,
)
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.contract import (
    DeliveryReceipt,
    InboundMessage,
    OutboundMessage,
    UnsupportedMessageError,
    WebhookEvent,
)
from sluice.providers.kit.error_table import reason_of, rows
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.responses import dump_json, json_object, number_of, object_of, text_of
from sluice.providers.kit.times import parse_unix_time

_WAMID = re.compile(r"[!-~]{1,500}")
_DIGITS = re.compile(r"\+?([1-9][0-9]{5,14})")


def digits_of(recipient: str) -> str:
    """A number without its plus sign. Raises UnsupportedMessageError when it is none."""
    number = _DIGITS.fullmatch(recipient)
    if number is None:
        raise UnsupportedMessageError("a WhatsApp recipient is a telephone number in international form")
    return number[1]


def message_body(message: OutboundMessage, to: str) -> dict[str, Any]:
    """The body of a send. The reference comes back in statuses, whose own id is the wamid."""
    content = message.content
    if not isinstance(content, Whatsapp):
        raise UnsupportedMessageError("a WhatsApp package carries WhatsApp messages only")
    return {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": to,
        **_content(content),
        "biz_opaque_callback_data": message.reference,
    }


def _content(content: Whatsapp) -> dict[str, Any]:
    if content.template_name is None:
        if content.text is None:
            raise UnsupportedMessageError("a WhatsApp message has a template or a text")
        return {"type": "text", "text": {"body": content.text, "preview_url": False}}
    if content.template_language is None:
        raise UnsupportedMessageError("a WhatsApp template needs its language")
    parameters = [{"type": "text", "text": text} for text in content.template_params]
    template = {
        "name": content.template_name,
        "language": {"code": content.template_language, "policy": "deterministic"},
        **({"components": [{"type": "body", "parameters": parameters}]} if parameters else {}),
    }
    return {"type": "template", "template": template}


# Responses -------------------------------------------------------------------------------------------------

_INVALID = Declined(Reason.INVALID_CONTENT)
_UNSUPPORTED = Declined(Reason.UNSUPPORTED)
_POLICY = Declined(Reason.POLICY)

ERROR_CODES: Mapping[int, Refusal] = {
    **rows(AuthFailed(), 0, 3, 10, 33, 190, *range(200, 300), 368, 131005, 131031, 131037, 131045, 133010),
    **rows(Declined(Reason.QUOTA, scope=Scope.ACCOUNT), 131042, 131044),  # unpaid
    131030: Declined(Reason.REPUTATION, scope=Scope.ACCOUNT),  # a test number writes to five numbers only
    **rows(Throttled(retry_after=timedelta(minutes=1)), 4, 17, 80007),
    130429: Throttled(retry_after=timedelta(seconds=5)),
    **rows(Throttled(retry_after=timedelta(hours=1)), 131048, 131064, 132069, 133016),
    131056: Throttled(retry_after=timedelta(seconds=6), scope=Scope.PAIR),
    **rows(ProviderFault(), 1, 2, 131000, 131016, 131057, 133004),
    131026: RecipientRejected(Reason.UNKNOWN_RECIPIENT),  # not on WhatsApp, or with a client that is too old
    131050: RecipientRejected(Reason.UNSUBSCRIBED),
    **rows(_INVALID, 100, 131008, 131009, 131052, 131053, 132000, 132008, 132012),
    131021: Declined(Reason.INVALID_ADDRESS),  # the recipient is this sender
    132005: Declined(Reason.TOO_LARGE),
    # A template that this account does not have; another one may. Then: templates of marketing, kinds of messages.
    **rows(_UNSUPPORTED, 132001, 131063, 131051, 131055, 131062),
    # The 24-hour window, the limit of marketing messages to a person, an experiment, a template of low quality.
    **rows(_POLICY, 131047, 131049, 130472, 130497, 132007, 132015, 132016, 132068),
    **rows(Declined(Reason.OTHER), 135000, 137000),
}
RATE_CODES = frozenset({4, 17, 80007, 130429})  # of the account, whose wait a header may name


def error_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The ``error`` object of a response; empty when there is none."""
    return object_of(body, "error")


def code_of(error: Mapping[str, Any]) -> int | None:
    """The code of an error; None without one. A bool is no code."""
    code = error.get("code")
    return code if type(code) is int else None


def words_of(error: Mapping[str, Any]) -> str:
    """What an error says: its message (or title), then its details, which may be a text or an object."""
    data = error.get("error_data")
    details = data.get("details") if isinstance(data, dict) else data
    said = (text_of(error.get("message")) or text_of(error.get("title")), text_of(details))
    return " ".join(dict.fromkeys(words for words in said if words))


def accepted(response: httpx.Response) -> Accepted | None:
    """Accepted by a 2xx with a message id and no error; statuses may come without the reference."""
    body = json_object(response.content)
    messages = body.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else None
    wamid = _wamid(first) if isinstance(first, dict) else None
    if not response.is_success or wamid is None or "error" in body:
        return None
    return Accepted(wamid, receipt_ids=(wamid,))


def _wamid(message: Mapping[str, Any]) -> str | None:
    """Meta's id of a message: opaque, some 60 characters long, at most a few hundred."""
    wamid = message.get("id")
    return wamid if isinstance(wamid, str) and _WAMID.fullmatch(wamid) else None


# Statuses and inbound messages -----------------------------------------------------------------------------

EVENT_TYPES: Mapping[str, tuple[EventType, ...]] = {
    "sent": (EventType.SENT,),
    "delivered": (EventType.DELIVERED,),
    "read": (EventType.DELIVERED, EventType.READ),  # "delivered" is skipped when the chat was open
    "played": (EventType.DELIVERED, EventType.READ),
    "failed": (EventType.FAILED,),
}


def read_events(
    body: bytes,
    *,
    phone_number_id: str | None = None,
    waba_id: str | None = None,
    event_types: Mapping[str, tuple[EventType, ...]] = EVENT_TYPES,
) -> list[WebhookEvent]:
    """Every status and inbound message of a batch; only those of this number and account where they are given.

    ``event_types``: those of the package, by status.
    One webhook serves all numbers of an app, of whatever customer.
    """
    events: list[WebhookEvent] = []
    for entry in _objects(json_object(body), "entry"):
        if waba_id is not None and entry.get("id") != waba_id:
            continue
        for change in _objects(entry, "changes"):
            value = object_of(change, "value")
            sender = object_of(value, "metadata")
            if change.get("field") != "messages":
                continue
            if phone_number_id is not None and sender.get("phone_number_id") != phone_number_id:
                continue
            events += (event for status in _objects(value, "statuses") for event in _receipts(status, event_types))
            events += filter(None, (_inbound(message, sender) for message in _objects(value, "messages")))
    return events


def _objects(owner: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    found = owner.get(name)
    return (one for one in found if isinstance(one, dict)) if isinstance(found, list) else iter(())


def _receipts(status: Mapping[str, Any], event_types: Mapping[str, tuple[EventType, ...]]) -> Iterator[DeliveryReceipt]:
    wamid, word = _wamid(status), text_of(status.get("status")) or ""
    error = next(_objects(status, "errors"), {})
    code = code_of(error)
    for type_ in event_types.get(word, ()) if wamid else ():
        yield DeliveryReceipt(
            receipt_id=f"{type_}:{wamid}",
            type=type_,
            reference=text_of(status.get("biz_opaque_callback_data"), 512),
            provider_message_id=wamid,
            recipient=number_of(status.get("recipient_id")),
            occurred_at=_time(status.get("timestamp")),
            reason=_reason(code) if type_ is EventType.FAILED else None,
            detail=redact(" ".join(filter(None, [word, str(code or ""), words_of(error)])), limit=500),
            payload=dump_json(status),
        )


def _reason(code: int | None) -> Reason:
    refusal = None if code is None else ERROR_CODES.get(code)
    return Reason.OTHER if refusal is None else reason_of(refusal)


def _inbound(message: Mapping[str, Any], sender: Mapping[str, Any]) -> InboundMessage | None:
    wamid, writer = _wamid(message), number_of(message.get("from"))
    if wamid is None or writer is None:
        return None
    return InboundMessage(
        inbound_id=wamid,
        sender=writer,
        text=text_of(object_of(message, "text").get("body"), 4096) or "",
        recipient=number_of(sender.get("display_phone_number")),
        occurred_at=_time(message.get("timestamp")),
    )


def _time(value: object) -> datetime | None:
    """Whole seconds since the epoch, written as a text."""
    return parse_unix_time(int(value)) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value) else None
