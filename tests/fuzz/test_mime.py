"""Mails of damaged parts: one header of each kind, no line end that the mail's reader takes for another."""

import re
from email import message_from_bytes, policy

from hypothesis import strategies as st
from pydantic import ValidationError

from sluice.model.message import Email
from sluice.providers.contract import UnsupportedMessageError
from sluice.providers.kit.mime import write_mail
from tests.fuzz.fuzzing import damaged_text, fuzz
from tests.unit.providers.examples import NOON, an_attachment

SUBJECTS = ["Grüße aus Köln", "=?utf-8?q?a?=", "x" * 200, "Bcc: eve@example.com"]
SENDERS = ["Shop <shop@example.com>", '"A \\"B\\" C" <a@example.com>', "Ö <ö@example.com>"]
TEXTS = ["Hello\r\n.\r\nBcc: x", "From here\n\n--boundary--", "ж" * 500]
NAMES = ["Übersicht.pdf", 'a";filename="b.exe', "жж" * 60]
FOLLOWED = {"from", "to", "subject", "date", "message-id", "bcc", "cc"}


@fuzz(
    subject=damaged_text(SUBJECTS),
    sender=damaged_text(SENDERS),
    text=damaged_text(TEXTS),
    name=damaged_text(NAMES),
    attached=st.booleans(),
)
def test_a_mail_has_the_headers_of_its_message_and_no_other(subject, sender, text, name, attached):
    file = None
    try:
        if attached:
            file = an_attachment(b"content", filename=name)
        mail = Email(
            sender=sender, to=("ada@example.com",), subject=subject, text=text, attachments=(file,) if file else ()
        )
        raw = write_mail(
            mail, message_id="msg_1", date=NOON, contents={file.sha256: b"content"} if file is not None else {}
        )
    except (ValidationError, UnsupportedMessageError, UnicodeEncodeError, ValueError):
        return

    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", raw)
    assert b"\x00" not in raw
    found = message_from_bytes(raw, policy=policy.compat32)
    names = [header.lower() for header in found]
    assert "bcc" not in names
    assert len(names) == len(set(names))
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
