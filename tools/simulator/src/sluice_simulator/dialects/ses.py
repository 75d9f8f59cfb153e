"""SES's dialect: SendEmail. The facts are those of sluice/providers/adapters/ses.py.

Events come in envelopes of SNS, whose certificate is served below the endpoint's own URL. The secret of a webhook is
the topic that the envelopes name.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import orjson
from pydantic import ValidationError

from sluice.providers.contract import TransportKind
from sluice_simulator.dialect import (
    Answered,
    Dialect,
    FakeRequest,
    FakeResponse,
    ParsedSend,
    ReceiptContext,
    ReceiptDialect,
    ReceiptPayload,
    Refused,
    json_response,
)
from sluice_simulator.dialects._aws import read_signature
from sluice_simulator.dialects._ses_mail import SendEmail
from sluice_simulator.dialects._sns_envelope import (
    CERTIFICATE,
    certificate,
    close_envelope,
    other_key,
    sign_envelope,
    write_envelope,
)
from sluice_simulator.scenario import Behaviour, Rule

# code -> (status, text)
ERRORS: Mapping[str, tuple[int, str]] = {
    "BadRequestException": (400, "Local address contains control or whitespace"),
    "MessageRejected": (
        400,
        "Email address is not verified. The following identities failed the check in region EU-WEST-1",
    ),
    "MailFromDomainNotVerifiedException": (400, "The MAIL FROM domain is not verified."),
    "AccountSuspendedException": (400, "The account is suspended."),
    "SendingPausedException": (400, "Email sending is paused."),
    "LimitExceededException": (400, "There are too many instances of the specified resource type."),
    "NotFoundException": (404, "The resource you attempted to access doesn't exist."),
    "TooManyRequestsException": (429, "Maximum sending rate exceeded."),
    "InvalidClientTokenId": (403, "The security token included in the request is invalid."),
    "SignatureDoesNotMatch": (403, "The request signature we calculated does not match the signature you provided."),
    "MissingAuthenticationToken": (403, "Missing Authentication Token"),
    "IncompleteSignature": (400, "The request signature does not conform to AWS standards."),
    "RequestExpired": (400, "The request is more than 15 minutes old."),
    "RequestEntityTooLarge": (413, "Request too large"),
    "InternalFailure": (500, "An internal error occurred."),
    "ServiceUnavailable": (503, "The service is unavailable."),
    "UnknownOperationException": (404, "The operation does not exist."),
}
REFUSALS: Mapping[Behaviour, str] = {
    Behaviour.REJECT: "BadRequestException",
    Behaviour.THROTTLE: "TooManyRequestsException",
    Behaviour.AUTH: "InvalidClientTokenId",
    Behaviour.FAULT: "InternalFailure",
}
MAX_BODY = 55_000_000  # bytes: 40 MB in base64
_NO_USER = {"status": "5.1.1", "diagnosticCode": "smtp; 550 5.1.1 unknown user", "action": "failed"}
# Type, object with the details, list of recipients (of objects but in a delivery), fields of each.
EVENTS: Mapping[str, tuple[str, str, str, Mapping[str, Any], Mapping[str, Any]]] = {
    "sent": ("Send", "send", "", {}, {}),
    "delivered": ("Delivery", "delivery", "recipients", {"smtpResponse": "250 2.0.0 OK"}, {}),
    "deferred": ("DeliveryDelay", "deliveryDelay", "delayedRecipients", {"delayType": "MailboxFull"}, {}),
    "bounced": (
        "Bounce",
        "bounce",
        "bouncedRecipients",
        {"bounceType": "Permanent", "bounceSubType": "NoEmail"},
        _NO_USER,
    ),
    "soft_bounce": (
        "Bounce",
        "bounce",
        "bouncedRecipients",
        {"bounceType": "Transient", "bounceSubType": "MailboxFull"},
        {},
    ),
    "complained": ("Complaint", "complaint", "complainedRecipients", {"complaintSubType": None}, {}),
    "failed": ("Reject", "reject", "", {"reason": "Bad content"}, {}),
    "opened": ("Open", "open", "", {"userAgent": "Mozilla/5.0"}, {}),
    "clicked": ("Click", "click", "", {"link": "https://example.com/a"}, {}),
}


def _error(code: str, words: str | None = None) -> FakeResponse:
    status, standard = ERRORS[code]
    return json_response(status, {"message": words or standard}, {"x-amzn-ErrorType": code})


def read(request: FakeRequest) -> ParsedSend | Refused | Answered:
    """A mail, the certificate of the topics, or SES's refusal."""
    if request.path == CERTIFICATE:
        return Answered(FakeResponse(200, certificate(), (("content-type", "application/x-pem-file"),)))
    signer = read_signature(request, "ses")
    if isinstance(signer, str):
        return Refused(_error(signer))
    if (request.method, request.path) != ("POST", "/v2/email/outbound-emails"):
        return Refused(_error("UnknownOperationException"))
    if len(request.body) > MAX_BODY:
        return Refused(_error("RequestEntityTooLarge"))
    try:
        mail = SendEmail.model_validate_json(request.body)
    except ValidationError as error:
        return Refused(_error("BadRequestException", error.errors()[0]["msg"].removeprefix("Value error, ")))
    tags = {tag.Name: tag.Value for tag in mail.EmailTags}
    return ParsedSend(
        recipient=mail.Destination.everyone[0],
        provider_message_id=f"0102018c0f3a5b7c-{uuid4()}-000000",
        reference=tags.get("ref"),
        message_id=tags.get("msg"),
        account=signer.access_key_id,
        fields={**tags, "origin": "http://" + request.headers.get(b"host", b"").decode("latin-1")},
    )


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """SES's response to a send."""
    if behaviour in REFUSALS:
        name = rule.code if rule.code in ERRORS else None
        return _error(name or REFUSALS[behaviour])
    return json_response(200, {"MessageId": send.provider_message_id})


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    send, kind = context.send, context.kind
    webhook = context.scenario.webhooks.get(send.account) or context.scenario.webhooks.get("*")
    if webhook is None or kind not in EVENTS:
        return None
    name, field, recipients, details, of_each = EVENTS[kind]
    at = context.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    listed: list[Any] = [send.recipient if kind == "delivered" else {"emailAddress": send.recipient, **of_each}]
    event = {
        "eventType": name,
        "mail": {
            "timestamp": at,
            "messageId": send.provider_message_id,
            "destination": [send.recipient],
            "tags": {tag: [send.fields[tag]] for tag in ("ref", "msg") if tag in send.fields},
        },
        field: {"timestamp": at, **details, **({recipients: listed} if recipients else {})},
    }
    body = write_envelope(orjson.dumps(event).decode(), context.receipt_id, send.fields["origin"])
    return ReceiptPayload(context.receipt_id, webhook.url, "text/plain; charset=UTF-8", body, webhook.secret)


SES = Dialect(
    name="ses",
    package="provider-ses",
    transport=TransportKind.HTTP,
    default_port=2585,
    read=read,
    respond=respond,
    receipts=ReceiptDialect(
        _write,
        sign_envelope,
        "Signature",
        in_body=close_envelope,
        other_key=other_key,
        other_body=lambda body: body.replace(b"eventType", b"EventType"),
        stale=timedelta(hours=2),
    ),
)
