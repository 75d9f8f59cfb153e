"""One account of every package at the simulator, with a message that it takes: for demonstrations and system tests."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from secrets import token_hex
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sluice.model.message import Channel
from sluice.providers.contract import TransportKind
from sluice_simulator.registry import DIALECTS
from sluice_simulator.scenario import Receipts, Webhook

SecretNamed = Callable[[str], str]
"""The value of a field, by ``package.field``: 16 to 100 ASCII letters and digits, a multiple of four, as base64 has."""

_TOPIC = "arn:aws:sns:eu-west-1:123456789012:sluice-receipts"
_SID = "AC" + "0" * 32
_NUMBER = "+15557654321"
_SMS: Mapping[str, Any] = {"channel": "sms", "from": "ACME", "text": "Your order A-17 is on its way."}
_EMAIL: Mapping[str, Any] = {
    "channel": "email",
    "from": "Shop <shop@example.com>",
    "subject": "Order A-17",
    "text": "Your order A-17 is on its way.",
}
_WHATSAPP: Mapping[str, Any] = {
    "channel": "whatsapp",
    "channel_options": {"template_name": "order_update", "template_language": "en_US", "template_params": ["Ann"]},
}


@dataclass(frozen=True, slots=True)
class Account:
    """An account of a package, and the request of a message through it.

    ``webhook_secret`` signs the receipts of providers whose dashboard holds it. ``delivers``: the receipts of the
    simulator move the message to ``DELIVERED``; else it ends ``SENT``. ``bounces``: the state after a receipt of an
    undeliverable message, empty for a provider without one.
    """

    package: str
    dialect: str
    request: Mapping[str, Any]
    credentials: Mapping[str, Any] = field(default_factory=dict)
    webhook_secret: str = ""
    delivers: bool = True
    bounces: str = "BOUNCED"

    @property
    def channel(self) -> Channel:
        """The channel of the message."""
        return Channel(self.request["channel"])

    @property
    def transport(self) -> TransportKind:
        """How the endpoint is reached."""
        return DIALECTS[self.dialect].transport

    @property
    def ends(self) -> str:
        """The state of the message after its receipts."""
        return "DELIVERED" if self.delivers else "SENT"

    def credentials_at(self, host: str, port: int) -> dict[str, Any]:
        """The credentials of the account at an endpoint of the simulator."""
        match self.transport:
            case TransportKind.HTTP:
                return {**self.credentials, "baseUrl": f"http://{host}:{port}"}
            case TransportKind.SMTP:
                return {**self.credentials, "host": host, "port": port}
            case _:
                return dict(self.credentials)

    def webhooks(self, url: str) -> dict[str, Webhook]:
        """The dashboard of the account with this receipt URL, for an EndpointScenario."""
        return {"*": Webhook(url=url, secret=self.webhook_secret)}


def receipt_plan(*, bounce: bool = False) -> Receipts:
    """The receipts of a message that arrives, or of one that bounces."""
    return Receipts(kinds=("bounced",) if bounce else ("delivered", "read"), delay=0.5)


def every_account(secret: SecretNamed = lambda _: token_hex(16)) -> Mapping[str, Account]:
    """One account of every package that has a dialect, by package; ``secret`` supplies the secret fields."""
    made = (*_email(secret), *_sms(secret), *_whatsapp(secret), *_chat(secret), _fcm(secret))
    return {account.package: account for account in made}


def _email(secret: SecretNamed) -> tuple[Account, ...]:
    request = {**_EMAIL, "to": ["ana@example.org"]}
    private, public = _p256_pair()
    svix = f"whsec_{secret('provider-resend.webhookSecret')}"
    mailgun = secret("provider-mailgun.webhookSigningKey")
    aws = {"accessKeyId": "AKIDEXAMPLE", "region": "eu-west-1", "topicArns": [_TOPIC]}
    keys = {name: secret(f"provider-ses.{name}") for name in ("secretAccessKey", "sessionToken")}
    return (
        Account("provider-smtp", "smtp", request, {"secure": False, "requireTLS": False}, delivers=False, bounces=""),
        Account(
            *("provider-resend", "resend", request),
            {"apiKey": f"re_{secret('provider-resend.apiKey')}", "webhookSecret": svix},
            svix,
        ),
        Account(
            *("provider-sendgrid", "sendgrid", request),
            {"apiKey": f"SG.{secret('provider-sendgrid.apiKey')}", "webhookPublicKey": public},
            private,
        ),
        Account(
            *("provider-mailgun", "mailgun", request),
            {"apiKey": secret("provider-mailgun.apiKey"), "domain": "mg.example.com", "webhookSigningKey": mailgun},
            mailgun,
        ),
        Account("provider-ses", "ses", request, {**aws, **keys, "configurationSetName": "events"}, _TOPIC),
    )


def _sms(secret: SecretNamed) -> tuple[Account, ...]:
    request = {**_SMS, "to": [_NUMBER]}
    termii = secret("provider-termii.webhookSecret")
    africa = secret("provider-africastalking.webhookToken")
    sns = {name: secret(f"provider-sns.{name}") for name in ("secretAccessKey", "sessionToken", "webhookToken")}
    infobip = {name: secret(f"provider-infobip.{name}") for name in ("apiKey", "webhookToken", "webhookPassword")}
    return (
        Account(
            *("provider-twilio", "twilio", request),
            {"accountSid": _SID, "authToken": secret("provider-twilio.authToken"), "from": "ACME"},
        ),
        Account(
            *("provider-termii", "termii", request),
            {"apiKey": secret("provider-termii.apiKey"), "senderId": "ACME", "webhookSecret": termii},
            termii,
        ),
        Account(
            *("provider-africastalking", "africastalking", request),
            {
                "username": "acme",
                "apiKey": secret("provider-africastalking.apiKey"),
                "from": "ACME",
                "webhookToken": africa,
            },
            africa,
        ),
        Account("provider-infobip", "infobip", request, {**infobip, "from": "ACME", "webhookUser": "infobip"}),
        Account(
            *("provider-sns", "sns", request),
            {**sns, "accessKeyId": "AKIDEXAMPLE", "region": "eu-west-1", "senderId": "ACME"},
            sns["webhookToken"],
        ),
        Account("provider-messagepipe", "smpp", request, bounces="FAILED"),
    )


def _whatsapp(secret: SecretNamed) -> tuple[Account, ...]:
    request = {**_WHATSAPP, "to": [_NUMBER]}
    meta = {name: secret(f"provider-meta-cloud.{name}") for name in ("accessToken", "appSecret", "verifyToken")}
    dialog = {name: secret(f"provider-360dialog.{name}") for name in ("apiKey", "webhookToken")}
    return (
        Account(
            *("provider-meta-cloud", "meta-cloud", request),
            {**meta, "phoneNumberId": "106540352242922"},
            meta["appSecret"],
            bounces="FAILED",
        ),
        Account("provider-360dialog", "360dialog", request, dialog, dialog["webhookToken"], bounces="FAILED"),
        Account(
            *("provider-twilio-whatsapp", "twilio-whatsapp", request),
            {
                "accountSid": _SID,
                "authToken": secret("provider-twilio-whatsapp.authToken"),
                "from": "+15550001111",
                "templates": {"order_update:en_US": "HX" + "a" * 32},
            },
            bounces="FAILED",
        ),
    )


def _chat(secret: SecretNamed) -> tuple[Account, ...]:
    text = "Your order A-17 is on its way."
    telegram = secret("provider-telegram.secretToken")
    signal = {name: secret(f"provider-signal.{name}") for name in ("basicAuthPassword", "webhookToken")}
    return (
        Account(
            *("provider-telegram", "telegram", {"channel": "telegram", "to": ["123456789"], "text": text}),
            {"botToken": f"42:{secret('provider-telegram.botToken')}", "secretToken": telegram},
            telegram,
            delivers=False,
            bounces="",
        ),
        Account(
            *("provider-signal", "signal", {"channel": "signal", "to": ["+4915550000002"], "text": text}),
            {**signal, "number": "+4915550000001", "basicAuthUser": "sluice"},
            signal["webhookToken"],
            bounces="",
        ),
    )


def _fcm(secret: SecretNamed) -> Account:
    request = {
        "channel": "push",
        "to": ["dQw4w9WgXcQ_abcdefghi:APA91bF-x_y"],
        "subject": "Order A-17",
        "text": "Your order is on its way.",
    }
    credentials = {
        "projectId": "sluice-demo",
        "clientEmail": "sender@sluice-demo.iam.gserviceaccount.com",
        # PEM allows text before the key.
        "privateKey": f"{secret('provider-fcm.privateKey')}\n{_rsa_key()}",
        "privateKeyId": "k1",
    }
    return Account("provider-fcm", "fcm", request, credentials, delivers=False, bounces="")


@cache
def _p256_pair() -> tuple[str, str]:
    """A private key in hexadecimal digits, and its public key as SendGrid shows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"{key.private_numbers().private_value:064x}", b64encode(public).decode()


@cache
def _rsa_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
