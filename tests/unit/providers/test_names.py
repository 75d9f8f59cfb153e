"""Provider names and config fields of the project API."""

import pytest

from gateway.providers.names import PACKAGES as NAMED
from gateway.providers.names import name_of, packages_of
from sluice.model.channel_group import ChannelGroup
from sluice.providers.registry import PACKAGES, credential_schema

TWILIO = {"accountSid", "authToken", "apiKeySid", "apiKeySecret", "from", "messagingServiceSid", "baseUrl"}
AWS = {"accessKeyId", "secretAccessKey", "region"}
# MessagePipe's documentation and the documentation of the providers, not the packages.
CONFIG_FIELDS = {
    ChannelGroup.EMAIL: {
        "sendgrid": {"apiKey"},
        "mailgun": {"apiKey", "domain", "region"},
        "ses": AWS,
        "smtp": {"host", "port", "secure", "auth", "tls"},
        "resend": {"apiKey"},
    },
    ChannelGroup.MESSAGE: {
        "messagepipe": set(),
        "twilio": TWILIO | {"region", "edge"},
        "termii": {"apiKey", "senderId", "channel", "baseUrl", "webhookSecret"},
        "sns": AWS | {"sessionToken", "senderId", "originationNumber", "smsType", "maxPrice", "entityId", "templateId"},
        "infobip": {"apiKey", "baseUrl", "from", "webhookUser", "webhookPassword", "webhookToken"},
        "africastalking": {"username", "apiKey"},
        "whatsapp": {"accessToken", "phoneNumberId", "businessAccountId", "appSecret", "verifyToken", "apiVersion"},
        "whatsapp_twilio": TWILIO,
        "360dialog": {"apiKey"},
        "telegram": {"botToken", "secretToken", "baseUrl", "testEnvironment"},
        "signal": {"baseUrl", "number", "basicAuthUser", "basicAuthPassword"},
    },
    ChannelGroup.PUSH: {
        "fcm": {"projectId", "clientEmail", "privateKey", "privateKeyId", "tokenUri", "serviceAccount"},
    },
}
SEVERAL_CHANNELS = {"provider-sandbox"}


@pytest.mark.parametrize("group", ChannelGroup)
def test_a_group_offers_the_documented_providers_with_their_documented_fields(group):
    offered = packages_of(group)

    assert list(offered) == [*CONFIG_FIELDS[group], *SEVERAL_CHANNELS]
    for name, fields in CONFIG_FIELDS[group].items():
        assert fields <= credential_schema(offered[name]).get("properties", {}).keys(), name


def test_every_package_has_one_name():
    assert set(NAMED.values()) == PACKAGES.keys() - SEVERAL_CHANNELS
    assert len(set(NAMED.values())) == len(NAMED)
    assert {name_of(package) for package in PACKAGES} == {*NAMED, *SEVERAL_CHANNELS}
    assert name_of("provider-of-a-third-party") == "provider-of-a-third-party"


def test_the_blocks_of_smtp_have_the_documented_fields():
    blocks = credential_schema(packages_of(ChannelGroup.EMAIL)["smtp"])["$defs"]

    assert blocks["SmtpAuth"]["properties"].keys() == {"user", "pass"}
    assert "rejectUnauthorized" in blocks["SmtpTls"]["properties"]
