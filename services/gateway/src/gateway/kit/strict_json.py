"""JSON that every reader reads in the same way."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from gateway.errors import ValidationFailed


def strict_json(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``, which is known to be valid JSON and an object.

    Raises:
        ValidationFailed: an object has a key twice, or a number is out of range or not finite.
        RecursionError: the object is nested too deeply.
        UnicodeDecodeError: the body is not UTF-8.
    """
    try:
        document: dict[str, Any] = _DECODER.decode(body.decode())
    except ValueError as error:
        raise ValidationFailed(str(error)) from None
    return document


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        [(key, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f'Duplicate key "{key[:100]}" in a JSON object')
    return found


def _int64(digits: str) -> int:
    if not -(1 << 63) <= int(digits) < 1 << 64:
        raise ValueError(f"Number out of range: {digits[:40]}")
    return int(digits)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"Number out of range: {text[:40]}")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_int=_int64, parse_float=_finite, parse_constant=_finite
)
