"""Ids: UUIDv7 internally, prefixed text in the API.

A UUIDv7 begins with 48 bits of Unix milliseconds. Ids sort by time, and a time range of rows is an id range: the large
tables are partitioned by it, and the deliveries of a message are found without another index.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_LENGTH = 26  # 128 bits in base 32
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = range(5 * (_LENGTH - 2), -1, -10)

_TIME = (1 << 48) - 1
_VERSION = 0x7 << 76 | 0b10 << 62
_RANDOM = (1 << 80) - 1 & ~(0xF << 76 | 0b11 << 62)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class _Entropy:
    """Random bytes of the operating system, read for hundreds of ids at once, because each read is a system call."""

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes; none is returned twice."""
        if self._at + count > len(self._bytes):
            self._bytes, self._at = os.urandom(4096), 0
        self._at += count
        return self._bytes[self._at - count : self._at]


_entropy = _Entropy()
# A forked child must not repeat its parent's ids.
os.register_at_fork(after_in_child=_entropy.__init__)  # type: ignore[misc]


class InvalidIdError(ValueError):
    """The text is not an id with the expected prefix."""


def uuid7(milliseconds: int | None = None) -> UUID:
    """A new UUIDv7 (RFC 9562) at ``milliseconds`` since the epoch, now by default."""
    when = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    random = int.from_bytes(_entropy.take(10), "big")
    return UUID(int=(when & _TIME) << 80 | random & _RANDOM | _VERSION)


def uuid7_like(of: UUID) -> UUID:
    """A new UUIDv7 of the same millisecond, so that related rows are in one table partition."""
    return uuid7(of.int >> 80)


def millisecond_range(of: UUID) -> tuple[UUID, UUID]:
    """The smallest and the largest id of the millisecond of ``of``."""
    floor = of.int >> 80 << 80
    return UUID(int=floor), UUID(int=floor | ((1 << 80) - 1))


def milliseconds_of(when: datetime) -> int:
    """Whole milliseconds since the epoch; computed without a float, which would be one less for some times."""
    return (when - _EPOCH) // _MILLISECOND


def min_id_at(when: datetime) -> UUID:
    """The smallest id of a row created at ``when`` or later: the bound of a table partition."""
    return UUID(int=milliseconds_of(when) << 80)


def created_at_of(identifier: UUID) -> datetime:
    """The creation time of the id, to the millisecond."""
    return _EPOCH + (identifier.int >> 80) * _MILLISECOND


def encode_id(prefix: str, identifier: UUID) -> str:
    """The public form: a prefix such as ``msg``, ``_``, and 26 letters and digits that sort like the id."""
    value = identifier.int
    return f"{prefix}_{''.join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])}"


def decode_id(prefix: str, text: str) -> UUID:
    """The id of a public form; a plain UUID is accepted too (the project API uses those).

    Raises:
        InvalidIdError: the text has another prefix or is not an id.
    """
    head, separator, tail = text.partition("_")
    if not separator:
        try:
            return UUID(text)
        except ValueError as error:
            raise InvalidIdError(f"{text[:64]!r} is not an id") from error
    if head != prefix or len(tail) != _LENGTH or any(letter not in _VALUES for letter in tail):
        raise InvalidIdError(f"{text[:64]!r} is not a {prefix}_… id")
    value = 0
    for letter in tail:
        value = value << 5 | _VALUES[letter]
    if value >> 128:
        raise InvalidIdError(f"{text[:64]!r} is not a {prefix}_… id")
    return UUID(int=value)


_MAX_ATTEMPT = 32_767  # of the column


def attempt_reference(delivery_id: UUID, number: int) -> str:
    """The client reference or idempotency key of an attempt; contains delivery id and attempt number."""
    return f"att_{delivery_id.hex}_{number}"


def parse_attempt_reference(text: str) -> tuple[UUID, int]:
    """The delivery id and attempt number of an attempt reference.

    Raises:
        InvalidIdError: the text is not an attempt reference.
    """
    head, _, rest = text.partition("_")
    digits, _, number = rest.partition("_")
    if head != "att" or len(digits) != 32 or not number.isascii() or not number.isdigit() or len(number) > 5:
        raise InvalidIdError(f"{text[:64]!r} is not an att_… reference")
    try:
        if int(number) > _MAX_ATTEMPT:
            raise InvalidIdError(f"{text[:64]!r} is not an att_… reference")
        return UUID(digits), int(number)
    except ValueError as error:
        raise InvalidIdError(f"{text[:64]!r} is not an att_… reference") from error
