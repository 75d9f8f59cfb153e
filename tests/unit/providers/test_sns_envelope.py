"""The envelope of Amazon SNS: the vectors of the fact sheet, subscriptions, and the certificates that are asked for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sluice.providers.contract import InvalidReceiptSignatureError, WebhookReply
from sluice.providers.kit.sns_envelope import SnsNotification, open_envelope
from tests.unit.providers.examples import NOON, a_receipt
from tests.unit.providers.sns_topic import (
    CERTIFICATE_URL,
    CERTIFICATES,
    CONFIRMATION_URL,
    TOPIC,
    a_confirmation,
    signed_envelope,
)

URL = "https://hooks.example.test/v1/receipts/prv_1"
SHEET_TOPIC = "arn:aws:sns:eu-west-1:123456789012:ses-events"
SHEET_CERTIFICATE = b"""-----BEGIN CERTIFICATE-----
MIIClzCCAX+gAwIBAgIBATANBgkqhkiG9w0BAQsFADAPMQ0wCwYDVQQDDAR0ZXN0
MB4XDTI1MDEwMTAwMDAwMFoXDTQ1MDEwMTAwMDAwMFowDzENMAsGA1UEAwwEdGVz
dDCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBAJ0B+ML4YDpORFbF9Yvy
TkBCXtRT8x9ZlVUCYlu/3Vs90CynwPXDI0dUJSdqFXdRTGUafqHANUOKQQx/7EiV
Ait43ZoHOngyVgFp2kht6HYWfyNiJuFhuySH3Ubvcq/rRokl1eFJLsl7X2zDA550
xSY2f9BPsG2Q2F7smAQlOqZa6DhJqiniDXkStKTWpc43QJD1Mfc0rJkzhHURMahR
V9ruAJeojHWkIwjQe7JfqkBpy3AnAUdnNVNTSRwBuNZfPRbZzRujQtO6Be8bVx5B
i0PKNe3bs2ZyYF8M/oLh63YP7tR6mb1AUCb//c0r06+eg0PeOCwF3pvOnFoUcAKx
azcCAwEAATANBgkqhkiG9w0BAQsFAAOCAQEALgC3URnyJyx9EQdrp/gjkm0V2/9y
zIPEbH29fEjvbxnzvisvkjm1vJKTnZlukejuuxFcZkfQpmO4dwY4lNJTCVuafeB7
nolO68El6IW0WnNSy69T4HOsq4zLxvluJg2HrUD5zCTlEoHxq+jznmj/2etKUvcU
1+FXg1/o6GRHptzRbFMdBiJ51xTVuge/zcxUupxPDRS4zJ1u7UZ3iFWgWSA3c3+o
NG7jh8327kk76ummgUNIQ7x+zRpNPLK7J1vzkR7siEYeexTHSLA6XWtPy2hMkZLS
XOM/21FqzIpwj2+nH6q8lLlqDnKRB7a4cZZa03zYAp/K+98hZuc9dRwl1A==
-----END CERTIFICATE-----
"""
SHEET_SIGNATURES = {
    "1": (
        "NjpXmJtyvU3W+nj6GCrtVV9ddiAHarKCBD6MM2xkVthWguq8MBlJ92occBZJZO4aQ4VWzwdpZAvuqtD86+gSL+llllfWzfMXjjeJYayiDOSN"
        "OrunHslFcm0hV2ygSObfZQW0QmzgHRTp7vjpWxl+FnduOsbofLx4F9Opa756iKCknCUkgt1CAvse+oCHBWZWgzESG7S8iZS5nSGCyo2j67Xo"
        "f1ptBwEJJrATi930DWBW4kwu68um0jk8fYL+m1Y2I8mo4Js+K3uxL4IM8UpDsYy/uXeUtuMCYA9SBAhWoRysR+Pnq2j0kVKKNnXzqhys0m0/"
        "0XIhbkjXcfF6uxhMIQ=="
    ),
    "2": (
        "H09AeYdvvNo5iHWe6b57OmuDEvx8CT4IHvZP9gZiURq9Og0mFgwmBDl5XZCs+tID+RF+ebHMYPowBuzGJEcrQOqxCEts9DO2Bej4NwsLlMry"
        "iZ1QtKYLdYgZ5LV59YL0j/2xnn7VtgwkU4yrBLjnL3yLCaIrOEe6KQBS86U5ZAOC7UTGW4/QNvkU8Igy94Demdp9zsEdTGyjeui6dfs4ndt1"
        "kemIX4iVrydbqg5vDf0sRBn35/M9MBiKbLp08dGbTq5WHfF4HeV8C+dmh+5Y3iFxDFOO4kFRQAdceV9xUj8rUj8gcS7mLMPnNbLGB2fAc56t"
        "Pk/0nnh+k9yS8YtjrQ=="
    ),
}


def sheet_envelope(version: str, **changes: Any) -> dict[str, Any]:
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": SHEET_TOPIC,
        "Message": '{"eventType":"Delivery"}',
        "Timestamp": "2025-01-01T00:00:05.000Z",
        "SignatureVersion": version,
        "Signature": SHEET_SIGNATURES[version],
        "SigningCertURL": CERTIFICATE_URL,
        "UnsubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe",
        **changes,
    }


def open_sheet(version: str, at: timedelta = timedelta(), **changes: Any) -> SnsNotification | WebhookReply:
    body = json.dumps(sheet_envelope(version, **changes)).encode()
    headers = {"x-amz-sns-message-type": "Notification"}
    received_at = datetime(2025, 1, 1, 0, 0, 5, tzinfo=UTC) + at
    request = a_receipt(URL, headers, body, at=received_at)
    return open_envelope(request, [SHEET_TOPIC], {CERTIFICATE_URL: SHEET_CERTIFICATE})


@pytest.mark.parametrize("subject", [{}, {"Subject": None}])
@pytest.mark.parametrize("version", ["1", "2"])
def test_the_vectors_of_the_fact_sheet_are_genuine(version: str, subject: dict[str, Any]) -> None:
    assert open_sheet(version, **subject) == SnsNotification(
        "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", '{"eventType":"Delivery"}'
    )


@pytest.mark.parametrize("at", [timedelta(hours=1), timedelta(minutes=-5)])
def test_the_time_may_be_an_hour_old_or_five_minutes_ahead(at: timedelta) -> None:
    assert isinstance(open_sheet("2", at), SnsNotification)
    with pytest.raises(InvalidReceiptSignatureError):
        open_sheet("2", at * 1.01)


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_subject_is_signed_where_there_is_one(version: str) -> None:
    body = {"Type": "Notification", "Message": "Grüße ☃", "Subject": "Betreff"}
    request = signed_envelope(a_receipt(URL, {}, json.dumps(body).encode()), version=version)

    assert isinstance(open_envelope(request, [TOPIC], CERTIFICATES), SnsNotification)


def opened(envelope: dict[str, Any], fetched: dict[str, bytes], topics: Any = (TOPIC,)) -> Any:
    return open_envelope(signed_envelope(a_receipt(URL, {}, json.dumps(envelope).encode())), topics, fetched)


def test_the_certificate_is_asked_for_once_everything_else_is_plausible() -> None:
    assert opened(a_confirmation(), {}) == WebhookReply(fetch=CERTIFICATE_URL, cacheable=True)


@pytest.mark.parametrize("topics", [(), (TOPIC + "x",), (TOPIC.replace("eu-west-1", "us-east-1"),)])
def test_no_request_is_made_for_a_topic_that_the_account_does_not_name(topics: Any) -> None:
    with pytest.raises(InvalidReceiptSignatureError, match="topic"):
        opened(a_confirmation(), {}, topics)


def test_a_subscription_of_a_named_topic_is_confirmed_once_it_is_verified() -> None:
    asked = opened(a_confirmation(), dict(CERTIFICATES))
    done = opened(a_confirmation(), {**CERTIFICATES, CONFIRMATION_URL: b"<ConfirmSubscriptionResponse/>"})

    assert asked == WebhookReply(fetch=CONFIRMATION_URL)
    assert done == WebhookReply()


@pytest.mark.parametrize(
    "url",
    [
        *("https://evil.test/?Action=ConfirmSubscription", "http://sns.eu-west-1.amazonaws.com/", "file:///etc/passwd"),
        CONFIRMATION_URL.replace(".com/", ".com.evil.test/"),
        CONFIRMATION_URL.replace("https", "http"),
        CONFIRMATION_URL.replace("sns.", "sqs."),
        CONFIRMATION_URL.replace("https://", "https://user@"),
        CONFIRMATION_URL.replace("ConfirmSubscription", "DeleteTopic"),
        CONFIRMATION_URL.replace("Action=ConfirmSubscription&", ""),
        CONFIRMATION_URL.replace("123456789012", "210987654321"),  # another account's topic
        CONFIRMATION_URL + "&Action=DeleteTopic",
        CONFIRMATION_URL + f"&TopicArn={TOPIC}2",
        CONFIRMATION_URL + "#x",
        CONFIRMATION_URL + "\n",
    ],
)
def test_an_address_that_does_not_confirm_this_topic_is_never_visited(url: str) -> None:
    with pytest.raises(InvalidReceiptSignatureError):
        opened(a_confirmation(SubscribeURL=url), dict(CERTIFICATES))


def test_a_forged_confirmation_is_refused_before_its_address_is_visited() -> None:
    request = signed_envelope(a_receipt(URL, {}, json.dumps(a_confirmation()).encode()), "other")

    with pytest.raises(InvalidReceiptSignatureError):
        open_envelope(request, [TOPIC], CERTIFICATES)


def test_an_end_of_the_subscription_is_not_undone() -> None:
    assert opened(a_confirmation(Type="UnsubscribeConfirmation"), dict(CERTIFICATES)) == WebhookReply()


@pytest.mark.parametrize("name", ["Token", "SubscribeURL"])
def test_a_confirmation_without_what_is_signed_is_refused(name: str) -> None:
    request = signed_envelope(a_receipt(URL, {}, json.dumps(a_confirmation(**{name: None})).encode()))

    with pytest.raises(InvalidReceiptSignatureError, match=name):
        open_envelope(request, [TOPIC], CERTIFICATES)


def test_a_time_without_a_zone_is_utc() -> None:
    envelope = {"Type": "Notification", "Message": "x", "Timestamp": NOON.strftime("%Y-%m-%dT%H:%M:%S")}

    assert isinstance(opened(envelope, dict(CERTIFICATES)), SnsNotification)
