"""Terms: what a message is found by in a list. A term is a hash, so that equal texts are one number in an index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum


class TermKind(StrEnum):
    """What a term stands for."""

    FROM = "from"
    TO = "to"  # every recipient, also in cc and bcc
    TAG = "tag"
    BULK = "bulk"  # the id of a bulk job


_PREFIXES = {(kind, sandbox): f"{sandbox:d}{kind}:" for kind in TermKind for sandbox in (False, True)}


def term(kind: TermKind, text: str, *, sandbox: bool) -> int:
    """The term of ``text`` among the test messages (``sandbox``) or the live ones of a project, a signed 64-bit number.

    An address counts without its name and in any case. Two of ten million texts of one project share a term with a
    probability of 1 in 370,000.
    """
    if kind in (TermKind.FROM, TermKind.TO):
        text = bare(text)
    named = _PREFIXES[kind, sandbox] + text
    digest = hashlib.blake2b(named.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def terms_of(
    *, sender: str | None, recipients: Iterable[str], tags: Iterable[str], bulk: str | None, sandbox: bool
) -> tuple[int, ...]:
    """The terms of a message, each once."""
    found = [term(TermKind.TO, recipient, sandbox=sandbox) for recipient in recipients]
    if sender is not None:
        found.append(term(TermKind.FROM, sender, sandbox=sandbox))
    found += [term(TermKind.TAG, tag, sandbox=sandbox) for tag in tags]
    if bulk is not None:
        found.append(term(TermKind.BULK, bulk, sandbox=sandbox))
    return tuple(dict.fromkeys(found))


def bare(address: str) -> str:
    """An address without its display name, for comparison: ``Ada <ada@example.com>`` is ``ada@example.com``."""
    if "<" not in address:
        return address.strip(" >").strip().casefold()
    head, _, tail = address.rpartition("<")
    return (tail.rstrip().removesuffix(">") if head.strip() else address.strip(" <>")).strip().casefold()
