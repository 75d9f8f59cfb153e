"""SNS's dialect: Publish to a telephone number. The facts are those of sluice/providers/adapters/sns.py.

Receipts are what a function of the account would forward: log batches of CloudWatch, with a token in the URL.
"""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl
from uuid import uuid4
from xml.sax.saxutils import escape

import orjson

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
)
from sluice_simulator.dialects._aws import read_signature
from sluice_simulator.scenario import Behaviour, Rule

# code -> (status, text)
ERRORS: Mapping[str, tuple[int, str]] = {
    "InvalidParameter": (400, "Invalid parameter: PhoneNumber Reason: the number is not valid to publish to"),
    "InvalidMessage": (400, "Invalid parameter: Message too long"),
    "EmptyMessage": (400, "Invalid parameter: Empty message"),
    "InvalidAttribute": (400, "Invalid parameter: MessageAttributes Reason: an attribute has no valid value"),
    "InvalidSender": (400, "Invalid parameter: MessageAttributes Reason: AWS.SNS.SMS.SenderID is not valid"),
    "MissingParameter": (400, "The request must contain exactly one of TopicArn, TargetArn and PhoneNumber"),
    "MissingAction": (400, "The request is missing an action or a version"),
    "OptedOut": (400, "Phone number is opted out"),
    "Throttling": (400, "Rate exceeded"),
    "ThrottledException": (429, "Rate exceeded"),
    "AuthorizationError": (403, "The user is not authorized to perform: SNS:Publish"),
    "InvalidClientTokenId": (403, "The security token included in the request is invalid."),
    "SignatureDoesNotMatch": (403, "The request signature we calculated does not match the signature you provided."),
    "MissingAuthenticationToken": (403, "Missing Authentication Token"),
    "IncompleteSignature": (400, "The request signature does not conform to AWS standards."),
    "RequestExpired": (400, "The request is more than 15 minutes old."),
    "NotFound": (404, "Topic does not exist"),
    "InternalFailure": (500, "An internal error has occurred."),
    "ServiceUnavailable": (503, "The service is temporarily unavailable."),
}
SPELLINGS: Mapping[str, str] = {  # several errors have one code
    **dict.fromkeys(("InvalidMessage", "EmptyMessage", "InvalidAttribute", "InvalidSender"), "InvalidParameter"),
}
REFUSALS: Mapping[Behaviour, str] = {
    Behaviour.REJECT: "InvalidParameter",
    Behaviour.THROTTLE: "Throttling",
    Behaviour.AUTH: "InvalidClientTokenId",
    Behaviour.FAULT: "ServiceUnavailable",
}
# kind -> (status, providerResponse)
ENTRIES: Mapping[str, tuple[str, str]] = {
    "delivered": ("SUCCESS", "Message has been accepted by phone carrier"),
    "bounced": ("FAILURE", "Invalid phone number"),
    "soft_bounce": ("FAILURE", "Phone is currently unreachable/unavailable"),
    "failed": ("FAILURE", "Phone carrier has blocked this message"),
    "opt_out": ("FAILURE", "Phone number is opted out"),
}
NAMESPACE = "http://sns.amazonaws.com/doc/2010-03-31/"
_ATTRIBUTE = re.compile(r"MessageAttributes\.entry\.([1-9][0-9]?)\.(Name|Value\.DataType|Value\.StringValue)")
_SENDER_ID = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9-]{1,9}[A-Za-z0-9]")


def _xml(status: int, root: str, content: str, request_id: str) -> FakeResponse:
    body = f'<{root} xmlns="{NAMESPACE}">{content}</{root}>'
    return FakeResponse(status, body.encode(), (("Content-Type", "text/xml"), ("x-amzn-RequestId", request_id)))


def _error(name: str) -> FakeResponse:
    (status, words), request_id = ERRORS[name], str(uuid4())
    kind = "Receiver" if status >= 500 else "Sender"
    code = SPELLINGS.get(name, name)
    error = f"<Error><Type>{kind}</Type><Code>{code}</Code><Message>{escape(words)}</Message></Error>"
    return _xml(status, "ErrorResponse", f"{error}<RequestId>{request_id}</RequestId>", request_id)


