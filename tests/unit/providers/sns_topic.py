"""A topic of Amazon SNS with a certificate of its own: signed envelopes, and the forgeries of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from sluice.providers.contract import WebhookRequest
from tests.unit.providers.examples import NOON, a_receipt
from tests.unit.providers.forgeries import Forgery, Genuine, JsonField

TOPIC = "arn:aws:sns:eu-west-1:123456789012:sluice-receipts"
CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"
OTHER_CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-fedcba9876543210.pem"
ELLIPTIC_CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/Elliptic.pem"
NO_CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/None.pem"
CONFIRMATION_URL = f"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37"


FALSE_CERTIFICATE_URLS = (
    *(OTHER_CERTIFICATE_URL, ELLIPTIC_CERTIFICATE_URL, NO_CERTIFICATE_URL),
    *(CERTIFICATE_URL.replace("https", "http"), CERTIFICATE_URL.replace("sns.", "sqs."), CERTIFICATE_URL + "?x=1"),
    *(CERTIFICATE_URL.replace(".com/", ".com.evil.test/"), CERTIFICATE_URL.replace(".com/", ".com:8443/")),
    *("https://sns.eu-west-1.amazonaws.com@evil.test/x.pem", CERTIFICATE_URL + "#x", CERTIFICATE_URL + "\n"),
    *("https://bucket.s3.amazonaws.com/x.pem", "https://evil.test/?https://sns.eu-west-1.amazonaws.com/x.pem"),
    *("https://sns.eu-west-1.amazonaws.com/../x.pem", "file:///x.pem", "https://sns.evil.test/x.pem"),
    *(CERTIFICATE_URL.upper(), CERTIFICATE_URL.replace(".pem", ".txt"), f" {CERTIFICATE_URL}"),
)


def certificate_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(datetime(2025, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2045, 1, 1, tzinfo=UTC)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


KEYS = {name: rsa.generate_private_key(65537, 2048) for name in ("amazon", "other")}
CERTIFICATES: Mapping[str, bytes] = {
    CERTIFICATE_URL: certificate_of(KEYS["amazon"]),
    ELLIPTIC_CERTIFICATE_URL: certificate_of(ec.generate_private_key(ec.SECP256R1())),
    NO_CERTIFICATE_URL: b"<html>not found</html>",
}


def signed_envelope(request: WebhookRequest, key: str = "amazon", *, version: str = "2") -> WebhookRequest:
    """The request with its body as an envelope: missing fields are added, the others kept. Written from the recipe."""
    if not key:
        raise ValueError("no key")
    envelope: dict[str, Any] = {
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Timestamp": request.received_at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "SignatureVersion": version,
        "SigningCertURL": CERTIFICATE_URL,
        **json.loads(request.body),
    }
    kind = envelope["Type"]
    names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    if kind != "Notification":
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{envelope[name]}\n" for name in names if envelope.get(name) is not None)
    digest = hashes.SHA1() if envelope["SignatureVersion"] == "1" else hashes.SHA256()
    signature = KEYS[key].sign(text.encode(), padding.PKCS1v15(), digest)
    body = json.dumps({**envelope, "Signature": base64.b64encode(signature).decode()}).encode()
    headers = {"x-amz-sns-message-type": kind, "x-amz-sns-message-id": envelope["MessageId"]}
    return replace(request, headers={**request.headers, **headers}, body=body)


def a_confirmation(**changes: Any) -> dict[str, Any]:
    return {
        "Type": "SubscriptionConfirmation",
        "Message": "You have chosen to subscribe",
        "Token": "2336412f37",
        "SubscribeURL": CONFIRMATION_URL,
        **changes,
    }


def a_notification(url: str, message: str, **credentials: Any) -> Genuine:
    """A notification with this message, for the forgery matrix; the account has to name TOPIC."""
    body = json.dumps({"Type": "Notification", "Message": message}).encode()
    return Genuine(
        a_receipt(url, {"content-type": "text/plain; charset=UTF-8"}, body, at=NOON),
        JsonField("Signature"),
        signed_envelope,
        key="amazon",
        other_key="other",
        credentials={"topicArns": [TOPIC], **credentials},
        fetched=CERTIFICATES,
        covers_body=False,  # the signature covers fields: see _forged_envelopes
        lifetime=timedelta(hours=1),
        more=_forged_envelopes,
    )


def _forged_envelopes(signed: WebhookRequest) -> Iterator[Forgery]:
    envelope = json.loads(signed.body)

    def changed(**changes: Any) -> WebhookRequest:
        fields = {name: value for name, value in {**envelope, **changes}.items() if value is not None}
        return replace(signed, body=json.dumps(fields).encode())

    for name in ("Message", "MessageId", "Timestamp", "TopicArn", "Type", "SignatureVersion", "SigningCertURL"):
        yield f"no {name}", changed(**{name: None})
        yield f"an empty {name}", changed(**{name: ""})
        yield f"{name} is a number", changed(**{name: 7})
        yield f"{name} is a list", changed(**{name: [envelope[name]]})
    yield "another message", changed(Message="{}")
    yield "another id", changed(MessageId="22b80b92-fdea-4c2c-8f9d-000000000000")
    yield "a subject more", changed(Subject="x")
    yield "another topic", changed(TopicArn=TOPIC.replace("123456789012", "210987654321"))
    yield "another time", changed(Timestamp=(NOON - timedelta(seconds=1)).isoformat())
    yield "another type", changed(Type="UnsubscribeConfirmation", SubscribeURL=CONFIRMATION_URL, Token="t")
    for version in ("1", "3", "0", "2 ", "02"):
        yield f"version {version!r}", changed(SignatureVersion=version)
    for url in FALSE_CERTIFICATE_URLS:
        yield f"a certificate at {url!r}", changed(SigningCertURL=url)
    yield "the header names another type", _with(signed, "x-amz-sns-message-type", "SubscriptionConfirmation")
    yield "the header names another message", _with(signed, "x-amz-sns-message-id", "other")
    yield "without the header", replace(signed, headers={})
    yield "delivered raw", replace(signed, headers={"x-amz-sns-rawdelivery": "true"}, body=envelope["Message"].encode())
    for body in (b"", b"[]", b"{", b"\xff", b"hello"):
        yield f"the body {body!r}", replace(signed, body=body)


def _with(request: WebhookRequest, name: str, value: str) -> WebhookRequest:
    return replace(request, headers={**request.headers, name: value})
