"""send, publish, message, captured: requests by hand."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sluice.model.state import SETTLED
from sluice.runtime.arguments import within
from sluice.runtime.errors import SluiceError
from sluice_cli.terminal import printable

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

    from sluice.bus.connection import KafkaConnection
    from sluice.bus.messages import RequestAccepted, RequestRejected

    Answer = RequestAccepted | RequestRejected

_POLL_INTERVAL = 0.1  # seconds
_TIMEOUT = 20.0  # seconds; a test call of a provider may take 15


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    send = subparsers.add_parser("send", help="send a message through the API and show its history")
    _message_arguments(send)
    send.add_argument(
        "--wait", type=within(float, 0, 86_400), default=30.0, help="seconds to wait for the end (default %(default)s)"
    )
    send.add_argument("--json", action="store_true", help="print the API's JSON")
    send.set_defaults(run=run_send)
    publish = subparsers.add_parser("publish", help="publish a send request to Kafka, to the topic send.requests")
    _message_arguments(publish)
    publish.add_argument(
        "--wait",
        type=within(float, 0, 86_400),
        default=10.0,
        help="seconds to wait for what became of it; 0: not at all",
    )
    publish.set_defaults(run=run_publish)
    message = subparsers.add_parser("message", help="show a message and its history")
    message.add_argument("id", help="msg_…")
    message.add_argument("--key", help="API key (default: SLUICE_API_KEY or the demo's)")
    message.add_argument("--sandbox", action="store_true", help="a message that was sent with the demo's test key")
    message.add_argument("--json", action="store_true", help="print the API's JSON")
    message.set_defaults(run=run_message)
    captured = subparsers.add_parser("captured", help="list sandbox messages and mails of the demo mailbox")
    captured.add_argument(
        "-n", "--limit", type=within(int, 1, 10_000), default=10, help="number of entries (default %(default)s)"
    )
    captured.add_argument("--full", action="store_true", help="print their whole content")
    captured.set_defaults(run=run_captured)


def _message_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--channel", default="email", help="email, sms, whatsapp, telegram, signal, push")
    parser.add_argument("--to", action="append", default=[], help="recipient; may be given more than once")
    parser.add_argument("--from", dest="sender", help="sender (default for e-mail: demo@sluice.example)")
    parser.add_argument("--subject", help="subject or title")
    parser.add_argument("--text", help="text part or body")
    parser.add_argument("--html", help="HTML part")
    parser.add_argument("--body", help="the whole request as JSON ('-' reads it from standard input)")
    parser.add_argument("--idempotency-key", help="a repeated request with the same key creates no second message")
    parser.add_argument("--sandbox", action="store_true", help="use the demo's test key: captured, not sent")
    parser.add_argument("--key", help="API key (default: SLUICE_API_KEY or the demo's)")


def request_body(options: argparse.Namespace) -> bytes:
    """The request that the arguments describe, as JSON."""
    if options.body is not None:
        return (sys.stdin.read() if options.body == "-" else options.body).encode()
    if not options.to:
        raise SluiceError("no recipient: give --to, or the whole request with --body")
    fields = {
        "channel": options.channel,
        "from": options.sender or ("demo@sluice.example" if options.channel == "email" else None),
        "to": options.to,
        "subject": options.subject or ("Hello from Sluice" if options.channel == "email" else None),
        "text": options.text or (None if options.html else "Hello."),
        "html": options.html,
        "idempotency_key": options.idempotency_key,
    }
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def run_send(options: argparse.Namespace) -> int:
    """POST the request, wait until the message is settled, print its history."""
    from sluice_cli.context import api_key

    key = api_key(options.key, is_test=options.sandbox)
    accepted = api_request("POST", "/v1/messages/channel", key, request_body(options))
    message = wait_until_settled(accepted["id"], key, seconds=options.wait)
    print(json.dumps(message, indent=2, ensure_ascii=False) if options.json else format_timeline(message))
    return 0 if message["status"] in ("SENT", "DELIVERED") else 1


def run_message(options: argparse.Namespace) -> int:
    """Show one message."""
    from sluice_cli.context import api_key

    key = api_key(options.key, is_test=options.sandbox)
    message = api_request("GET", f"/v1/messages/{segment(options.id)}", key)
    print(json.dumps(message, indent=2, ensure_ascii=False) if options.json else format_timeline(message))
    return 0


def segment(argument: str) -> str:
    """The argument as one segment of a path, whatever its characters."""
    return quote(argument, safe="").replace(".", "%2E")


def api_request(
    method: str,
    path: str,
    key: str,
    body: bytes | None = None,
    *,
    project: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """One API call. ``key``: an API key, or the session of a person (``ses_…``) who names the ``project``.

    ``headers`` are sent beside those of every call; an answer that is no JSON is returned as text.

    Raises:
        SluiceError: the gateway cannot be reached, or it rejected the request.
    """
    import httpx

    from sluice_cli.context import api_url

    url = api_url()
    credentials = {"x-sendpipe-key": key}
    if key.startswith("ses_"):
        credentials = {"authorization": f"Bearer {key}", "x-sendpipe-project": project or ""}
    try:
        answer = httpx.request(
            method,
            url + path,
            content=body,
            headers={**credentials, "content-type": "application/json", **(headers or {})},
            timeout=_TIMEOUT,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise SluiceError(f"cannot connect to the gateway at {url}: {error}; `sluice status` shows what runs") from None
    if answer.status_code >= 400:
        raise SluiceError(_error_text(answer.status_code, answer.text))
    return answer.json() if answer.headers.get("content-type", "").startswith("application/json") else answer.text


def _error_text(status: int, text: str) -> str:
    try:
        error = json.loads(text)["error"]
        return f"rejected with {status} {error['code']}: {error['message']}"
    except (ValueError, KeyError, TypeError):
        return f"rejected with {status}"


def wait_until_settled(message_id: str, key: str, *, seconds: float) -> Any:
    """The message once it is settled, or its last state after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        message = api_request("GET", f"/v1/messages/{message_id}", key)
        if message["status"] in SETTLED or time.monotonic() > deadline:
            return message
        time.sleep(_POLL_INTERVAL)


