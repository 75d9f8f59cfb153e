"""JSON that every reader reads in the same way."""

from __future__ import annotations

import json
import math
import re
import secrets
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from gateway.errors import ValidationFailed, field_of
from gateway.kit.body_cost import PIECE, end_of_text
from gateway.kit.fields import storable

NUL = b"\\u0000"
"""How a NUL stands in the text of a JSON document; a raw one is no JSON."""


def strict_json(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``, every text of which PostgreSQL and UTF-8 can represent.

    Raises:
        ValidationFailed: see :func:`object_of`; or a text or a name contains NUL: its path is the field.
    """
    document = object_of(body)
    if NUL in body:
        check_storable(document)
    return document


def object_of(body: bytes) -> dict[str, Any]:
    """The JSON object in ``body``, whose texts may contain NUL.

    Raises:
        ValidationFailed: the body is not UTF-8, no valid JSON or no object; an object has a key twice; a number is out
            of range or not finite; or a text contains half of a surrogate pair.
    """
    try:
        short, texts = _without_long_texts(body) if len(body) > _LONG_TEXT else (body, {})
        document = _DECODER.decode(short.decode())
        if b"\\u" in short or short.count(b"[") + short.count(b"{") > _MAX_DEPTH:
            orjson.dumps(document)
        if texts:
            document = _with_texts(document, texts)
    except UnicodeDecodeError:
        raise ValidationFailed("The body is not UTF-8.") from None
    except (json.JSONDecodeError, RecursionError):
        raise ValidationFailed("The body is not valid JSON.") from None
    except orjson.JSONEncodeError:
        raise ValidationFailed("The body is nested too deeply, or contains half of a surrogate pair.") from None
    except ValueError as error:
        raise ValidationFailed(str(error)) from None
    if not isinstance(document, dict):
        raise ValidationFailed("The body is not a JSON object.")
    return document


def _without_long_texts(body: bytes) -> tuple[bytes, dict[str, str]]:
    """``body`` with a short text for each long one that is no name, and the long ones by these.

    The decoder reads a text in one call, in which nothing else runs: 45 ms for 26 MB, and 300 where it has escapes.
    """
    mark = secrets.token_hex(16)
    parts: list[bytes] = []
    texts: dict[str, str] = {}
    copied = position = 0
    while (start := body.find(b'"', position) + 1) > 0:
        end = end_of_text(body, start)
        if end - start > _LONG_TEXT and end < len(body) and not _BEFORE_VALUE.match(body, end + 1):
            name = f"{mark}{len(texts)}"
            texts[name] = "".join(_pieces_of_text(body, start, end))
            parts += [body[copied:start], name.encode()]
            copied = end
        position = end + 1
    return b"".join([*parts, body[copied:]]), texts


def _pieces_of_text(body: bytes, start: int, end: int) -> Iterator[str]:
    """The text between two quotation marks, unescaped; between two pieces other threads run."""
    has_escapes = body.find(b"\\", start, end) >= 0
    while start < end:
        stop = min(start + PIECE, end)
        if has_escapes:
            stop = _WHOLE_CHARACTERS.match(body, start, stop).end()  # type: ignore[union-attr]  # also of nothing
        while stop < end and body[stop] & 0xC0 == 0x80:  # inside of a character
            stop -= 1
        if stop <= start:
            stop = end  # half of a surrogate pair, or no escape: the decoder or the encoder refuses it
        piece: str = _DECODER.decode(f'"{body[start:stop].decode()}"')
        if stop == end and has_escapes:
            orjson.dumps(piece)
        yield piece
        start = stop


def _with_texts(value: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _with_texts(inner, texts) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_texts(item, texts) for item in value]
    return texts.get(value, value) if isinstance(value, str) else value


class _Node(NamedTuple):
    """An object or a list of a document, and where it is. A path as text would be copied for every value in it."""

    value: Any
    name: str | int | None = None
    parent: _Node | None = None


def check_storable(document: dict[str, Any]) -> None:
    """Check every text and every name of a JSON document.

    Raises:
        ValidationFailed: PostgreSQL cannot represent one (:func:`gateway.kit.fields.storable`). The field is its path;
            of a name, the object's.
    """
    nodes = [_Node(document)]
    for node in nodes:  # which grows
        inner: Iterable[tuple[str | int, Any]]
        if isinstance(node.value, dict):
            _check("".join(node.value), node)
            inner = node.value.items()
        else:
            inner = enumerate(node.value)
        for name, value in inner:
            if isinstance(value, str):
                _check(value, node, name)
            elif isinstance(value, dict | list):
                nodes.append(_Node(value, name, node))


def _check(text: str, node: _Node, *name: str | int) -> None:
    try:
        storable(text)
    except ValueError as error:
        field = field_of([*_path(node), *name])
        raise ValidationFailed(f"{field}: {error}" if field else f"A name {error}.", field=field) from None


def _path(node: _Node | None) -> list[str | int]:
    names: list[str | int] = []
    while node is not None and node.name is not None:
        names.append(node.name)
        node = node.parent
    return names[::-1]


def without_nulls(value: Any, *, free: Container[str]) -> Any:
    """``value`` without the null fields of its objects; the values of fields named in ``free`` are the caller's own."""
    if isinstance(value, dict):
        return {
            name: inner if name in free else without_nulls(inner, free=free)
            for name, inner in value.items()
            if inner is not None
        }
    return [without_nulls(item, free=free) for item in value] if isinstance(value, list) else value


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of ``pairs``.

    Raises:
        ValueError: a key is there twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        [(key, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f'Duplicate key "{key[:100]}" in a JSON object')
    return found


def _int64(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= int(digits) < 1 << 64:
        raise ValueError(f"Number out of range: {digits[:40]}")
    return int(digits)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"Number out of range: {text[:40]}")
    return number


_LONG_TEXT = 64 << 10  # bytes
_BEFORE_VALUE = re.compile(rb"[ \t\r\n]*+:")
# Whole escapes and characters of a text; of a surrogate pair both halves, and no half.
_WHOLE_CHARACTERS = re.compile(
    rb"(?:[^\"\\]++|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u])*+",
    re.DOTALL,
)
_MAX_DEPTH = 200  # objects and arrays in one another; orjson writes 254
_DECODER = json.JSONDecoder(
    object_pairs_hook=no_duplicates, parse_int=_int64, parse_float=_finite, parse_constant=_finite
)
