"""Infobip SMS, version 3, ``/sms/3/messages`` (https://www.infobip.com/docs/api/channels/sms, OpenAPI 3.210.0).

Our reference is the message id. A repeated one is refused as a duplicate, so a retry is taken at most once; receipts
carry it. Receipts of version 2 have the fields that are read here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self

import httpx
from pydantic import BeforeValidator, Field, SecretStr, model_validator

from sluice.model.message import Channel, Sms
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    Refusal,
    Throttled,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters._infobip import (
    ASYNC_ERROR_CODES,
    DUPLICATE,
    ERROR_CODES,
    EVENT_TYPES,
    GROUP_EVENT_TYPES,
    GROUP_FALLBACK,
    TAKEN,
    TAKEN_GROUPS,
    perhaps_delivered,
)
from sluice.providers.contract import (
    Credentials,
    DeliveryReceipt,
    OptOut,
    OutboundMessage,
    Package,
    ReceiptSource,
    TransportKind,
    UnsupportedMessageError,
    WebhookEvent,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.kit.credentials import BASE_URL, HeaderSecret, WebhookToken
from sluice.providers.kit.error_table import ErrorTable, fill
from sluice.providers.kit.redaction import redact
from sluice.providers.kit.requests import basic, endpoint, post_json
from sluice.providers.kit.responses import describe, dump_json, identifier, json_object, number_of, text_of
from sluice.providers.kit.signatures import json_sample, require_match, token_sample, verify_url_token, with_url_token
from sluice.providers.kit.times import parse_iso_time


def _with_scheme(address: object) -> object:
    """The account's page shows the host alone."""
    return f"https://{address}" if isinstance(address, str) and "://" not in address else address


class InfobipCredentials(Credentials):
    """An account, its sender, and what proves the origin of its receipts."""

    api_key: HeaderSecret = Field(alias="apiKey", title="API key")
    base_url: Annotated[str, BeforeValidator(_with_scheme)] = Field(
        alias="baseUrl", pattern=BASE_URL, title="Address of the account"
    )
    from_: str | None = Field(default=None, alias="from", min_length=1, max_length=20, title="Sender")
    webhook_token: WebhookToken | None = Field(default=None, alias="webhookToken", title="Token in the receipt URL")
    webhook_user: str | None = Field(
        default=None, alias="webhookUser", pattern=r"^[^:\x00-\x1f]{1,100}$", title="User of the subscription"
    )
    webhook_password: SecretStr | None = Field(
        default=None, alias="webhookPassword", min_length=8, title="Password of the subscription"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.webhook_user is None) != (self.webhook_password is None):
            raise ValueError("webhookUser and webhookPassword are needed together")
        return self


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: InfobipCredentials) -> httpx.Request:
    """One text to one number, from the account's sender, else the message's."""
    if not isinstance(message.content, Sms):
        raise UnsupportedMessageError("Infobip's SMS package carries SMS only")
    sender = credentials.from_ or message.content.sender
    fields: dict[str, Any] = {
        **({"sender": sender} if sender else {}),
        "destinations": [{"to": message.recipient.removeprefix("+"), "messageId": message.reference}],
        "content": {"text": message.content.text},
    }
    if message.callback_url and credentials.webhook_token:
        url = with_url_token(message.callback_url, credentials.webhook_token)
        fields["webhooks"] = {"delivery": {"url": url}, "contentType": "application/json"}
    key = credentials.api_key.get_secret_value()
    return post_json(
        endpoint(credentials.base_url, "/sms/3/messages"), {"messages": [fields]}, authorization=f"App {key}"
    )


# Responses. A refused recipient is inside of a 200, with a status of its own. -------------------------------

# Errors of a request, in the spelling of version 3 and of version 2.
ERROR_TEXTS: Mapping[str, Refusal] = {
    **dict.fromkeys(("E400", "BAD_REQUEST"), Declined(Reason.INVALID_CONTENT)),
    **dict.fromkeys(("E401", "UNAUTHORIZED", "E403", "FORBIDDEN", "NOT_FOUND"), AuthFailed()),
    **dict.fromkeys(("E429", "TOO_MANY_REQUESTS"), Throttled()),
    **dict.fromkeys(("E500", "GENERAL_ERROR"), Unknown()),
}
STATUS_FALLBACK: Mapping[int, Refusal] = {
    400: Declined(Reason.INVALID_CONTENT),
    401: AuthFailed(),
    403: AuthFailed(),
    404: AuthFailed(),  # a wrong base URL
    429: Throttled(),
    503: ProviderFault(),
}
_ERRORS = ErrorTable(ERROR_TEXTS, STATUS_FALLBACK)