def format_timeline(message: Any) -> str:
    """A message and its history, one line per event."""
    lines = [f"{message['id']}  {message['status']}  ({message['channel']} to {', '.join(message['to'])})"]
    for event in message["events"]:
        provider = f" via {event['provider']['name']}" if event["provider"] else ""
        attempt = f" attempt {event['attempt']}" if event["attempt"] else ""
        detail = f": {event['detail']}" if event["detail"] else ""
        lines.append(f"  {event['created_at'][11:23]}  {event['type']}{attempt}{provider}{detail}")
    return "\n".join(printable(line) for line in lines)


def run_publish(options: argparse.Namespace) -> int:
    """Publish the request to ``send.requests``, and print what became of it."""
    from sluice_cli.context import api_key, kafka

    key = api_key(options.key, is_test=options.sandbox)
    print(asyncio.run(_publish_to(kafka(), key, request_body(options), seconds=options.wait)))
    return 0


async def _publish_to(kafka: KafkaConnection, key: str, body: bytes, *, seconds: float) -> str:
    """A line for the person about the answer; ``seconds`` 0 does not wait for one.

    Raises:
        SluiceError: Kafka does not answer, or the request was rejected, or not answered in time.
    """
    from aiokafka.errors import KafkaError

    from sluice.bus.connection import explain

    try:
        async with _end_of_events(kafka) if seconds else nullcontext() as events:
            place = await _publish(kafka, key, body)
            answer = None if events is None else await _answer_to(place, events, seconds)
    except (KafkaError, OSError) as error:
        raise SluiceError(f"cannot publish to Kafka at {kafka.servers}: {await explain(kafka)}") from error
    if answer is not None:
        if answer.type == "request_rejected":
            raise SluiceError(f"rejected with {answer.code}: {answer.message}")
        return f"accepted as {answer.id}; see `sluice message {answer.id}`"
    where = f"published to send.requests, partition {place[0]}, offset {place[1]}"
    if not seconds:
        return where
    raise SluiceError(
        f"{where}, and not answered within {seconds:.0f} s: is a gateway running, and the API key valid? "
        "`sluice dead-letters list --topic send.requests` shows what was refused"
    )


