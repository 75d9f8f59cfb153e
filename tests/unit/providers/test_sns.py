"""provider-sns: the request and its signature, every error code, and the forwarded log entries with both proofs."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from pydantic import ValidationError

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
from sluice.providers.adapters.sns import SnsCredentials, build, classify, parse_webhook
from sluice.providers.contract import (
    DeliveryReceipt,
    InvalidReceiptSignatureError,
    OptOut,
    UnsupportedMessageError,
    WebhookReply,
    WebhookRequest,
)
from tests.unit.providers.examples import HIDDEN, NOON, Sample, a_receipt, an_email, an_sms, outbound
from tests.unit.providers.forgeries import Genuine, Parameter
from tests.unit.providers.sns_topic import CERTIFICATE_URL, CERTIFICATES, TOPIC, a_notification, signed_envelope

SAMPLE = Sample(
    {
        "accessKeyId": "AKIDEXAMPLE",
        "secretAccessKey": HIDDEN,
        "sessionToken": HIDDEN,
        "region": "eu-west-1",
        "senderId": "ACME",
        "webhookToken": HIDDEN,
    },
    webhook_secret=HIDDEN,
)
TOKEN = "token-0123456789abc"
FIELDS: dict[str, Any] = {
    "accessKeyId": "AKIDEXAMPLE",
    "secretAccessKey": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "region": "eu-west-1",
    "senderId": "ACME",
    "webhookToken": TOKEN,
    "topicArns": [TOPIC],
}
CREDENTIALS = SnsCredentials.model_validate(FIELDS)
ID = "567910cd-659e-55d4-8ccb-5aaf14679dc0"


def account(**changes: Any) -> SnsCredentials:
    return SnsCredentials.model_validate({**FIELDS, **changes})


def form_of(request: httpx.Request) -> dict[str, str]:
    return dict(parse_qsl(request.content.decode(), keep_blank_values=True, strict_parsing=True))


def attributes_of(request: httpx.Request) -> dict[str, tuple[str, str]]:
    form = form_of(request)
    count = sum(name.endswith(".Name") for name in form)
    return {
        form[f"MessageAttributes.entry.{n}.Name"]: (
            form[f"MessageAttributes.entry.{n}.Value.DataType"],
            form[f"MessageAttributes.entry.{n}.Value.StringValue"],
        )
        for n in range(1, count + 1)
    }


# Credentials and the request

VECTOR_BODY = (
    b"Action=Publish&Version=2010-03-31&PhoneNumber=%2B2348012345678&Message=Hello+%E2%82%A6+world"
    b"&MessageAttributes.entry.1.Name=AWS.SNS.SMS.SMSType&MessageAttributes.entry.1.Value.DataType=String"
    b"&MessageAttributes.entry.1.Value.StringValue=Transactional"
    b"&MessageAttributes.entry.2.Name=AWS.SNS.SMS.SenderID&MessageAttributes.entry.2.Value.DataType=String"
    b"&MessageAttributes.entry.2.Value.StringValue=ACME"
    b"&MessageAttributes.entry.3.Name=AWS.SNS.SMS.MaxPrice&MessageAttributes.entry.3.Value.DataType=Number"
    b"&MessageAttributes.entry.3.Value.StringValue=0.50"
)
AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-west-1/sns/aws4_request, SignedHeaders="


def vector_message() -> Any:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return outbound(an_sms(text="Hello ₦ world"), recipient="+2348012345678", attempted_at=at)


def test_the_request_and_signature_of_the_fact_sheet() -> None:
    request = build(vector_message(), account(maxPrice="0.50"))

    assert (request.method, str(request.url)) == ("POST", "https://sns.eu-west-1.amazonaws.com/")
    assert request.content == VECTOR_BODY
    assert request.headers["content-type"] == "application/x-www-form-urlencoded; charset=utf-8"
    assert request.headers["accept"] == "text/xml"  # asked for JSON, AWS may answer in JSON
    assert request.headers["x-amz-date"] == "20260102T030405Z"
    assert "x-amz-security-token" not in request.headers
    assert request.headers["authorization"] == (
        f"{AUTHORIZATION}content-type;host;x-amz-date, "
        "Signature=f9d64c91c1ef8fd75edb40837020ffd09bda48454ef9bb7d090475d00f8d2e9c"
    )


def test_the_signature_of_the_fact_sheet_with_a_session_token() -> None:
    request = build(vector_message(), account(maxPrice="0.50", sessionToken="TOKEN123"))

    assert request.headers["x-amz-security-token"] == "TOKEN123"
    assert request.headers["authorization"] == (
        f"{AUTHORIZATION}content-type;host;x-amz-date;x-amz-security-token, "
        "Signature=eb2967dd517cad9e24a77a2e6413d6ee39c2235b085eb8c8c75c154dd583eddb"
    )


def test_a_later_attempt_has_the_same_bytes_and_another_signature() -> None:
    first, later = (build(outbound(an_sms(), attempted_at=NOON + timedelta(seconds=n)), CREDENTIALS) for n in (0, 1))

    assert first.content == later.content
    assert first.headers["authorization"] != later.headers["authorization"]


def test_every_attribute_of_the_account() -> None:
    fields = {
        "originationNumber": "+15005550006",
        "smsType": "Promotional",
        "maxPrice": 0.1,
        "entityId": "1101456324",
        "templateId": "1107161234",
    }

    assert attributes_of(build(outbound(an_sms()), account(**fields))) == {
        "AWS.SNS.SMS.SMSType": ("String", "Promotional"),
        "AWS.SNS.SMS.SenderID": ("String", "ACME"),
        "AWS.SNS.SMS.MaxPrice": ("Number", "0.1"),
        "AWS.MM.SMS.OriginationNumber": ("String", "+15005550006"),
        "AWS.MM.SMS.EntityId": ("String", "1101456324"),
        "AWS.MM.SMS.TemplateId": ("String", "1107161234"),
    }


@pytest.mark.parametrize("price", ["0.0000001", "1E-7", Decimal("1E-7")])
def test_a_price_is_written_without_an_exponent(price: Any) -> None:
    attributes = attributes_of(build(outbound(an_sms()), account(maxPrice=price)))

    assert attributes["AWS.SNS.SMS.MaxPrice"] == ("Number", "0.0000001")


@pytest.mark.parametrize(
    ("fields", "sender", "expected"),
    [
        ({"senderId": None}, "+15005550006", {"AWS.MM.SMS.OriginationNumber": ("String", "+15005550006")}),
        ({"senderId": None}, "70707", {"AWS.MM.SMS.OriginationNumber": ("String", "70707")}),
        ({"senderId": None}, "Shop-24", {"AWS.SNS.SMS.SenderID": ("String", "Shop-24")}),
        ({"senderId": None}, "", {}),
        ({}, "Shop-24", {"AWS.SNS.SMS.SenderID": ("String", "ACME")}),
        (
            {"senderId": None, "originationNumber": "70707"},
            "Shop-24",
            {"AWS.MM.SMS.OriginationNumber": ("String", "70707")},
        ),
    ],
)
def test_the_sender_is_the_accounts_else_the_messages(fields: dict[str, Any], sender: str, expected: Any) -> None:
    attributes = attributes_of(build(outbound(an_sms(sender=sender)), account(**fields)))

    assert attributes == {"AWS.SNS.SMS.SMSType": ("String", "Transactional"), **expected}


@pytest.mark.parametrize("text", ["a" * 5000, "🙂" * 400, "\x00", "\r\n&=+%", "ń"])
def test_any_text_is_sent_as_it_is(text: str) -> None:
    assert form_of(build(outbound(an_sms(text=text)), CREDENTIALS))["Message"] == text


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"region": "us-east-1"}, "https://sns.us-east-1.amazonaws.com/"),
        ({"region": "us-gov-west-1"}, "https://sns.us-gov-west-1.amazonaws.com/"),
        ({"region": "cn-northwest-1"}, "https://sns.cn-northwest-1.amazonaws.com.cn/"),
        ({"region": "eusc-de-east-1"}, "https://sns.eusc-de-east-1.amazonaws.eu/"),
        ({"baseUrl": "http://127.0.0.1:5000"}, "http://127.0.0.1:5000/"),
        ({"baseUrl": "http://127.0.0.1:5000/"}, "http://127.0.0.1:5000/"),
    ],
)
def test_the_region_chooses_the_host(fields: dict[str, Any], url: str) -> None:
    assert str(build(outbound(an_sms()), account(**fields)).url) == url


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"accessKeyId": None}, "accessKeyId"),
        ({"accessKeyId": "A/B=C"}, "accessKeyId"),
        ({"secretAccessKey": None}, "secretAccessKey"),
        ({"sessionToken": "a\nb"}, "sessionToken"),
        ({"region": None}, "region"),
        ({"region": "evil.example/"}, "region"),
        ({"region": "Europe"}, "region"),
        ({"senderId": "AB"}, "senderId"),
        ({"senderId": "12345"}, "senderId"),
        ({"senderId": "-ACME"}, "senderId"),
        ({"senderId": "ACME-"}, "senderId"),
        ({"senderId": "AC ME"}, "senderId"),
        ({"senderId": "ABCDEFGHIJKL"}, "senderId"),
        ({"originationNumber": "1234"}, "originationNumber"),
        ({"originationNumber": "ACME"}, "originationNumber"),
        ({"smsType": "transactional"}, "smsType"),
        ({"maxPrice": 0}, "maxPrice"),
        ({"maxPrice": "NaN"}, "maxPrice"),
        ({"maxPrice": "cheap"}, "maxPrice"),
        ({"entityId": ""}, "entityId"),
        ({"templateId": "x" * 51}, "templateId"),
        ({"webhookToken": "short"}, "webhookToken"),
        ({"topicArns": ["arn:aws:sqs:eu-west-1:123456789012:x"]}, "topicArns"),
        ({"topicArns": "arn:aws:sns:eu-west-1:123456789012:x"}, "topicArns"),
        ({"successMeans": "read"}, "successMeans"),
        ({"baseUrl": "ftp://x"}, "baseUrl"),
        ({"from": "ACME"}, "from"),
    ],
)
def test_credentials_that_cannot_work_are_refused_by_their_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        account(**fields)


@pytest.mark.parametrize("message", [outbound(an_email()), outbound(an_sms(text="half \ud83d"))])
def test_what_it_cannot_send_is_refused(message: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        build(message, CREDENTIALS)


@pytest.mark.parametrize("sender", ["Acme Inc", "AB", "-x-", "ABCDEFGHIJKLM", "+1234567890123456"])
def test_a_sender_that_sns_has_no_field_for_is_refused(sender: str) -> None:
    with pytest.raises(UnsupportedMessageError, match="sender"):
        build(outbound(an_sms(sender=sender)), account(senderId=None))


# Responses

NAMESPACE = "http://sns.amazonaws.com/doc/2010-03-31/"


def accepted(message_id: str = ID, namespace: str = f' xmlns="{NAMESPACE}"') -> bytes:
    metadata = "<ResponseMetadata><RequestId>d74b8436</RequestId></ResponseMetadata>"
    result = f"<PublishResult><MessageId>{message_id}</MessageId></PublishResult>"
    return f"<PublishResponse{namespace}>{result}{metadata}</PublishResponse>".encode()


def error(code: str, words: str = "words", status: int = 400) -> httpx.Response:
    content = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{words}</Message></Error>"
    body = f'<ErrorResponse xmlns="{NAMESPACE}">{content}<RequestId>1</RequestId></ErrorResponse>'
    return httpx.Response(status, text=body)


@pytest.mark.parametrize("namespace", [f' xmlns="{NAMESPACE}"', "", ' xmlns="http://other/"'])
def test_a_200_with_a_message_id_is_accepted_and_the_id_leads_the_receipts_here(namespace: str) -> None:
    assert classify(httpx.Response(200, content=accepted(namespace=namespace))) == Accepted(ID, (ID,))


@pytest.mark.parametrize(
    "response",
    [
        *[httpx.Response(200, content=content) for content in (b"", b"<html>", b"<html/>", b"{}", accepted("")[:-5])],
        *[httpx.Response(200, content=accepted(odd)) for odd in ("", " ", "a b", "<x/>", "é", "x" * 300)],
        httpx.Response(200, content=accepted().replace(b"PublishResult>", b"OtherResult>")),
        httpx.Response(200, content=b"<x>" + accepted() + b"</x>"),
        httpx.Response(200, content=b'<!DOCTYPE x [<!ENTITY e "1">]>' + accepted("&e;")),
        httpx.Response(200, content=b"<a>" * 20_000),
        httpx.Response(200, content=b'<?xml version="1.0" encoding="none-such"?>' + accepted()),
        httpx.Response(200, json={"PublishResponse": {"PublishResult": {"MessageId": ID}}}),
        *[httpx.Response(status, content=accepted()) for status in (201, 202, 302, 500)],
        error("Throttling", status=200),  # a 2xx is no refusal
    ],
)
def test_what_is_not_the_documented_success_is_unknown(response: httpx.Response) -> None:
    assert isinstance(classify(response), Unknown)


MALFORMED = Declined(Reason.INVALID_CONTENT)
CODES: dict[str, Refusal] = {
    **dict.fromkeys(
        [
            *("Validation", "ValidationError", "InvalidParameterCombination", "InvalidQueryParameter"),
            *("MissingParameter", "MissingAction", "MalformedQueryString", "InvalidAction"),
        ],
        MALFORMED,
    ),
    "OptedOut": RecipientRejected(Reason.UNSUBSCRIBED),
    **dict.fromkeys(
        [
            *("UserError", "AuthorizationError", "AccessDenied", "NotAuthorized", "InvalidClientTokenId"),
            *("SignatureDoesNotMatch", "MissingAuthenticationToken", "InvalidSecurity", "IncompleteSignature"),
            *("ExpiredToken", "RequestExpired", "OptInRequired", "NotFound", "EndpointDisabled"),
            *("PlatformApplicationDisabled", "KMSAccessDenied", "KMSDisabled", "KMSInvalidState", "KMSNotFound"),
            "KMSOptInRequired",
        ],
        AuthFailed(),
    ),
    **dict.fromkeys(
        [
            *("KMSThrottling", "Throttling", "Throttled", "RequestThrottled", "TooManyRequests"),
            *("RequestLimitExceeded", "BandwidthLimitExceeded", "LimitExceeded", "SlowDown"),
        ],
        Throttled(),
    ),
    "InternalError": Unknown(),
    "InternalFailure": Unknown(),
    "ServiceUnavailable": ProviderFault(),
}


@pytest.mark.parametrize("ending", ["", "Exception"])
@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
@pytest.mark.parametrize(("code", "expected"), CODES.items())
def test_the_code_decides_whatever_the_status(code: str, expected: Refusal, status: int, ending: str) -> None:
    assert classify(error(code + ending, status=status)) == replace(expected, detail=f"{status} {code} words")


OUR_ATTRIBUTE = Declined(Reason.INVALID_CONTENT, scope=Scope.ACCOUNT)


@pytest.mark.parametrize("code", ["InvalidParameter", "InvalidParameterValue", "ParameterValueInvalid"])
@pytest.mark.parametrize("ending", ["", "Exception"])
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "Invalid parameter: PhoneNumber Reason: +1 is not valid to publish to",
            RecipientRejected(Reason.INVALID_ADDRESS),
        ),
        ("Invalid phone number", RecipientRejected(Reason.INVALID_ADDRESS)),
        ("Invalid parameter: Message too long", Declined(Reason.TOO_LARGE)),
        ("SMS message must be less than 1600 bytes", Declined(Reason.TOO_LARGE)),
        ("Invalid parameter: Empty message", MALFORMED),
        ("Invalid parameter: MessageAttributes Reason: AWS.SNS.SMS.SenderID is bad", Declined(Reason.SENDER)),
        ("Invalid parameter: AWS.MM.SMS.OriginationNumber", Declined(Reason.SENDER)),
        ("The origination phone number is not yours", Declined(Reason.SENDER)),
        ("Invalid parameter: MessageAttributes Reason: x", OUR_ATTRIBUTE),
        ("The message attribute 'AWS.SNS.SMS.MaxPrice' is bad", OUR_ATTRIBUTE),
        ("AWS.MM.SMS.EntityId is unknown", OUR_ATTRIBUTE),
        ("Something else", MALFORMED),
        ("", MALFORMED),
    ],
)
def test_an_invalid_value_is_the_recipients_the_messages_or_the_accounts(
    code: str, ending: str, words: str, expected: Refusal
) -> None:
    assert classify(error(code + ending, words)) == replace(expected, detail=f"400 {code} {words}")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *[(400, Declined), (401, AuthFailed), (403, AuthFailed), (404, AuthFailed), (429, Throttled)],
        *[(500, Unknown), (502, Unknown), (503, ProviderFault), (504, Unknown), (302, Unknown), (418, Unknown)],
    ],
)
@pytest.mark.parametrize(
    "response",
    [httpx.Response(0, text=text) for text in ("", "<h1>words", "{}", "words")] + [error("NeverSeen"), error("")],
)
def test_without_a_known_code_the_status_decides(status: int, outcome: type[Outcome], response: httpx.Response) -> None:
    assert type(classify(httpx.Response(status, content=response.content))) is outcome


def test_a_retry_after_is_used_where_there_is_one() -> None:
    response = error("Throttling", "Rate exceeded")
    response.headers["retry-after"] = "7"

    assert classify(response) == Throttled("400 Throttling Rate exceeded", timedelta(seconds=7))


# Receipts

URL = "https://hooks.example.test/v1/receipts/prv_1"


def entry(words: str = "Message has been accepted by phone carrier", status: str = "SUCCESS", **delivery: Any) -> Any:
    return {
        "notification": {"messageId": ID, "timestamp": "2026-01-02 03:04:06.012"},
        "delivery": {
            "phoneCarrier": "Some Carrier",
            "destination": "+2348012345678",
            "providerResponse": words,
            "dwellTimeMs": 600,
            **delivery,
        },
        "status": status,
    }


def with_token(request: WebhookRequest, key: str) -> WebhookRequest:
    return replace(request, url=f"{URL}?token={key}")


GENUINE = [
    Genuine(
        a_receipt(URL, {}, json.dumps(entry()).encode()),
        Parameter("token"),
        with_token,
        key=TOKEN,
        other_key=TOKEN + "x",
        secret="webhookToken",
        covers_body=False,
    ),
    a_notification(URL, json.dumps(entry()), webhookToken=None),
]


def packed(batch: Any) -> dict[str, Any]:
    return {"awslogs": {"data": base64.b64encode(gzip.compress(json.dumps(batch).encode())).decode()}}


def batch_of(*entries: Any, kind: str = "DATA_MESSAGE") -> dict[str, Any]:
    messages = [{"id": str(n), "timestamp": 1, "message": json.dumps(one)} for n, one in enumerate(entries)]
    return {"messageType": kind, "logGroup": "sns/eu-west-1/1/DirectPublishToPhoneNumber", "logEvents": messages}


def reply_to(body: Any, **changes: Any) -> WebhookReply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_webhook(a_receipt(f"{URL}?token={TOKEN}", {}, content), account(**changes), {})


def receipt_of(body: Any, **changes: Any) -> DeliveryReceipt:
    (receipt,) = reply_to(body, **changes).receipts
    return receipt


def test_an_entry_is_understood() -> None:
    one = entry("Phone is currently unreachable/unavailable", "FAILURE", dwellTimeMsUntilDeviceAck=4200)

    assert receipt_of(one) == DeliveryReceipt(
        receipt_id=f"{ID}:FAILURE",
        type=EventType.SOFT_BOUNCE,
        provider_message_id=ID,
        recipient="+2348012345678",
        occurred_at=datetime(2026, 1, 2, 3, 4, 10, 212000, tzinfo=UTC),  # sent at, and 4.2 s
        reason=Reason.UNREACHABLE,
        detail="Phone is currently unreachable/unavailable",
        payload=json.dumps(one, separators=(",", ":")).encode(),
    )


@pytest.mark.parametrize(
    ("words", "kind", "reason"),
    [
        ("Invalid phone number", EventType.BOUNCED, Reason.INVALID_ADDRESS),
        ("Phone has blocked SMS", EventType.BOUNCED, Reason.BLOCKED),
        ("Phone is on a blocked list", EventType.BOUNCED, Reason.BLOCKED),
        ("Phone is blacklisted", EventType.BOUNCED, Reason.BLOCKED),
        ("Destination is on a blocked list", EventType.BOUNCED, Reason.BLOCKED),
        ("Destination is blacklisted", EventType.BOUNCED, Reason.BLOCKED),
        ("Phone carrier has blocked this message", EventType.FAILED, Reason.BLOCKED),
        ("Blocked as spam by phone carrier", EventType.FAILED, Reason.SPAM),
        ("Message body is invalid", EventType.FAILED, Reason.INVALID_CONTENT),
        ("Phone is currently unreachable/unavailable", EventType.SOFT_BOUNCE, Reason.UNREACHABLE),
        ("Phone carrier is currently unreachable/unavailable", EventType.SOFT_BOUNCE, Reason.NETWORK),
        ("This delivery would exceed max price", EventType.FAILED, Reason.QUOTA),
        ("Unknown error attempting to reach phone", EventType.FAILED, Reason.NETWORK),
        ("No quota left for account", EventType.FAILED, Reason.QUOTA),
        (
            "Your account requires additional review prior to being able to send SMS messages. Please contact us.",
            EventType.FAILED,
            Reason.CREDENTIALS,
        ),
        ("Something new", EventType.FAILED, Reason.OTHER),
        ("", EventType.FAILED, Reason.OTHER),
    ],
)
@pytest.mark.parametrize("change", [str, str.upper, lambda words: words + ", sorry"])
def test_every_word_of_a_failure(words: str, kind: EventType, reason: Reason, change: Any) -> None:
    receipt = receipt_of(entry(change(words), "FAILURE"))

    assert (receipt.type, receipt.reason) == (kind, reason)


def test_an_opt_out_is_stored_beside_the_bounce() -> None:
    receipt, opt_out = reply_to(entry("Phone number is opted out", "FAILURE")).events

    assert isinstance(receipt, DeliveryReceipt)
    assert (receipt.type, receipt.reason) == (EventType.BOUNCED, Reason.UNSUBSCRIBED)
    assert opt_out == OptOut("+2348012345678")


@pytest.mark.parametrize(
    ("means", "one", "kind"),
    [
        ("delivered", entry(), EventType.DELIVERED),
        ("sent", entry(), EventType.SENT),
        ("sent", entry(dwellTimeMsUntilDeviceAck=4200), EventType.DELIVERED),
        ("sent", entry("Message has been delivered"), EventType.DELIVERED),
    ],
)
def test_a_success_means_what_the_account_says(means: str, one: Any, kind: EventType) -> None:
    assert receipt_of(one, successMeans=means).type is kind


@pytest.mark.parametrize(
    "wrap",
    [
        lambda one: one,
        lambda one: [one],
        batch_of,
        lambda one: packed(batch_of(one)),
        lambda one: {"logEvents": [{"message": one}]},  # decoded once more
    ],
)
def test_every_form_of_a_forwarded_log(wrap: Any) -> None:
    assert receipt_of(wrap(entry())).type is EventType.DELIVERED


def test_a_batch_is_read_whole_and_an_odd_entry_harms_no_other() -> None:
    other = {**entry("Invalid phone number", "FAILURE")}
    odd = [
        7,
        None,
        {},
        "x",
        {**entry(), "notification": None},
        {**entry(), "delivery": []},
        {**entry(), "status": "NEW"},
    ]
    odd += [{**entry(), "notification": {"messageId": one}} for one in (None, "", "a b", 7)]

    found = reply_to(packed(batch_of(entry(), *odd, other))).receipts

    assert [one.type for one in found] == [EventType.DELIVERED, EventType.BOUNCED]


@pytest.mark.parametrize(
    ("delivery", "timestamp", "at"),
    [
        ({"dwellTimeMs": None}, "2026-01-02 03:04:06.012", datetime(2026, 1, 2, 3, 4, 6, 12000, tzinfo=UTC)),
        ({"dwellTimeMs": "600"}, "2026-01-02 03:04:06", datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)),
        ({"dwellTimeMs": 10**30}, "2026-01-02 03:04:06", datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)),
        ({"dwellTimeMs": -5}, "2026-01-02 03:04:06", datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC)),
        ({}, "soon", None),
        ({}, None, None),
    ],
)
def test_odd_times_never_stop_a_receipt(delivery: dict[str, Any], timestamp: Any, at: datetime | None) -> None:
    one = entry(**delivery)
    one["notification"]["timestamp"] = timestamp

    assert receipt_of(one).occurred_at == at


@pytest.mark.parametrize(
    "body",
    [
        *[b"", b"not json", b"\xff\xfe", b"7", b"null", b"[]", b"{}", {"awslogs": 7}, {"awslogs": {}}],
        *[{"awslogs": {"data": one}} for one in (None, 7, "", "!", "é", base64.b64encode(b"plain").decode())],
        {"awslogs": {"data": packed(batch_of(entry()))["awslogs"]["data"][:-20]}},  # cut short
        packed(batch_of(entry(), kind="CONTROL_MESSAGE")),
        batch_of(entry(), kind="CONTROL_MESSAGE"),
        {"logEvents": 7},
        {"logEvents": [7, {}, {"message": "not json"}, {"message": "half \ud83d"}]},
    ],
)
def test_a_body_without_an_entry_is_no_event(body: Any) -> None:
    assert list(reply_to(body).events) == []


def test_a_compressed_bomb_is_refused_and_not_unpacked() -> None:
    bomb = base64.b64encode(gzip.compress(b" " * 50_000_000)).decode()

    reply = reply_to({"awslogs": {"data": bomb}})

    assert not reply.events
    assert reply.answer is not None
    assert reply.answer.status == 413


# Through a topic


def topic_reply(body: dict[str, Any], fetched: dict[str, bytes], **changes: Any) -> WebhookReply:
    request = signed_envelope(a_receipt(URL, {}, json.dumps(body).encode()))
    return parse_webhook(request, account(webhookToken=None, **changes), fetched)


def test_an_entry_arrives_through_a_topic() -> None:
    notification = {"Type": "Notification", "Message": json.dumps(entry())}

    asked = topic_reply(notification, {})
    (receipt,) = topic_reply(notification, dict(CERTIFICATES)).receipts

    assert (asked.fetch, asked.cacheable, list(asked.events)) == (CERTIFICATE_URL, True, [])
    assert receipt.type is EventType.DELIVERED


def test_another_topic_is_not_believed() -> None:
    with pytest.raises(InvalidReceiptSignatureError, match="topic"):
        topic_reply({"Type": "Notification", "Message": "{}"}, dict(CERTIFICATES), topicArns=[TOPIC + "2"])


def test_a_token_does_not_stand_in_for_an_envelope() -> None:
    request = a_receipt(f"{URL}?token={TOKEN}", {"x-amz-sns-message-type": "Notification"}, b"{}")

    with pytest.raises(InvalidReceiptSignatureError):
        parse_webhook(request, CREDENTIALS, {})