def classify(response: httpx.Response) -> Outcome:
    """Accepted by the message's own status in a 200, with its id."""
    body = json_object(response.content)
    messages = body.get("messages")
    if response.status_code == 200 and isinstance(messages, list) and len(messages) == 1:
        return _message(response, _object(messages[0]))
    old = _object(_object(body.get("requestError")).get("serviceException"))
    code = text_of(body.get("errorCode")) or text_of(old.get("messageId"))
    violations = body.get("violations")
    words = [body.get("description"), old.get("text")]
    for violation in map(_object, violations[:5] if isinstance(violations, list) else ()):
        words.append(f"{violation.get('property')}: {violation.get('violation')}")
    return _ERRORS.outcome(response, code, " ".join(word for word in words if isinstance(word, str)))


def _message(response: httpx.Response, message: Mapping[str, Any]) -> Outcome:
    status, message_id = _object(message.get("status")), identifier(message.get("messageId"))
    code, group = _number(status.get("id")), _number(status.get("groupId"))
    taken = code == DUPLICATE or (group in TAKEN_GROUPS and code >= 0 and code not in ERROR_CODES)
    if taken and message_id:
        return Accepted(message_id)
    refusal = ERROR_CODES.get(code) or GROUP_FALLBACK.get(group) or Unknown()
    if taken or code in TAKEN:  # without an id, or in a group that contradicts it
        refusal = Unknown()
    return fill(refusal, describe(response, text_of(status.get("name")) or code, text_of(status.get("description"))))


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int:
    """A whole number, -1 for anything else."""
    return value if type(value) is int else -1


# Receipts --------------------------------------------------------------------------------------------------


def parse_webhook(
    request: WebhookRequest, credentials: InfobipCredentials, _fetched: Mapping[str, bytes]
) -> WebhookReply:
    """A batch of delivery reports; one that cannot be read does not affect the others."""
    _verify(request, credentials)
    results = json_object(request.body).get("results")
    found: list[WebhookEvent] = []
    for result in map(_object, results if isinstance(results, list) else ()):
        found += _events(result)
    return WebhookReply(found)


def _verify(request: WebhookRequest, credentials: InfobipCredentials) -> None:
    """The user and password of a subscription, or the token in the URL of a message's own webhook."""
    offered = request.headers.get("authorization")
    user, password = credentials.webhook_user, credentials.webhook_password
    if offered is None or user is None or password is None:
        verify_url_token(request, credentials.webhook_token)
        return
    require_match([offered], [basic(user, password.get_secret_value())])


def _events(result: Mapping[str, Any]) -> list[WebhookEvent]:
    status, error = _object(result.get("status")), _object(result.get("error"))
    message_id, recipient = identifier(result.get("messageId")), number_of(result.get("to"))
    code, group, error_code = _number(status.get("id")), _number(status.get("groupId")), _number(error.get("id"))
    known = EVENT_TYPES.get(code) or GROUP_EVENT_TYPES.get(group)
    if message_id is None or known is None or code == DUPLICATE:
        return []
    event_type, reason = known
    if reason is not None:
        undeliverable = code in (4, 9) or (code not in EVENT_TYPES and group == 2)
        if undeliverable and error.get("permanent") is True:
            event_type = EventType.BOUNCED
        refined = ASYNC_ERROR_CODES.get(error_code, (event_type, reason))
        if not (refined[0] is EventType.FAILED and perhaps_delivered(code, group)):
            event_type, reason = refined
    named = [status.get("name"), error.get("name") if error_code > 0 else None, error.get("description")]
    receipt = DeliveryReceipt(
        receipt_id=f"{message_id}:{code}:{error_code}",
        type=event_type,
        reference=message_id,
        provider_message_id=message_id,
        recipient=recipient,
        occurred_at=parse_iso_time(result.get("doneAt")),
        reason=reason,
        detail=redact(" ".join(word for word in named if isinstance(word, str)), limit=500),
        payload=dump_json(result),
    )
    return [receipt, OptOut(recipient)] if reason is Reason.UNSUBSCRIBED and recipient else [receipt]


def sample(url: str, credentials: InfobipCredentials, at: datetime) -> WebhookRequest:
    """A batch without reports, with the user of a subscription where there is one."""
    user, password = credentials.webhook_user, credentials.webhook_password
    if user is None or password is None:
        return token_sample(url, credentials, at)
    return json_sample(url, at, authorization=basic(user, password.get_secret_value()))


INFOBIP = Package(
    name="provider-infobip",
    title="Infobip",
    channels=(Channel.SMS,),
    credentials=InfobipCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    sample=sample,
    docs_url="https://www.infobip.com/docs/api/channels/sms/outbound-sms/send-sms-messages",
    receipts=ReceiptSource.WEBHOOK,
    idempotent=True,
    segments=True,
)