async def _publish(kafka: KafkaConnection, key: str, body: bytes) -> tuple[int, int]:
    """Publish a signed request; returns its partition and offset."""
    from aiokafka import AIOKafkaProducer

    from sluice.bus.messages import SCHEMA_VERSION, VERSION_HEADER
    from sluice.bus.topics import Topic
    from sluice.runtime.clock import utc_now
    from sluice.store.record_signatures import sign_record

    idempotency_key = json.loads(body).get("idempotency_key") or f"publish-{uuid.uuid4()}"
    signature = sign_record(key, body, idempotency_key=idempotency_key, now=utc_now())
    headers = {VERSION_HEADER: str(SCHEMA_VERSION), **signature}
    producer = AIOKafkaProducer(**kafka.options(), acks="all", request_timeout_ms=10_000)
    try:
        await producer.start()
        stored = await producer.send_and_wait(
            Topic.SEND_REQUESTS.value,
            body,
            headers=[(name, text.encode()) for name, text in headers.items()],
        )
    finally:
        await producer.stop()
    return stored.partition, stored.offset


@asynccontextmanager
async def _end_of_events(kafka: KafkaConnection) -> AsyncIterator[AIOKafkaConsumer]:
    """A client that reads what is published on ``delivery.events`` from now on."""
    from sluice.bus.client import partitions_of
    from sluice.bus.connect import stop_client
    from sluice.bus.reader import create_reader
    from sluice.bus.topics import Topic

    reader = create_reader(kafka, fetch_max_wait_ms=100)
    try:
        await reader.start()
        partitions = await partitions_of(reader, Topic.EVENTS.value)
        reader.assign(partitions)
        await reader.seek_to_end(*partitions)
        yield reader
    finally:
        await stop_client(reader)


async def _answer_to(place: tuple[int, int], events: AIOKafkaConsumer, seconds: float) -> Answer | None:
    """The answer to the record at that partition and offset; None if there is none in time."""
    from pydantic import TypeAdapter, ValidationError

    from sluice.bus.messages import RequestAccepted, RequestRejected

    answers: TypeAdapter[Answer] = TypeAdapter(RequestAccepted | RequestRejected)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for record in events:
                with suppress(ValidationError):  # another event
                    answer = answers.validate_json(record.value or b"")
                    if (answer.partition, answer.offset) == place:
                        return answer
    return None


def run_captured(options: argparse.Namespace) -> int:
    """Print the captured messages."""
    shown = [*_mailbox(options.limit), *asyncio.run(_captured(options.limit))]
    for when, line, content in sorted(shown, reverse=True)[: options.limit]:
        print(f"{when}  {printable(line)}")
        if options.full:
            print(printable(content, multiline=True) + "\n")
    if not shown:
        print("no captured messages")
    return 0


def _mailbox(limit: int) -> list[tuple[str, str, str]]:
    """The newest mails of the demo's mailbox; none where the simulator is not installed."""
    from sluice_cli.context import data_dir

    try:
        from sluice_simulator.mailbox import list_mails
    except ModuleNotFoundError:
        return []
    return [
        (
            mail.received_at.isoformat(timespec="seconds"),
            f"mailbox  {', '.join(mail.recipients)}: {mail.subject}",
            mail.path.read_text("utf-8", "replace"),
        )
        for mail in list_mails(data_dir(), limit)
    ]


async def _captured(limit: int) -> list[tuple[str, str, str]]:
    """The newest messages of the sandbox."""
    from sluice.store import sandbox
    from sluice_cli.context import database

    async with database() as connection:
        captures = await sandbox.list_captured(connection, project_id=None, limit=limit)
    return [
        (
            capture.captured_at.isoformat(timespec="seconds"),
            f"sandbox  {capture.channel} to {capture.recipient}",
            capture.content,
        )
        for capture in captures
    ]
