"""demo: a project, two providers and a first message."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice.runtime.errors import SluiceError

if TYPE_CHECKING:
    from sluice_cli.context import Demo

MAILBOX_HOST, MAILBOX_PORT = "127.0.0.1", "1025"

_SUBJECT = "Grüße aus der Schleuse ✓"
_TEXT = "It works: this mail took the second provider, because the first one is dead.\n\nŽluťoučký kůň, 日本語.\n"
_HTML = "<p>It works: this mail took the <b>second</b> provider, because the first one is dead.</p>\n<p>日本語</p>\n"


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    demo = subparsers.add_parser(
        "demo", help="make a demo project (once) and send an e-mail whose first provider is dead"
    )
    demo.add_argument(
        "--all", action="store_true", help="one message through every provider package, with the simulator as provider"
    )
    demo.add_argument("--json", action="store_true", help="with --all: print the table as JSON")
    demo.set_defaults(run=run_demo)


def run_demo(options: argparse.Namespace) -> int:
    """Make the demo project if there is none, send a message, print its history.

    Raises:
        SluiceError: the message is not sent within 30 s.
    """
    if options.all:
        from sluice_cli.demo_all import run_demo_all

        return run_demo_all(as_json=options.json)
    if options.json:
        raise SluiceError("--json belongs to `sluice demo --all`")
    from sluice_cli.context import api_url, demo_file, read_demo
    from sluice_cli.send import api_request, format_timeline, wait_until_settled

    demo = read_demo()
    if demo is None:
        _require_directory(demo_file().parent)
        demo = asyncio.run(_create())
        _write_secret_file(json.dumps(asdict(demo)))
    body = {
        "channel": "email",
        "from": "Sluice <demo@sluice.example>",
        "to": ["you@example.com"],
        "subject": _SUBJECT,
        "text": _TEXT,
        "html": _HTML,
        "tags": ["demo"],
    }
    accepted = api_request("POST", "/v1/messages/channel", demo.key, json.dumps(body).encode())
    message = wait_until_settled(accepted["id"], demo.key, seconds=30)
    print("\nThe first message:\n")
    print(format_timeline(message))
    print(_next_steps(api_url(), demo.key, str(demo_file())))
    if message["status"] != "SENT":
        raise SluiceError(
            f"the demo message is {message['status']}, not SENT: see its history, and the log of email-worker"
        )
    return 0


async def _create() -> Demo:
    from sluice.runtime.clock import utc_now
    from sluice.runtime.settings import EncryptionSettings, load
    from sluice.store import api_keys, projects
    from sluice.store.cipher import CredentialCipher
    from sluice_cli.context import Demo, address, database, environment

    settings = load(
        EncryptionSettings,
        postgres_dsn=address("SLUICE_POSTGRES_DSN"),
        kafka_bootstrap_servers=address("SLUICE_KAFKA_BOOTSTRAP_SERVERS"),
        encryption_key_file=environment().get("SLUICE_ENCRYPTION_KEY_FILE"),
    )
    cipher = CredentialCipher(settings.read_encryption_keys)
    now = utc_now()
    async with database() as connection, connection.transaction():
        slug = await _free_slug(connection)
        project = await projects.create_project(connection, organization="Demo", slug=slug, name="Demo", now=now)
        await _create_providers(connection, cipher, project.id)
        key = await api_keys.create_key(connection, project.id, name="demo", is_test=False, now=now)
        test_key = await api_keys.create_key(connection, project.id, name="demo test", is_test=True, now=now)
    return Demo(project.slug, key, test_key)


async def _create_providers(connection: Any, cipher: Any, project_id: Any) -> None:
    """A dead SMTP server, and the demo's mailbox behind it."""
    from sluice.model.ids import uuid7
    from sluice.model.message import Channel
    from sluice.runtime.clock import utc_now
    from sluice.store import providers
    from sluice_cli.context import environment

    settings = environment()
    mailbox = settings.get("SLUICE_MAILBOX_HOST", MAILBOX_HOST), int(settings.get("SLUICE_MAILBOX_PORT", MAILBOX_PORT))
    for name, (host, port) in {"dead-smtp": ("127.0.0.1", 1), "mailbox-smtp": mailbox}.items():
        provider_id = uuid7()
        credentials = {"host": host, "port": port, "secure": False, "requireTLS": False}
        await providers.create_provider(
            connection,
            provider_id,
            project_id,
            package="provider-smtp",
            channel=Channel.EMAIL,
            name=name,
            encrypted_credentials=cipher.encrypt_credentials(
                credentials, project_id=project_id, provider_id=provider_id
            ),
            now=utc_now(),
        )


async def _free_slug(db: Any) -> str:
    """``demo``, or the next number: its keys may be lost while the database still has the project."""
    from sluice.store.projects import find_project_by_slug

    number = 1
    while await find_project_by_slug(db, slug := "demo" if number == 1 else f"demo-{number}") is not None:
        number += 1
    return slug


def _require_directory(path: Path) -> None:
    """Before anything is committed: keys that cannot be stored would be lost."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SluiceError(f"{path}: {error.strerror}: set SLUICE_DATA_DIR to a directory that can be written") from None
    if not os.access(path, os.W_OK):
        raise SluiceError(f"{path} cannot be written: set SLUICE_DATA_DIR to a directory that can")


def _write_secret_file(text: str) -> None:
    from sluice_cli.context import demo_file

    descriptor = os.open(demo_file(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _next_steps(url: str, key: str, file: str) -> str:
    body = '{"channel":"email","from":"you@example.com","to":["friend@example.com"],"subject":"Hi","text":"Hello"}'
    command = "sluice" if shutil.which("sluice") else ".venv/bin/sluice"
    return f"""
API      {url}
key      {key}   (stored in {file})

Try next:

  curl -s {url}/v1/messages/channel -H 'X-SendPipe-Key: {key}' -H 'Content-Type: application/json' -d '{body}'

  {command} publish --to friend@example.com --subject 'Through Kafka' --text 'Hello from the bus'

  {command} captured
"""
