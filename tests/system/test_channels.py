"""One message through each package of e-mail, WhatsApp, Signal and push, behind a broken sibling, and its receipts."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from sluice.model import ids
from sluice.model.message import Channel
from sluice.providers.registry import get_package
from sluice_simulator import EndpointScenario, Receipts, Scenario, Simulator, Webhook
from tests.polling import wait_until
from tests.unit.providers.examples import sample_of

NOWHERE = "http://127.0.0.1:1"
TEMPLATE = {"template_name": "order_update", "template_language": "en_US", "template_params": ["Ann"]}
EMAIL = {"channel": "email"}
WHATSAPP = {"channel": "whatsapp", "from": None, "subject": None, "text": None, "channel_options": TEMPLATE}
SIGNAL = {"channel": "signal", "from": None, "subject": None}
PUSH = {"channel": "push", "from": None, "subject": "Order", "channel_options": {"data": {"order": "A-17"}}}


@dataclass(frozen=True)
class Case:
    """A package, its endpoint of the simulator, a request, and how the message ends."""

    package: str
    endpoint: str
    request: dict[str, Any]
    to: str
    ends: str = "DELIVERED"
    credentials: dict[str, Any] = field(default_factory=dict)


CASES = [
    *(Case(f"provider-{name}", name, EMAIL, "ana@example.org") for name in ("sendgrid", "mailgun", "ses")),
    Case("provider-meta-cloud", "meta-cloud", WHATSAPP, "+15557654321"),
    Case("provider-360dialog", "360dialog", WHATSAPP, "+15557654321"),
    Case(
        *("provider-twilio-whatsapp", "twilio-whatsapp", WHATSAPP, "+15557654321"),
        credentials={"templates": {"order_update:en_US": "HX" + "a" * 32}},
    ),
    Case("provider-signal", "signal", SIGNAL, "+4915550000002"),
    Case("provider-fcm", "fcm", PUSH, "dQw4w9WgXcQ_abcdefghi:APA91bF-x_y", ends="SENT"),
    Case("provider-fcm", "fcm", PUSH, "topic:news", ends="SENT"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.package}-{case.to[:5]}")
async def test_a_message_fails_over_and_its_receipts_are_believed(testbed, proven, case):
    sample = sample_of(get_package(case.package))
    channel = Channel(case.request["channel"])
    async with Simulator(endpoints={case.endpoint: case.endpoint}) as simulator:
        for name, address in (("broken", NOWHERE), ("working", simulator.url(case.endpoint))):
            credentials = {**sample.credentials, **case.credentials, "baseUrl": address}
            provider = await testbed.add_provider(name, credentials, package=case.package, channel=channel)
        receipts_at = f"{testbed.system.addresses['gateway']}/v1/receipts/{ids.encode_id('prv', provider)}"
        webhook = Webhook(url=receipts_at, secret=sample.webhook_secret)
        plan = Receipts(kinds=("delivered", "read"), delay=0.5)
        simulator.apply_scenario(
            Scenario(endpoints={case.endpoint: EndpointScenario(receipts=plan, webhooks={"*": webhook})})
        )

        message_id = await testbed.send(**case.request, to=[case.to])

        async def ended():
            found = await testbed.message(message_id)
            return found if found["status"] == case.ends else None

        message = await wait_until(ended, 30)
    tried = [(event["type"], event["provider"]["name"]) for event in message["events"] if event["provider"]]
    assert tried[:4] == [
        ("sending", "broken"),
        ("attempt_failed", "broken"),
        ("sending", "working"),
        ("sent", "working"),
    ]
    assert message["attempts"] == 2


async def test_metas_handshake_is_answered_by_the_gateway(testbed):
    sample = sample_of(get_package("provider-meta-cloud")).credentials
    provider = await testbed.add_provider("meta", sample, package="provider-meta-cloud", channel=Channel.WHATSAPP)
    path = f"/v1/receipts/{ids.encode_id('prv', provider)}"
    query = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": sample["verifyToken"]}

    async def known():
        answer = await testbed.api.get(path, params=query)
        return None if answer.status_code == 404 else answer

    answer = await wait_until(known, 10)
    forged = await testbed.api.get(path, params={**query, "hub.verify_token": "x"})

    assert (answer.status_code, answer.text) == (200, "1158201444")
    assert answer.headers["content-type"].startswith("text/plain")
    assert forged.status_code == 401