def read(request: FakeRequest) -> ParsedSend | Refused | Answered:
    """A signed Publish, or SNS's refusal."""
    signer = read_signature(request, "sns")
    if isinstance(signer, str):
        return Refused(_error(signer))
    form = dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
    known = (request.path, form.get("Action"), form.get("Version")) == ("/", "Publish", "2010-03-31")
    problem = _problem(form) if known else "MissingAction"
    if problem:
        return Refused(_error(problem))
    return ParsedSend(
        recipient="+" + form["PhoneNumber"].removeprefix("+"),
        provider_message_id=str(uuid4()),
        account=signer.access_key_id,
        fields={"region": signer.region},
    )


def _problem(form: Mapping[str, str]) -> str | None:
    message = form.get("Message", "")
    checks = (
        (sum(name in form for name in ("PhoneNumber", "TopicArn", "TargetArn")) != 1, "MissingParameter"),
        ("PhoneNumber" not in form, "NotFound"),
        (not re.fullmatch(r"\+?[1-9][0-9]{1,14}", form.get("PhoneNumber", "")), "InvalidParameter"),
        (not message, "EmptyMessage"),
        (len(message) > 1600, "InvalidMessage"),
    )
    return next((name for wrong, name in checks if wrong), None) or _attribute_problem(form)


def _attribute_problem(form: Mapping[str, str]) -> str | None:
    """Every attribute is complete, they are numbered without a gap, and a sender ID has its form."""
    entries: dict[int, dict[str, str]] = {}
    for name, value in form.items():
        if found := _ATTRIBUTE.fullmatch(name):
            entries.setdefault(int(found[1]), {})[found[2]] = value
        elif name.startswith("MessageAttributes"):
            return "InvalidAttribute"
    for entry in entries.values():
        kind, text = entry.get("Value.DataType"), entry.get("Value.StringValue")
        if kind not in ("String", "Number") or not text or not entry.get("Name"):
            return "InvalidAttribute"
        if kind == "Number" and not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
            return "InvalidAttribute"
        if entry["Name"] == "AWS.SNS.SMS.SenderID" and not _SENDER_ID.fullmatch(text):
            return "InvalidSender"
    return None if sorted(entries) == list(range(1, len(entries) + 1)) else "InvalidAttribute"


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """SNS's response to a send."""
    if behaviour in REFUSALS:
        return _error(rule.code if rule.code and rule.code in ERRORS else REFUSALS[behaviour])
    request_id = str(uuid4())
    result = f"<PublishResult><MessageId>{send.provider_message_id}</MessageId></PublishResult>"
    metadata = f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
    return _xml(200, "PublishResponse", result + metadata, request_id)


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    send = context.send
    webhook = context.scenario.webhooks.get(send.account) or context.scenario.webhooks.get("*")
    if webhook is None or context.kind not in ENTRIES:
        return None
    status, words = ENTRIES[context.kind]
    entry = {
        "notification": {"messageId": send.provider_message_id, "timestamp": f"{context.at:%Y-%m-%d %H:%M:%S.000}"},
        "delivery": {
            "phoneCarrier": "Some Carrier",
            "mnc": 30,
            "mcc": 621,
            "numberOfMessageParts": 1,
            "destination": send.recipient,
            "priceInUSD": 0.03,
            "smsType": "Transactional",
            "providerResponse": words,
            "dwellTimeMs": 600,
        },
        "status": status,
    }
    event = {"id": context.receipt_id, "timestamp": 0, "message": orjson.dumps(entry).decode()}
    group = f"sns/{send.fields['region']}/123456789012/DirectPublishToPhoneNumber"
    batch = {"messageType": "DATA_MESSAGE", "logGroup": group, "logEvents": [event]}
    data = base64.b64encode(gzip.compress(orjson.dumps(batch), mtime=0)).decode()
    body = orjson.dumps({"awslogs": {"data": data}})
    return ReceiptPayload(context.receipt_id, webhook.url, "application/json", body, webhook.secret)


SNS = Dialect(
    name="sns",
    package="provider-sns",
    transport=TransportKind.HTTP,
    default_port=2594,
    read=read,
    respond=respond,
    receipts=ReceiptDialect(_write, in_url="token"),
)
