"""provider-ses: parts and MIME, every row of the error table, and every event in its envelope."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from typing import Any

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from sluice.model.address import InvalidAddressError
from sluice.model.outcome import Accepted, AuthFailed, Declined, Outcome, ProviderFault, Throttled, Unknown
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.adapters.ses import SesCredentials, build, classify, parse_webhook
from sluice.providers.contract import (
    DeliveryReceipt,
    InvalidReceiptSignatureError,
    UnsupportedMessageError,
    WebhookReply,
)
from sluice.providers.kit.responses import MAX_RETRY_AFTER
from sluice.providers.kit.sigv4 import AwsKey, sign_v4
from tests.unit.providers.examples import HIDDEN, NOON, Sample, a_receipt, an_attachment, an_email, an_sms, outbound
from tests.unit.providers.sns_topic import (
    CERTIFICATE_URL,
    CERTIFICATES,
    CONFIRMATION_URL,
    TOPIC,
    a_confirmation,
    a_notification,
    signed_envelope,
)

ACCOUNT = {"accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "secret", "region": "eu-west-1", "topicArns": [TOPIC]}
CREDENTIALS = SesCredentials.model_validate({**ACCOUNT, "configurationSetName": "events"})
SAMPLE = Sample(
    {
        **ACCOUNT,
        "secretAccessKey": HIDDEN,
        "sessionToken": HIDDEN + "t",
        "configurationSetName": "events",
        "identityArn": "arn:aws:ses:eu-west-1:123456789012:identity/example.com",
        "tenantName": "acme",
    },
    webhook_secret=TOPIC,
)
URL = "https://hooks.example.test/v1/receipts/prv_1"
TAGS = [{"Name": "ref", "Value": "att_01HX"}, {"Name": "msg", "Value": "msg_01HX"}]


def account(**changes: Any) -> SesCredentials:
    return SesCredentials.model_validate({**ACCOUNT, **changes})


def body_of(request: httpx.Request) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(request.content)
    return parsed


def utf8(text: str) -> dict[str, str]:
    return {"Data": text, "Charset": "UTF-8"}


# The request


def test_a_mail_without_files_is_sent_as_parts() -> None:
    mail = an_email(
        sender="Zoë <no-reply@example.com>",
        to=('"Doe, Ana" <ana@example.org>', "ben@bücher.example"),
        cc=("c@example.org",),
        bcc=("d@example.org",),
        reply_to="Help <help@example.com>",
        subject="Grüße 🙂",
        html="<p>hi</p>",
    )

    assert body_of(build(outbound(mail), CREDENTIALS)) == {
        "FromEmailAddress": "=?utf-8?b?Wm/Dqw==?= <no-reply@example.com>",
        "Destination": {
            "ToAddresses": ['"Doe, Ana" <ana@example.org>', "ben@xn--bcher-kva.example"],
            "CcAddresses": ["c@example.org"],
            "BccAddresses": ["d@example.org"],
        },
        "ReplyToAddresses": ["Help <help@example.com>"],
        "Content": {
            "Simple": {
                "Subject": utf8("Grüße 🙂"),
                "Body": {"Text": utf8("hi"), "Html": utf8("<p>hi</p>")},
                "Headers": [
                    {"Name": "X-Sluice-Message-Id", "Value": "msg_01HX"},
                    {"Name": "Auto-Submitted", "Value": "auto-generated"},
                ],
            }
        },
        "EmailTags": TAGS,
        "ConfigurationSetName": "events",
    }


def test_what_is_absent_or_empty_is_omitted() -> None:
    body = body_of(build(outbound(an_email(text="", html="<p>hi</p>")), account()))

    assert set(body) == {"FromEmailAddress", "Destination", "Content", "EmailTags"}
    assert set(body["Destination"]) == {"ToAddresses"}
    assert body["Content"]["Simple"]["Body"] == {"Html": utf8("<p>hi</p>")}


def test_a_mail_with_files_is_sent_as_mime() -> None:
    logo = an_attachment(b"logo", filename="Ü.png", content_type="image/png", content_id="logo")
    mail = an_email(
        to=("Ana <ana@example.org>",),
        cc=("c@example.org",),
        bcc=("Ben <ben@bücher.example>",),
        html='<img src="cid:logo">',
        attachments=(logo,),
    )

    body = body_of(build(outbound(mail, attachments={logo.sha256: b"logo"}), CREDENTIALS))

    assert set(body) == {"Destination", "Content", "EmailTags", "ConfigurationSetName"}
    assert body["Destination"] == {
        "ToAddresses": ["ana@example.org"],
        "CcAddresses": ["c@example.org"],
        "BccAddresses": ["ben@xn--bcher-kva.example"],
    }
    read = message_from_bytes(base64.b64decode(body["Content"]["Raw"]["Data"]), policy=policy.default)
    assert (read["From"], read["To"], read["Cc"]) == (
        "Acme <no-reply@example.com>",
        "Ana <ana@example.org>",
        "c@example.org",
    )
    assert read["Bcc"] is None
    assert read["X-Sluice-Message-Id"] == "msg_01HX"
    assert "Ü.png" in [part.get_filename() for part in read.walk()]


def test_the_accounts_own_options_are_sent() -> None:
    identity = "arn:aws:ses:eu-west-1:123456789012:identity/example.com"

    body = body_of(build(outbound(an_email()), account(identityArn=identity, tenantName="acme")))

    assert (body["FromEmailAddressIdentityArn"], body["TenantName"]) == (identity, "acme")


def test_it_is_signed_for_the_region() -> None:
    request = build(outbound(an_email()), account(sessionToken="token"))

    assert (request.method, str(request.url)) == (
        "POST",
        "https://email.eu-west-1.amazonaws.com/v2/email/outbound-emails",
    )
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-amz-date"] == "20260504T120000Z"
    assert request.headers["x-amz-security-token"] == "token"
    assert request.headers["authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260504/eu-west-1/ses/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="
    )


def test_the_golden_vector_of_the_signature() -> None:
    """Calculated by botocore for the provider sheet."""
    content = (
        b'{"FromEmailAddress":"no-reply@example.com","Destination":{"ToAddresses":["ana@example.org"]},"Content":{"Simple":'
        b'{"Subject":{"Data":"Hi","Charset":"UTF-8"},"Body":{"Text":{"Data":"Hello","Charset":"UTF-8"}}}}}'
    )
    key = AwsKey("AKIDEXAMPLE", SecretStr("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))
    url, at = httpx.URL("https://email.eu-west-1.amazonaws.com/v2/email/outbound-emails"), datetime(2025, 1, 1, 0, 0, 5)

    signed = sign_v4(url, content, "application/json", key, service="ses", region="eu-west-1", at=at)

    assert signed["authorization"].endswith("=41b9ac997f096532bd5e0034536f94b6a08c787d51266f1a391ecf2bff4f208c")


def test_a_repeat_has_the_same_body() -> None:
    first = build(outbound(an_email()), CREDENTIALS)
    second = build(outbound(an_email(), attempted_at=NOON.replace(hour=13)), CREDENTIALS)

    assert first.content == second.content
    assert first.headers["authorization"] != second.headers["authorization"]


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({"region": "us-east-1"}, "https://email.us-east-1.amazonaws.com"),
        ({"region": "us-gov-west-1"}, "https://email.us-gov-west-1.amazonaws.com"),
        ({"region": "cn-north-1"}, "https://email.cn-north-1.amazonaws.com.cn"),
        ({"baseUrl": "https://email-fips.us-east-1.amazonaws.com"}, "https://email-fips.us-east-1.amazonaws.com"),
        ({"baseUrl": "http://127.0.0.1:9/"}, "http://127.0.0.1:9"),
    ],
)
def test_the_address_is_that_of_the_region_or_a_configured_one(fields: dict[str, str], host: str) -> None:
    request = build(outbound(an_email()), account(**fields))

    assert str(request.url) == f"{host}/v2/email/outbound-emails"


FILE = an_attachment(b"x")


@pytest.mark.parametrize(
    "content",
    [
        an_sms(),
        *[an_email(to=("jörg@example.org",), attachments=files) for files in ((), (FILE,))],
        *[an_email(bcc=("аня@example.org",), attachments=files) for files in ((), (FILE,))],
        *[an_email(sender="jörg@example.com", attachments=files) for files in ((), (FILE,))],
        *[an_email(reply_to="jörg@example.com", attachments=files) for files in ((), (FILE,))],
        *[an_email(text=None, attachments=files) for files in ((), (FILE,))],
        *[an_email(text="half \ud800", attachments=files) for files in ((), (FILE,))],
        *[an_email(subject="half \udfff", attachments=files) for files in ((), (FILE,))],
        an_email(attachments=(an_attachment(b"x", content_type="no type"),)),
    ],
)
def test_what_it_cannot_carry_is_refused(content: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        build(outbound(content, attachments={FILE.sha256: b"x"}), CREDENTIALS)


@pytest.mark.parametrize("files", [(), (FILE,)])
def test_an_invalid_address_is_refused(files: Any) -> None:
    message = outbound(an_email(to=("ana\r\n@example.org",), attachments=files), attachments={FILE.sha256: b"x"})

    with pytest.raises(InvalidAddressError):
        build(message, CREDENTIALS)


def test_an_id_that_is_no_tag_is_refused() -> None:
    with pytest.raises(UnsupportedMessageError):
        build(outbound(an_email(), reference="att 1"), CREDENTIALS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("accessKeyId", key) for key in ("", "a b", "AKID/EXAMPLE", "AKID\n")],
        *[("secretAccessKey", key) for key in ("", " ")],
        *[("sessionToken", token) for token in ("", "a b", "a\r\nb")],
        *[("region", region) for region in ("", "EU", "eu-west", "eu-west-1.evil.test", "eu-west-1/", "eu west 1")],
        *[("configurationSetName", name) for name in ("", "a b", "x" * 65)],
        *[("identityArn", arn) for arn in ("", "example.com", "arn:aws:sns:eu-west-1:123456789012:identity/x")],
        *[("tenantName", name) for name in ("", "a b")],
        *[("baseUrl", url) for url in ("ftp://x", "http://user:pw@x", "http://x/?a=b", "//x")],
    ],
)
def test_a_wrong_credential_is_refused_by_name(field: str, value: str) -> None:
    with pytest.raises(ValidationError) as refused:
        account(**{field: value})

    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


# Responses

ID = "0102018c0f3a5b7c-1b2c3d4e-5f60-4a7b-8c9d-0e1f2a3b4c5d-000000"


def test_a_200_with_a_message_id_is_accepted() -> None:
    assert classify(httpx.Response(200, json={"MessageId": ID})) == Accepted(ID, receipt_ids=(ID,))


def error(status: int, code: str, words: str = "words") -> httpx.Response:
    return httpx.Response(status, json={"message": words}, headers={"x-amzn-ErrorType": code})


INVALID, SENDER, LARGE = (Declined(reason) for reason in (Reason.INVALID_CONTENT, Reason.SENDER, Reason.TOO_LARGE))
ADDRESS, QUOTA = Declined(Reason.INVALID_ADDRESS), Throttled(retry_after=MAX_RETRY_AFTER)
ROWS: list[tuple[int, str, str, Outcome]] = [
    (429, "TooManyRequestsException", "Maximum sending rate exceeded.", Throttled()),
    (429, "TooManyRequestsException", "Daily message quota exceeded.", QUOTA),
    (400, "ThrottlingException", "Maximum sending rate exceeded.", Throttled()),
    (400, "Throttling", "Daily message quota exceeded.", QUOTA),
    (400, "LimitExceededException", "too many instances", Throttled()),
    (400, "MessageRejected", "Email address is not verified. The following identities failed the check", SENDER),
    (400, "MessageRejected", "the content is not valid", INVALID),
    (400, "MailFromDomainNotVerifiedException", "not verified", SENDER),
    (400, "AccountSuspendedException", "suspended", AuthFailed()),
    (400, "SendingPausedException", "paused", AuthFailed()),
    *[
        (400, code, words, outcome)
        for code in ("BadRequestException", "InvalidParameterValue", "ValidationException")
        for words, outcome in (
            ("Local address contains control or whitespace", ADDRESS),
            ("Domain ends with dot", ADDRESS),
            ("Too many recipients.", LARGE),
            ("Configuration set <events> does not exist.", AuthFailed()),
            ("something else", INVALID),
        )
    ],
    (400, "SerializationException", "", INVALID),
    (404, "NotFoundException", "Configuration set does not exist", AuthFailed()),
    (403, "InvalidClientTokenId", "", AuthFailed()),
    (403, "UnrecognizedClientException", "The security token included in the request is invalid.", AuthFailed()),
    (403, "SignatureDoesNotMatch", "", AuthFailed()),
    (403, "InvalidSignatureException", "Signature expired", AuthFailed()),
    (403, "AccessDeniedException", "", AuthFailed()),
    (403, "AccessDenied", "", AuthFailed()),
    (403, "NotAuthorized", "", AuthFailed()),
    (403, "ExpiredToken", "", AuthFailed()),
    (403, "ExpiredTokenException", "", AuthFailed()),
    (400, "RequestExpired", "", AuthFailed()),
    (400, "IncompleteSignature", "", AuthFailed()),
    (400, "MissingAuthenticationToken", "", AuthFailed()),
    (400, "OptInRequired", "", AuthFailed()),
    (413, "RequestEntityTooLarge", "", LARGE),
    (500, "InternalFailure", "", ProviderFault()),
    (500, "InternalServiceErrorException", "", ProviderFault()),
    (503, "ServiceUnavailable", "", ProviderFault()),
    # unknown codes
    (400, "SomethingNew", "", INVALID),
    (401, "SomethingNew", "", AuthFailed()),
    (403, "SomethingNew", "", AuthFailed()),
    (404, "SomethingNew", "", AuthFailed()),
    (413, "SomethingNew", "", LARGE),
    (429, "SomethingNew", "", Throttled()),
    *[(status, "SomethingNew", "", Unknown()) for status in (302, 418, 500, 502, 503, 504)],
]


@pytest.mark.parametrize(("status", "code", "words", "outcome"), ROWS)
def test_a_refusal_is_classified(status: int, code: str, words: str, outcome: Outcome) -> None:
    found = classify(error(status, code, words))

    assert not isinstance(found, Accepted)
    assert replace(found, detail="") == outcome
    assert found.detail.startswith(f"{status} {code.removesuffix('Exception')}")
    assert words in found.detail


@pytest.mark.parametrize(
    "response",
    [
        error(400, "SendingPausedException:http://internal.amazon.com/coral/com.amazonaws.sesv2/"),
        error(400, "com.amazonaws.sesv2#SendingPausedException"),
        error(400, "com.amazonaws.sesv2#SendingPausedException:http://x/"),
        *[httpx.Response(400, json={name: "SendingPausedException"}) for name in ("code", "Code", "__type")],
        httpx.Response(400, json={"__type": "com.amazonaws.sesv2#SendingPausedException", "Message": "words"}),
    ],
)
def test_the_code_is_found_wherever_aws_writes_it(response: httpx.Response) -> None:
    assert isinstance(classify(response), AuthFailed)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"message": "Maximum sending rate exceeded."}, Throttled()),
        ({"message": "Daily message quota exceeded."}, QUOTA),
        ({}, Throttled()),
    ],
)
def test_a_429_says_what_it_is_without_a_code(body: dict[str, str], outcome: Outcome) -> None:
    found = classify(httpx.Response(429, json=body))

    assert not isinstance(found, Accepted)
    assert replace(found, detail="") == outcome


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_fault_without_a_code_is_unknown(status: int) -> None:
    assert isinstance(classify(httpx.Response(status, text="<h1>x</h1>")), Unknown)


@pytest.mark.parametrize(
    "response",
    [
        *[httpx.Response(200, content=content) for content in (b"", b"{}", b"[]", b"null", b'"x"', b"{", b"\xff")],
        *[httpx.Response(200, json={"MessageId": one}) for one in ("", 7, None, "a b", "x" * 201)],
        httpx.Response(200, json={"messageId": ID}),
        httpx.Response(201, json={"MessageId": ID}),
        error(200, "SendingPausedException"),
    ],
)
def test_a_2xx_that_is_not_the_documented_one_is_unknown(response: httpx.Response) -> None:
    assert isinstance(classify(response), Unknown)


# Receipts

ANA = {"emailAddress": "ana@example.org"}
MAIL: dict[str, Any] = {
    "timestamp": "2026-05-04T11:59:00.000Z",
    "messageId": ID,
    "destination": ["ana@example.org"],
    "tags": {"ref": ["att_1"], "msg": ["msg_1"], "ses:configuration-set": ["events"]},
}
AT = "2026-05-04T11:59:04.000Z"


def event(kind: str, field: str, **details: Any) -> dict[str, Any]:
    return {"eventType": kind, "mail": MAIL, field: {"timestamp": AT, **details}}


DELIVERY = event("Delivery", "delivery", recipients=["ana@example.org"], smtpResponse="250 2.0.0 OK")
GENUINE = [a_notification(URL, json.dumps(DELIVERY))]


def reply_to(
    body: dict[str, Any], fetched: Any = CERTIFICATES, credentials: SesCredentials = CREDENTIALS
) -> WebhookReply:
    request = signed_envelope(a_receipt(URL, {"content-type": "text/plain; charset=UTF-8"}, json.dumps(body).encode()))
    return parse_webhook(request, credentials, fetched)


def receipts(message: Any) -> list[DeliveryReceipt]:
    text = message if isinstance(message, str) else json.dumps(message)
    return reply_to({"Type": "Notification", "Message": text}).receipts


def test_a_delivery_is_understood() -> None:
    assert receipts(DELIVERY) == [
        DeliveryReceipt(
            receipt_id="22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324:0",
            type=EventType.DELIVERED,
            reference="att_1",
            provider_message_id=ID,
            recipient="ana@example.org",
            occurred_at=datetime(2026, 5, 4, 11, 59, 4, tzinfo=UTC),
            detail="250 2.0.0 OK",
        )
    ]


NO_USER = {**ANA, "status": "5.1.1", "diagnosticCode": "smtp; 550 5.1.1 unknown user"}
FULL = {**ANA, "status": "5.2.2", "diagnosticCode": "smtp; 552 5.2.2 mailbox full"}


def bounce(kind: str, subtype: str, recipient: Any = ANA) -> dict[str, Any]:
    return event("Bounce", "bounce", bounceType=kind, bounceSubType=subtype, bouncedRecipients=[recipient])


def complaint(**details: Any) -> dict[str, Any]:
    return event("Complaint", "complaint", complainedRecipients=[ANA], **details)


EVENTS: list[tuple[dict[str, Any], EventType, Reason | None]] = [
    ({"eventType": "Send", "mail": MAIL, "send": {}}, EventType.SENT, None),
    (DELIVERY, EventType.DELIVERED, None),
    (event("DeliveryDelay", "deliveryDelay", delayedRecipients=[ANA]), EventType.DEFERRED, None),
    (bounce("Permanent", "General", NO_USER), EventType.BOUNCED, Reason.UNKNOWN_RECIPIENT),
    (bounce("Permanent", "General"), EventType.BOUNCED, Reason.OTHER),
    (bounce("Permanent", "General", {**ANA, "status": "5.6.0"}), EventType.BOUNCED, Reason.INVALID_CONTENT),
    (bounce("Permanent", "ContentRejected"), EventType.BOUNCED, Reason.SPAM),
    (bounce("Permanent", "NoEmail"), EventType.BOUNCED, Reason.UNKNOWN_RECIPIENT),
    (bounce("Permanent", "SomethingNew", {**ANA, "status": "5.2.1"}), EventType.BOUNCED, Reason.DISABLED),
    (bounce("Permanent", "Suppressed"), EventType.FAILED, Reason.BLOCKED),
    (bounce("Permanent", "OnAccountSuppressionList"), EventType.FAILED, Reason.BLOCKED),
    (bounce("Permanent", "UnsubscribedRecipient"), EventType.FAILED, Reason.UNSUBSCRIBED),
    (bounce("Transient", "General", FULL), EventType.SOFT_BOUNCE, Reason.FULL),
    (bounce("Transient", "General"), EventType.SOFT_BOUNCE, Reason.OTHER),
    (bounce("Transient", "MailboxFull"), EventType.SOFT_BOUNCE, Reason.FULL),
    (bounce("Transient", "MessageTooLarge"), EventType.SOFT_BOUNCE, Reason.TOO_LARGE),
    (bounce("Transient", "ContentRejected"), EventType.SOFT_BOUNCE, Reason.SPAM),
    (bounce("Transient", "AttachmentRejected"), EventType.SOFT_BOUNCE, Reason.POLICY),
    (bounce("Undetermined", "Undetermined"), EventType.SOFT_BOUNCE, Reason.OTHER),
    (bounce("SomethingNew", ""), EventType.SOFT_BOUNCE, Reason.OTHER),
    (complaint(), EventType.COMPLAINED, Reason.COMPLAINT),
    (complaint(complaintSubType=None, complaintFeedbackType="abuse"), EventType.COMPLAINED, Reason.COMPLAINT),
    (complaint(complaintSubType="OnAccountSuppressionList"), EventType.FAILED, Reason.COMPLAINT),
    ({"eventType": "Reject", "mail": MAIL, "reject": {"reason": "Bad content"}}, EventType.FAILED, Reason.POLICY),
    (
        {"eventType": "Rendering Failure", "mail": MAIL, "failure": {"errorMessage": "x"}},
        EventType.FAILED,
        Reason.INVALID_CONTENT,
    ),
    (event("Open", "open", ipAddress="198.51.100.7"), EventType.OPENED, None),
    (event("Click", "click", link="https://example.com/a"), EventType.CLICKED, None),
]


@pytest.mark.parametrize(("message", "type_", "reason"), EVENTS)
def test_every_event_has_its_type(message: dict[str, Any], type_: EventType, reason: Reason | None) -> None:
    (found,) = receipts(message)

    assert (found.type, found.reason) == (type_, reason)
    assert (found.reference, found.provider_message_id, found.recipient) == ("att_1", ID, "ana@example.org")
    assert found.occurred_at is not None


def test_the_older_notifications_are_understood() -> None:
    mail = {name: value for name, value in MAIL.items() if name != "tags"}
    old = {"notificationType": "Delivery", "mail": mail, "delivery": DELIVERY["delivery"]}

    (found,) = receipts(old)

    assert (found.type, found.reference, found.provider_message_id) == (EventType.DELIVERED, None, ID)


def test_an_event_about_several_recipients_is_a_receipt_for_each() -> None:
    ben = {"emailAddress": "ben@example.org", "status": "5.1.1"}

    found = receipts(event("Bounce", "bounce", bounceType="Permanent", bouncedRecipients=[{**FULL}, ben]))

    assert [(one.recipient, one.reason) for one in found] == [
        ("ana@example.org", Reason.FULL),
        ("ben@example.org", Reason.UNKNOWN_RECIPIENT),
    ]
    assert len({one.receipt_id for one in found}) == 2


def test_an_open_of_a_mail_to_several_names_none_of_them() -> None:
    several = {**MAIL, "destination": ["ana@example.org", "ben@example.org"]}

    (found,) = receipts({"eventType": "Open", "mail": several, "open": {"timestamp": AT}})

    assert found.recipient is None


@pytest.mark.parametrize(
    "message",
    [
        *[{"eventType": kind, "mail": MAIL} for kind in ("Subscription", "New", "", None, 7)],
        complaint(complaintFeedbackType="not-spam"),
        *["", "[]", "null", "{", "[" * 5000, '"x"'],
        "Successfully validated SNS topic for Amazon SES event publishing.",
    ],
)
def test_what_says_nothing_about_a_message_is_no_receipt(message: Any) -> None:
    assert receipts(message) == []


@pytest.mark.parametrize("odd", [None, [], "x", 7, {}])
def test_odd_parts_of_an_event_are_no_error(odd: Any) -> None:
    (first,) = receipts({"eventType": "Bounce", "mail": odd, "bounce": odd})
    (second,) = receipts({"eventType": "Delivery", "mail": {**MAIL, "tags": odd}, "delivery": {"recipients": [odd]}})

    assert (first.reference, first.provider_message_id) == (None, None)
    assert second.reference is None


def test_a_subscription_of_a_named_topic_is_confirmed() -> None:
    asked = reply_to(a_confirmation(), {})
    verified = reply_to(a_confirmation())
    confirmed = reply_to(a_confirmation(), {**CERTIFICATES, CONFIRMATION_URL: b"<ok/>"})

    assert (asked.fetch, verified.fetch, confirmed.fetch) == (CERTIFICATE_URL, CONFIRMATION_URL, None)
    assert not confirmed.events


def test_a_topic_that_the_account_does_not_name_is_not_believed() -> None:
    with pytest.raises(InvalidReceiptSignatureError, match="topic"):
        reply_to({"Type": "Notification", "Message": "{}"}, credentials=account(topicArns=[TOPIC + "2"]))


def test_without_a_topic_nothing_is_believed() -> None:
    with pytest.raises(InvalidReceiptSignatureError, match="topic"):
        reply_to({"Type": "Notification", "Message": "{}"}, credentials=account(topicArns=[]))


def test_no_address_is_in_the_detail() -> None:
    (found,) = receipts(bounce("Permanent", "General", {**ANA, "diagnosticCode": "550 <ana@example.org> unknown"}))

    assert found.detail == "Permanent General 550 <<address>> unknown"
