"""Large batches of genuine receipts: they stop no other request, and fill no queue that others need."""

import asyncio
import base64
import json
from time import time
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.receipts import endpoint
from sluice.delivery import receipts
from sluice.delivery.outbox import OutboxPublisher
from sluice.delivery.receipts import ReceiptSink
from sluice.model import ids
from sluice.model.state import EventType
from sluice.providers.contract import DeliveryReceipt
from sluice.runtime.batching import QueueFullError
from sluice.runtime.clock import utc_now
from tests.examples import PROJECT, PROVIDER
from tests.loop_lag import LIMIT, loop_lag
from tests.polling import wait_until
from tests.store.harness import SENT

SMALLEST = b'{"event":"open","sg_message_id":"a"}'


class Sendgrid:
    """The provider of a project, which signs what it sends."""

    def __init__(self, gateway):
        self._gateway = gateway
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._path = ""

    async def set_up(self):
        der = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        credentials = {"apiKey": "SG.x", "webhookPublicKey": base64.b64encode(der).decode()}
        body = {"packageName": "provider-sendgrid", "name": "s", "credentials": credentials}
        created = (await self._gateway.ask("POST", "/v1/providers", json=body)).json()
        self.id = ids.decode_id("prv", created["id"])
        self._path = f"/v1/receipts/{created['id']}"
        await wait_until(lambda: self.id in self._gateway.config.providers)
        return self

    async def post(self, body, *, forged=False):
        at = str(int(time()))
        signature = self._key.sign(at.encode() + body + b"x" * forged, ec.ECDSA(hashes.SHA256()))
        headers = {
            "x-twilio-email-event-webhook-timestamp": at,
            "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode(),
        }
        return await self._gateway.client.post(self._path, content=body, headers=headers)


async def a_delivery(store, sendgrid):
    """A delivery of the provider's project that it accepted."""
    delivery_id = await store.a_delivery_that_was(SENT, outcome="accepted")
    of_project = "project_id = (SELECT project_id FROM providers WHERE id = $2)"
    attempts = f"UPDATE attempts SET provider_id = $2, {of_project} WHERE delivery_id = $1"
    for statement in (f"UPDATE deliveries SET {of_project} WHERE id = $1", attempts):
        await store.pool.execute(statement, delivery_id, sendgrid.id)
    return delivery_id


@pytest.fixture
async def sendgrid(gateway):
    gateway.client.event_hooks = {}  # the receipt endpoint is in no document
    provider = await Sendgrid(gateway).set_up()
    await provider.post(SMALLEST)  # the framework builds its routes at the first request, which a gateway does at start
    return provider


def batch_of(event, number):
    return b"[" + b",".join([event] * number) + b"]"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (batch_of(SMALLEST, 28_000), 413),
        (batch_of(SMALLEST, 19_000), 413),
        (batch_of(SMALLEST, 5_000), 404),  # of nothing of ours
        (batch_of(b"{}", 340_000), 413),
        (batch_of(b"1", 500_000), 204),
        (batch_of(b"[[]]", 200_000), 413),
        (batch_of(b'{"event":"unsubscribe","email":"ada@example.com"}', 5_000), 204),
        (batch_of(b'{"event":"open","sg_message_id":"%s"}' % (b"a" * 100_000), 10), 404),
    ],
    ids=["of the finding", "too many", "the most", "empty objects", "numbers", "arrays", "opt-outs", "long texts"],
)
async def test_a_megabyte_of_signed_events_does_not_stop_the_loop(sendgrid, body, status):
    async with loop_lag() as lag:
        answer = await sendgrid.post(body)

    assert answer.status_code == status, answer.text
    assert lag.worst < LIMIT


async def test_a_forged_megabyte_does_not_stop_the_loop(sendgrid):
    async with loop_lag() as lag:
        answer = await sendgrid.post(batch_of(b"1", 500_000), forged=True)

    assert answer.status_code == 401
    assert lag.worst < LIMIT


async def test_a_receipt_that_comes_during_large_ones_is_recorded(gateway, store, sendgrid):
    delivery_id = await a_delivery(store, sendgrid)
    genuine = {"event": "delivered", "sluice_ref": ids.attempt_reference(delivery_id, 1), "sg_event_id": "e-1"}
    large = [asyncio.create_task(sendgrid.post(batch_of(SMALLEST, 5_000))) for _ in range(4)]
    await wait_until(lambda: gateway.receipts._sink._waiting.total())

    answer = await sendgrid.post(json.dumps([genuine]).encode())

    assert answer.status_code == 204, answer.text
    assert await store.state(delivery_id) == "DELIVERED"
    assert {(await one).status_code for one in large} == {404}


async def test_every_receipt_of_a_large_batch_is_recorded(store, sendgrid, monkeypatch):
    monkeypatch.setattr(receipts, "_BATCH", 3)
    sent = [await a_delivery(store, sendgrid) for _ in range(10)]
    events = [
        {
            "event": "delivered",
            "sluice_ref": ids.attempt_reference(one, 1),
            "sg_event_id": f"e-{one}",
            "fill": "x" * 999,
        }
        for one in sent
    ]

    answer = await sendgrid.post(json.dumps([{"event": "open"}, *events]).encode())

    assert answer.status_code == 204, answer.text
    assert {await store.state(one) for one in sent} == {"DELIVERED"}


async def test_a_project_has_four_megabytes_of_large_batches_under_way(gateway, sendgrid, monkeypatch):
    monkeypatch.setattr(endpoint, "_SMALL", 10_000_000)
    body = batch_of(SMALLEST, 1) + b" " * 1_040_000
    project_id = gateway.config.providers[sendgrid.id].project_id
    held = gateway.receipts._bodies.body(project_id)
    held(4 << 20)

    assert (await sendgrid.post(body)).status_code == 429
    assert (await sendgrid.post(batch_of(SMALLEST, 1))).status_code == 404

    held.release()
    assert (await sendgrid.post(body)).status_code == 404


def statements(number, delivery_id):
    reference = ids.attempt_reference(delivery_id, 1)
    return [DeliveryReceipt(f"r-{one}", EventType.OPENED, reference) for one in range(number)]


async def test_a_project_fills_only_its_share_of_the_queue(store, bus, monkeypatch):
    monkeypatch.setattr(receipts, "_BATCH", 10)
    monkeypatch.setattr(receipts, "_SHARE", 25)
    delivery_id = await store.a_delivery_that_was(SENT, outcome="accepted", provider_id=PROVIDER)
    outbox = OutboxPublisher(store.gateway, bus)
    async with outbox.running(), ReceiptSink(store.gateway, outbox).running() as sink:

        def accept(number, project_id=PROJECT):
            found = statements(number, delivery_id)
            return sink.accept(project_id, PROVIDER, found, payload=b"", received_at=utc_now())

        answers = await asyncio.gather(
            *(accept(10), accept(20), accept(10)), accept(10, UUID(int=7)), return_exceptions=True
        )
        again = await accept(20)

    assert isinstance(answers[2], QueueFullError)
    assert [len(answer) for answer in (answers[0], answers[1], answers[3])] == [10, 20, 10]
    assert again == [True] * 20
    assert not sink._waiting
