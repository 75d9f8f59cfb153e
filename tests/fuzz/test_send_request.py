"""Damaged send requests, over HTTP and Kafka: an error that names its fault, or a command that can be stored."""

import asyncio
import json
from contextlib import suppress

import orjson
from pydantic import ValidationError

from gateway.auth.principal import KeyPrincipal
from gateway.errors import ApiError, Unauthorized
from gateway.ingest.command import to_new_message
from gateway.ingest.ingest import AcceptedMessage
from gateway.ingest.kafka_ingress import SendRequestConsumer
from gateway.messages.v1_schemas import to_command
from sluice.bus.messages import Assignment, DeliveryTask
from sluice.model.ids import uuid7
from tests.examples import NOON, PROJECT, a_body, a_task, an_assignment, as_json, seconds
from tests.fuzz.fuzzing import damaged, damaged_text, fuzz
from tests.services.fakes import FakePublisher, FakeRecord

BODIES = [
    as_json(a_body(metadata={"order": 7, "a": [None, {"b": 1.5}]}, tags=["one", "two"], idempotency_key="k")),
    as_json(a_body(attachments=[{"filename": "a.pdf", "content": "YQ=="}], cc=["b@example.org"])),
    as_json({"channel": "sms", "to": ["+4915123456789"], "text": "Hello", "send_at": "2030-01-01T00:00:00Z"}),
    as_json({"channel": "push", "to": ["token"], "text": "Hello", "channel_options": {"data": {"a": "b"}}}),
    as_json({"channel": "telegram", "to": ["12345"], "text": "Hello"}),
]


def command_or_fault(body):
    try:
        return to_command(body)
    except ApiError as error:
        return error


@fuzz(body=damaged(BODIES))
def test_a_body_is_refused_with_its_fault_or_becomes_a_message(body):
    command = command_or_fault(body)
    if isinstance(command, ApiError):
        assert command.status in (400, 413)
        assert str(command)
        str(command).encode()  # a lone surrogate of the body could not be sent back
        return
    message = to_new_message(
        command,
        project_id=PROJECT,
        sender=command.sender,
        sandbox=False,
        preferred_provider_id=None,
        now=NOON,
        requeue_after=seconds(8),
        unsubscribe_link=lambda *_: "https://gateway.example/u/x",
        with_addresses=True,
    )
    assert isinstance(orjson.loads(message.content), dict)
    for text in (
        message.content,
        message.metadata or "",
        *message.tags,
        *(one.recipient for one in message.deliveries),
    ):
        assert "\x00" not in text  # PostgreSQL stores no NUL
        text.encode()


class AnyKey:
    """Admits a record with any key."""

    async def authenticate_record(self, headers, _value):
        if not headers:
            raise Unauthorized("no key")
        return KeyPrincipal(uuid7(), PROJECT, is_test=True)


class Accepting:
    """Accepts every command."""

    async def accept(self, command, principal, **_options):
        return AcceptedMessage(uuid7(), principal.project_id, command.channel, NOON, replayed=False)


@fuzz(
    value=damaged(BODIES),
    name=damaged_text(["x-sendpipe-key", "schema-version", "idempotency-key", "x-sendpipe-signature"]),
    text=damaged([b"1", b"key", b"order-7"]),
)
def test_a_record_is_accepted_or_dead_lettered_with_its_reason(value, name, text):
    bus = FakePublisher()
    record = FakeRecord(value, (("x-sendpipe-key", b"key"), (name, text)), topic="send.requests")

    async def consume():
        await SendRequestConsumer(AnyKey(), Accepting(), bus, max_body=100_000)._accept(record)

    asyncio.run(consume())

    assert record.acked
    letters, answers = bus.on("dead.letters"), [json.loads(value)["type"] for value in bus.on("delivery.events")]
    assert not any(b"unexpected error" in letter for letter in letters)
    assert answers in (["request_accepted"], ["request_rejected"], [])
    assert (len(letters) == 0) == (answers == ["request_accepted"])


@fuzz(value=damaged([a_task().encode(), an_assignment().encode()]))
def test_a_record_between_roles_is_read_or_refused_as_invalid(value):
    for kind in (DeliveryTask, Assignment):
        with suppress(ValidationError):  # the consumers dead-letter the record
            kind.model_validate_json(value)
