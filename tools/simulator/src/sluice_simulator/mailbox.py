"""A local SMTP server that keeps every mail as a file: ``python -m sluice_simulator.mailbox``.

Settings: ``SLUICE_DATA_DIR`` (the mails go to ``mailbox/`` in it, a Maildir), ``SLUICE_HOST``, ``SLUICE_PORT``.
Ready as soon as it answers with the SMTP greeting. For demonstrations: no authentication, loopback by default.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from itertools import islice
from pathlib import Path
from time import time_ns
from uuid import uuid4

from sluice.providers.kit.smtp_types import Phase
from sluice_simulator.smtp_server import Envelope, Reply, SmtpSettings, listen_smtp

FOLDER = "mailbox"  # in the data directory
PORT = 2525


@dataclass(frozen=True, slots=True)
class StoredMail:
    """One mail of the mailbox. ``sender`` and ``recipients`` are the envelope's."""

    path: Path
    received_at: datetime
    sender: str
    recipients: tuple[str, ...]
    subject: str

    def read(self) -> EmailMessage:
        """The mail, parsed."""
        return _parse(self.path.read_bytes())


class Mailbox:
    """A Maildir. A mail in ``new/`` is complete."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("tmp", "new", "cur"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def store(self, envelope: Envelope) -> str:
        """Keep the mail with its envelope in front, as a local delivery agent does; returns the file's name."""
        name = f"{time_ns()}.{uuid4().hex[:8]}.sluice"
        head = f"Return-Path: <{envelope.sender}>\r\n"
        head += "".join(f"Delivered-To: {recipient}\r\n" for recipient in envelope.recipients)
        (self.folder / "tmp" / name).write_bytes(head.encode() + envelope.message)
        (self.folder / "tmp" / name).rename(self.folder / "new" / name)
        return name

    def reply(self, phase: Phase, envelope: Envelope, default: str) -> Reply:
        """The handler of the SMTP server: accepts every mail."""
        return Reply(f"250 2.0.0 Ok: queued as {self.store(envelope)}" if phase is Phase.END_OF_DATA else default)


def list_mails(data_dir: Path, limit: int | None = None) -> Iterator[StoredMail]:
    """The mails of the demo's mailbox, newest first; none if the mailbox was never started."""
    folder = data_dir / FOLDER
    paths = [path for name in ("new", "cur") for path in (folder / name).glob("*.sluice*")]
    yield from islice(map(_stored, sorted(paths, key=lambda path: path.name, reverse=True)), limit)


def _stored(path: Path) -> StoredMail:
    mail = _parse(path.read_bytes())
    return StoredMail(
        path=path,
        received_at=datetime.fromtimestamp(int(path.name.split(".", 1)[0]) / 1e9, UTC),
        sender=str(mail.get("Return-Path", "")).strip("<>"),
        recipients=tuple(str(recipient) for recipient in mail.get_all("Delivered-To", [])),
        subject=str(mail.get("Subject", "")),
    )


def _parse(content: bytes) -> EmailMessage:
    return BytesParser(policy=policy.default).parsebytes(content)


async def serve(folder: Path, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    listener = await listen_smtp(Mailbox(folder), SmtpSettings(auth=False), host, port)
    print(f"mailbox: SMTP on {host}:{listener.port}, mails in {folder}", flush=True)
    await stop.wait()
    await listener.close()


def main() -> int:
    data_dir = Path(os.environ.get("SLUICE_DATA_DIR", ".sluice"))
    host = os.environ.get("SLUICE_HOST", "127.0.0.1")
    port = int(os.environ.get("SLUICE_PORT", PORT))
    try:
        asyncio.run(serve(data_dir / FOLDER, host, port))
    except OSError as error:
        print(f"mailbox: cannot listen on {host}:{port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
