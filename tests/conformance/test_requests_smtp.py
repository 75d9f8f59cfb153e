"""Every mail of the SMTP package is one that Python's own parser reads without a defect, with what the message says.

A real Postfix takes mails of the same package in ``tests/mta``.
"""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.message import EmailMessage

from sluice.model.address import parse_address
from sluice.model.message import Email
from sluice.providers.contract import OutboundMessage
from sluice.providers.kit.smtp_types import Submission
from sluice.providers.registry import get_package
from tests.conformance.conftest import Conforms
from tests.conformance.messages import email_messages

_LINE = 998  # octets, RFC 5322, 2.1.1


def lines(text: str | None) -> list[str]:
    """A text by its lines, whatever ends them, without empty ones at its end: MIME does not keep those."""
    return re.split(r"\r\n|\r|\n", (text or "").rstrip("\r\n"))


def test_every_mail_is_read_without_a_defect(conforms: Conforms) -> None:
    def check(submission: Submission, message: OutboundMessage) -> None:
        mail = message.content
        assert isinstance(mail, Email)
        raw = submission.message
        assert not re.search(rb"(?<!\r)\n|\r(?!\n)", raw)
        assert max(map(len, raw.split(b"\r\n"))) <= _LINE
        parsed = message_from_bytes(raw, policy=policy.SMTPUTF8 if submission.utf8 else policy.default)
        assert isinstance(parsed, EmailMessage)
        assert [defect for part in parsed.walk() for defect in part.defects] == []
        assert "bcc" not in parsed
        # Only the server that has the mailbox knows whether it ignores the case of its name (RFC 5321, 2.4).
        everyone = {parse_address(one).bare for one in (*mail.to, *mail.cc, *mail.bcc)}
        assert sorted(submission.recipients) == sorted(everyone)
        for kind, text in (("plain", mail.text), ("html", mail.html)):
            body = parsed.get_body(preferencelist=(kind,))
            assert (body is None) == (text is None)
            if body is not None:
                assert lines(body.get_content()) == lines(text)

    conforms(get_package("provider-smtp"), email_messages(), check)
