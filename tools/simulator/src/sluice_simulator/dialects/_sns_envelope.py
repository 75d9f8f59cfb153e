"""Envelopes of Amazon SNS, signed with a key of the simulator. The secret is the topic that they name."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import NAMESPACE_OID, uuid5

import orjson
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from sluice_simulator.dialect import ReceiptPayload

CERTIFICATE = "/SimpleNotificationService-0123456789abcdef.pem"  # the path that the endpoint serves it at


def write_envelope(message: str, receipt_id: str, origin: str) -> bytes:
    """An envelope without its signature. ``origin``: where the certificate is served."""
    return orjson.dumps(
        {
            "Type": "Notification",
            "MessageId": str(uuid5(NAMESPACE_OID, receipt_id)),
            "Message": message,
            "SignatureVersion": "2",
            "SigningCertURL": origin + CERTIFICATE,
        }
    )


def other_key(topic: str) -> str:
    """The secret with which a notification of the same topic is signed with another key."""
    return f"{topic} other"


def sign_envelope(payload: ReceiptPayload, now: datetime) -> dict[str, str]:
    """The fields that are added to the envelope. A second word in the secret names another key."""
    topic, _, other = payload.secret.partition(" ")
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    envelope = {**orjson.loads(payload.body), "Timestamp": stamp, "TopicArn": topic}
    names = ("Message", "MessageId", "Timestamp", "TopicArn", "Type")
    text = "".join(f"{name}\n{envelope[name]}\n" for name in names)
    signature = base64.b64encode(_key(other).sign(text.encode(), PKCS1v15(), SHA256())).decode()
    return {"Timestamp": stamp, "TopicArn": topic, "Signature": signature}


def close_envelope(fields: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """Headers and body: the signature's fields are in the envelope."""
    headers = {"content-type": fields.pop("content-type"), "x-amz-sns-message-type": "Notification"}
    envelope = {**orjson.loads(body), **fields}
    return {**headers, "x-amz-sns-message-id": envelope["MessageId"]}, orjson.dumps(envelope)


@cache
def _key(name: str) -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@cache
def certificate() -> bytes:
    """The signing certificate, self-signed, in PEM."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    start = datetime(2025, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, _key("").public_key(), 1, start, start + timedelta(days=7300))
    return builder.sign(_key(""), SHA256()).public_bytes(Encoding.PEM)
