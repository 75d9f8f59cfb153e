"""Amazon SNS over HTTPS: an envelope that Amazon signs, around a message of the topic.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html. The signature alone proves little:
anyone can subscribe a topic of their own to any URL. Only topics that the account names are believed and confirmed.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from sluice.providers.contract import InvalidReceiptSignatureError, WebhookReply, WebhookRequest
from sluice.providers.kit.responses import json_object
from sluice.providers.kit.times import parse_iso_time

MAX_AGE = timedelta(hours=1)  # SNS repeats a message for at most an hour
MAX_SKEW = timedelta(minutes=5)  # of a time in the future
TOPIC_ARN = r"^arn:aws[a-z-]*:sns:[a-z0-9-]{3,30}:[0-9]{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?$"

# A suffix would also fit a bucket of anyone's under amazonaws.com.
_HOST = r"https://sns\.[a-zA-Z0-9-]{3,30}\.amazonaws\.com(?:\.cn)?"
_CERTIFICATE_URL = rf"{_HOST}/[A-Za-z0-9._-]{{1,200}}\.pem"
_CONFIRMATION_URL = rf"{_HOST}/\?[A-Za-z0-9%:=&._-]{{1,2000}}"
WEBHOOK_URLS = (_CERTIFICATE_URL, _CONFIRMATION_URL)
"""``Package.webhook_urls`` of a package that reads envelopes."""

_HASHES = {"1": SHA1, "2": SHA256}
_SIGNED_FIELDS = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}


@dataclass(frozen=True, slots=True)
class SnsNotification:
    """A message of a topic that the account names."""

    message_id: str  # the same in repeats
    message: str


def is_sns_request(request: WebhookRequest) -> bool:
    """Whether the request claims to come from SNS."""
    return "x-amz-sns-message-type" in request.headers


def open_envelope(
    request: WebhookRequest, topic_arns: Collection[str], fetched: Mapping[str, bytes], *, base_url: str | None = None
) -> SnsNotification | WebhookReply:
    """The notification in the envelope, or the reply that ``parse_webhook`` returns instead.

    That reply has no events. It asks for the signing certificate, or for the URL that confirms a subscription, or
    for nothing more. ``base_url``: where the account reaches AWS instead, for example an emulator; its certificates may
    be there as well.

    Raises:
        InvalidReceiptSignatureError: the envelope is not Amazon's, not of one of these topics, or too old.
    """
    envelope = json_object(request.body)
    kind = _text(envelope, "Type")
    _check_claims(request, envelope, topic_arns)
    certificate_url = _text(envelope, "SigningCertURL")
    _require(_is_at(certificate_url, _CERTIFICATE_URL, base_url), "the signing certificate is not at an address of SNS")
    if certificate_url not in fetched:
        return WebhookReply(fetch=certificate_url, cacheable=True)
    _verify(envelope, fetched[certificate_url])
    if kind == "Notification":
        return SnsNotification(_text(envelope, "MessageId"), _text(envelope, "Message"))
    if kind == "SubscriptionConfirmation":
        url = _text(envelope, "SubscribeURL")
        query = parse_qs(urlsplit(url).query)
        _require(_is_at(url, _CONFIRMATION_URL, base_url), "the subscription is not confirmed at an address of SNS")
        _require(query.get("Action") == ["ConfirmSubscription"], "the URL does not confirm a subscription")
        _require(query.get("TopicArn") == [_text(envelope, "TopicArn")], "the URL confirms another topic")
        if url not in fetched:
            return WebhookReply(fetch=url)
    return WebhookReply()  # confirmed; or unsubscribed, and the URL would subscribe again


def _is_at(url: str, pattern: str, base_url: str | None) -> bool:
    own = base_url is not None and url.startswith(base_url.rstrip("/") + "/")
    return own or re.fullmatch(pattern, url) is not None


def _check_claims(request: WebhookRequest, envelope: Mapping[str, Any], topic_arns: Collection[str]) -> None:
    """Everything that needs no certificate, so that a false request causes no call."""
    kind, sent_at = _text(envelope, "Type"), parse_iso_time(envelope.get("Timestamp"))
    _require(kind in _SIGNED_FIELDS, "the envelope is of no known type")
    _require(request.headers.get("x-amz-sns-message-type") == kind, "the header names another type")
    message_id = request.headers.get("x-amz-sns-message-id", _text(envelope, "MessageId"))
    _require(message_id == _text(envelope, "MessageId"), "the header names another message")
    _require(_text(envelope, "TopicArn") in topic_arns, "the account does not name this topic")
    _require(_text(envelope, "SignatureVersion") in _HASHES, "the signature is of no known version")
    _require(sent_at is not None, "the envelope has no time")
    assert sent_at is not None
    _require(-MAX_SKEW <= request.received_at - sent_at <= MAX_AGE, "the time is too far from now")


def _verify(envelope: Mapping[str, Any], certificate: bytes) -> None:
    """RSA over the signed fields, each as its name and its value on a line."""
    names = [name for name in _SIGNED_FIELDS[envelope["Type"]] if name != "Subject" or envelope.get(name) is not None]
    signed = "".join(f"{name}\n{_text(envelope, name)}\n" for name in names).encode()
    try:
        key = x509.load_pem_x509_certificate(certificate).public_key()
        signature = base64.b64decode(_text(envelope, "Signature"), validate=True)
        _require(isinstance(key, RSAPublicKey), "the certificate has no RSA key")
        assert isinstance(key, RSAPublicKey)
        key.verify(signature, signed, PKCS1v15(), _HASHES[envelope["SignatureVersion"]]())
    except (InvalidSignature, ValueError):  # ValueError: no certificate, or no base64
        raise InvalidReceiptSignatureError("the signature does not match") from None


def _text(envelope: Mapping[str, Any], name: str) -> str:
    value = envelope.get(name)
    if not isinstance(value, str):
        raise InvalidReceiptSignatureError(f"the envelope has no {name}")
    return value


def _require(condition: object, complaint: str) -> None:
    if not condition:
        raise InvalidReceiptSignatureError(complaint)
