"""A provider's text for storing and showing: without addresses, secrets and control characters."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus

_SHORT = 4  # characters: a shorter form is hidden as a whole word only
MAX_REASON = 300  # characters of a reason; enough for every documented error text

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+")
_MAIL_ADDRESS = re.compile(r"[^\s<>\"'(),;:=]{1,64}@[^\s<>\"'(),;:=]{1,255}")
_NUMBER = re.compile(r"\+\d[\d ().-]{5,18}\d|(?<![\w.-])\d{9,15}(?![\w.-])")


def redact(text: str, *, secrets: Iterable[str] = (), limit: int = MAX_REASON) -> str:
    """One line of ``text`` without mail addresses, telephone numbers and ``secrets``, in any form they are sent in."""
    text = text[: 4 * limit]  # bounds the work below: a provider's text has no upper limit
    pattern = _pattern(frozenset(secrets))
    if pattern is not None:
        text = pattern.sub("<hidden>", text)
    text = _CONTROL.sub(" ", text)
    text = _NUMBER.sub("<number>", _MAIL_ADDRESS.sub("<address>", text))
    return text.strip()[:limit]


@lru_cache(4096)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    """Matches every form of each secret; None without one."""
    whole = {form for secret in secrets if secret for form in _plain_forms(secret)}
    encoded = {form for secret in secrets for form in _base64_forms(secret)}
    # A secret of a few letters is also a part of many words.
    words = [rf"(?<!\w){re.escape(form)}(?!\w)" if len(form) < _SHORT else re.escape(form) for form in whole]
    tokens = [rf"[A-Za-z0-9+/_-]*{re.escape(form)}[A-Za-z0-9+/_-]*=*" for form in encoded]
    alternatives = sorted(tokens, key=len, reverse=True) + sorted(words, key=len, reverse=True)
    return re.compile("|".join(alternatives)) if alternatives else None


def _plain_forms(secret: str) -> Iterator[str]:
    """As it is, and as a URL, a form, JSON, HTML and hexadecimal digits contain it."""
    yield from (secret, quote(secret, safe=""), quote(secret), quote_plus(secret))
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], html.escape(secret))
    yield from (secret.encode().hex(), secret.encode().hex().upper())


def _base64_forms(secret: str) -> Iterator[str]:
    """The letters that the secret alone determines, wherever it lies in what was encoded (AUTH PLAIN, Basic)."""
    content = secret.encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + content).decode("ascii")
        first = -(-before * 8 // 6)
        last = (before + len(content)) * 8 // 6
        form = encoded[first:last]
        if len(form) >= _SHORT:
            yield form
            yield form.translate(str.maketrans("+/", "-_"))
