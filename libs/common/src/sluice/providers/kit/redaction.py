"""A provider's text for storing and showing: without addresses, secrets and control characters."""

from __future__ import annotations

import re
from collections.abc import Iterable

MAX_REASON = 300  # characters of a reason; enough for every documented error text

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_MAIL_ADDRESS = re.compile(r"[^\s<>\"'(),;:=]{1,64}@[^\s<>\"'(),;:=]{1,255}")
_NUMBER = re.compile(r"\+\d[\d ().-]{5,18}\d|(?<![\w.-])\d{9,15}(?![\w.-])")


def redact(text: str, *, secrets: Iterable[str] = (), limit: int = MAX_REASON) -> str:
    """One line of ``text`` without mail addresses, telephone numbers and the words in ``secrets``."""
    text = text[: 4 * limit]  # bounds the work below: a provider's text has no upper limit
    for word in sorted((w for w in secrets if len(w) > 3), key=len, reverse=True):
        text = text.replace(word, "<hidden>")
    text = _CONTROL.sub(" ", text)
    text = _NUMBER.sub("<number>", _MAIL_ADDRESS.sub("<address>", text))
    return text.strip()[:limit]
