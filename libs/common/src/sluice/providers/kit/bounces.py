"""From the words of a mail server, as providers repeat them in receipts, to the cause of a bounce."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sluice.model.reasons import Reason

ENHANCED_CODE = re.compile(r"(?<![\w.])[45]\.(\d{1,3}\.\d{1,3})(?!\w|\.\w)")
"""An enhanced status code of a failure anywhere in a text (RFC 3463): no part of an IP address or of a version."""

# What a mail server says about the content, the size, a full mailbox: alternatives of a pattern that ignores case.
SPAM_WORDS = r"\bspam\b|unsolicited|\bjunk\b|virus|malware|phish"
SIZE_WORDS = r"\bsize\b|too (big|large|long|many recipients)"
FULL_WORDS = r"(mailbox|inbox|recipient|user).{0,60}(\bfull\b|quota)"

# Subject and detail of an enhanced status code: RFC 3463, 6710, 7372, 7505.
STATUS_REASONS: Mapping[str, Reason] = {
    "1.1": Reason.UNKNOWN_RECIPIENT,
    "1.2": Reason.UNKNOWN_RECIPIENT,
    "1.3": Reason.INVALID_ADDRESS,
    "1.6": Reason.UNKNOWN_RECIPIENT,  # moved, without a new address
    "1.7": Reason.SENDER,
    "1.8": Reason.SENDER,
    "1.10": Reason.UNKNOWN_RECIPIENT,  # the domain takes no mail
    "2.1": Reason.DISABLED,
    "2.2": Reason.FULL,
    "2.3": Reason.TOO_LARGE,
    "3.4": Reason.TOO_LARGE,
    "4.7": Reason.EXPIRED,
    "7.1": Reason.BLOCKED,
}
# By the subject alone, for every other detail. No address is suppressed for any of them.
SUBJECT_REASONS: Mapping[str, Reason] = {
    "2": Reason.UNREACHABLE,  # the mailbox, neither closed nor full
    "3": Reason.UNREACHABLE,  # the recipient's mail system
    "4": Reason.UNREACHABLE,  # network and routing
    "5": Reason.NETWORK,  # the dialogue between the servers
    "6": Reason.INVALID_CONTENT,
    "7": Reason.POLICY,
}
# For a text without a code that says more than "other"; the first row that matches decides.
WORD_REASONS = tuple(
    (re.compile(words, re.IGNORECASE), reason)
    for words, reason in (
        (SPAM_WORDS, Reason.SPAM),
        (SIZE_WORDS, Reason.TOO_LARGE),
        (FULL_WORDS, Reason.FULL),
        (r"block|black ?list|\bdnsbl|\brbl\b|reputation", Reason.BLOCKED),
        (r"\bpolic|content|attachment|denied|prohibited|\bspf\b|\bdkim\b|dmarc", Reason.POLICY),
    )
)
# Subtypes of a bounce in the events of Amazon SES, of which Resend's are the same.
SUBTYPE_REASONS: Mapping[str, Reason] = {
    "NoEmail": Reason.UNKNOWN_RECIPIENT,
    "MailboxFull": Reason.FULL,
    "MessageTooLarge": Reason.TOO_LARGE,
    "ContentRejected": Reason.SPAM,
    "AttachmentRejected": Reason.POLICY,
    "MessageRejected": Reason.POLICY,
}


def bounce_reason(*words: object, subtype: object = None) -> Reason:
    """The cause of a bounce in the words of a mail server; OTHER when they name none.

    A known ``subtype`` decides, then the first enhanced status code, and without one whose subject is known the words.
    A bounce for OTHER suppresses its recipient (``sluice.model.suppression``), as do only the codes x.1.* and x.2.1.
    """
    if isinstance(subtype, str) and subtype in SUBTYPE_REASONS:
        return SUBTYPE_REASONS[subtype]
    said = " ".join(word for word in words if isinstance(word, str))
    if found := ENHANCED_CODE.search(said):
        subject = found[1].partition(".")[0]
        if subject == "1" or subject in SUBJECT_REASONS:
            return STATUS_REASONS.get(found[1]) or SUBJECT_REASONS.get(subject, Reason.OTHER)
    return next((reason for pattern, reason in WORD_REASONS if pattern.search(said)), Reason.OTHER)
