"""What a body costs to decode, found out before it is decoded, and how much of it the gateway holds.

Decoding is linear in the bytes of a body with two very different factors: a long text costs 1 ms per MB, an array of
numbers 400 (docs/decisions/0033). The scan reads strings with ``find``, and stops where the limits are passed.
"""

from __future__ import annotations

import re
from collections import Counter
from uuid import UUID

from gateway.errors import PayloadTooLarge, TooManyRequests

SMALL = 32 << 10  # bytes; such a body is decoded in less than 10 ms whatever it contains
MAX_WITHOUT_ATTACHMENTS = 1 << 20  # bytes of a request beside the contents of its attachments
_LONG_TEXT = 512  # bytes from which a text may be an attachment
_MAX_STRUCTURE = 256 << 10  # bytes outside of texts: numbers, brackets, white space
_MAX_TEXTS = 12_000  # names and values: 3,000 recipients and everything else that is allowed are below half of that
PIECE = 8 << 10  # bytes of a text with escapes that one call of the pattern reads: no call holds the interpreter long
_IN_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


def check_cost(body: bytes, *, messages: int = 1) -> None:
    """Refuse a body that costs more than ``messages`` large mails to decode. The body need not be JSON.

    Raises:
        PayloadTooLarge: it has more than 1 MiB beside long texts, more than 256 KiB outside of texts, or more than
            12,000 texts, for each message.
    """
    max_texts, max_structure = messages * _MAX_TEXTS, messages * _MAX_STRUCTURE
    max_short = messages * MAX_WITHOUT_ATTACHMENTS
    position = texts = structure = short = 0
    while (start := body.find(b'"', position)) >= 0:
        end = end_of_text(body, start + 1)
        structure += start - position
        texts += 1
        short += end - start if end - start < _LONG_TEXT else 0
        if texts > max_texts or structure > max_structure or short > max_short:
            break
        position = end + 1
    else:
        structure += max(0, len(body) - position)
    if texts > max_texts or structure > max_structure:
        raise PayloadTooLarge("The body has too many fields, items or blanks: only attachments may be large.")
    if short > max_short:
        raise too_large_without_attachments()


def check_texts(body: bytes, limit: int) -> None:
    """Refuse a body that has more than ``limit`` bytes beside texts of at least 512 bytes. The body need not be JSON.

    Raises:
        PayloadTooLarge: it has.
    """
    position = beside = 0
    while beside <= limit and (start := body.find(b'"', position)) >= 0:
        end = end_of_text(body, start + 1)
        beside += (start if end - start >= _LONG_TEXT else end + 1) - position
        position = end + 1
    if beside + max(0, len(body) - position) > limit:
        raise PayloadTooLarge(f"Without texts of {_LONG_TEXT} bytes and more the body may have at most {limit} bytes.")


def too_large_without_attachments() -> PayloadTooLarge:
    """The error of a request that is large without its attachments."""
    return PayloadTooLarge(f"Without its attachments the body may have at most {MAX_WITHOUT_ATTACHMENTS} bytes.")


def end_of_text(body: bytes, start: int) -> int:
    """The position of the quotation mark that ends the text from ``start``; of the end of the body, if none does."""
    end = body.find(b'"', start)
    if end < 0:
        return len(body)
    if body.find(b"\\", start, end) < 0:
        return end
    while start < len(body):
        found = _IN_TEXT.match(body, start, start + PIECE)
        end = start if found is None else found.end()
        if end == start or body[end : end + 1] == b'"':
            return end
        start = end
    return len(body)


class BodyBudget:
    """The bytes of large bodies that one process holds, for each project and in all."""

    def __init__(self, *, total: int, per_project: int) -> None:
        self._total = total
        self._per_project = per_project
        self._held: Counter[UUID] = Counter()
        self._held_total = 0

    def body(self, project_id: UUID) -> HeldBody:
        """The count of one body of this project."""
        return HeldBody(self, project_id)

    def hold(self, project_id: UUID, size: int) -> None:
        """Count ``size`` more bytes of a body of this project.

        Raises:
            TooManyRequests: the project, or all together, hold too much; nothing is counted.
        """
        if self._held_total + size > self._total or self._held[project_id] + size > self._per_project:
            raise TooManyRequests(
                "Too many bytes of large requests are under way. Retry after the delay in Retry-After."
            )
        self._held[project_id] += size
        self._held_total += size

    def release(self, project_id: UUID, size: int) -> None:
        """The bytes are no longer in memory."""
        self._held_total -= size
        self._held[project_id] -= size
        if not self._held[project_id]:
            del self._held[project_id]


class HeldBody:
    """The bytes of one body, counted while it arrives and until they are released. A small body is not counted."""

    __slots__ = ("_budget", "_held", "_project_id", "_size")

    def __init__(self, budget: BodyBudget, project_id: UUID) -> None:
        self._budget = budget
        self._project_id = project_id
        self._size = 0
        self._held = 0

    def __call__(self, size: int) -> None:
        """``size`` more bytes are going to be read.

        Raises:
            TooManyRequests: see :meth:`BodyBudget.hold`.
        """
        self._size += size
        if self._size > SMALL:
            self._budget.hold(self._project_id, self._size - self._held)
            self._held = self._size

    def release(self) -> None:
        """The body is no longer in memory."""
        if self._held:
            self._budget.release(self._project_id, self._held)
