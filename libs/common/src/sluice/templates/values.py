"""JSON values as Handlebars treats them: text, truth, equality, properties.

Nothing here reads an attribute of a value. Anything that is not a JSON value has no properties and cannot be printed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

from sluice.templates.limits import TemplateDataError

Value: TypeAlias = Any
"""None (also for a missing value), bool, int, float, str, list or dict with str keys."""

_DECIMAL_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_SPECIAL = re.compile(r"[&<>\"'`=]")
_MAX_NUMBER = 64  # characters of a text that is compared as a number
_EXACT = 10**21  # JavaScript prints larger numbers with an exponent


def text_of(value: Value, spend: Callable[[int], None] | None = None) -> str:
    """The text that a tag prints for a value; ``spend`` is charged one unit for each element of a list.

    Raises:
        TemplateDataError: not a JSON value.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, list):
        return _joined(value, spend)
    if isinstance(value, dict):
        return "[object Object]"
    raise TemplateDataError(f"a variable is not a JSON value: {type(value).__name__}")


def _number(value: int | float) -> str:
    if isinstance(value, int):
        if -_EXACT < value < _EXACT:
            return str(value)
        try:
            value = float(value)
        except OverflowError:
            return "Infinity" if value > 0 else "-Infinity"
    if value != value or value in (float("inf"), float("-inf")):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "0"
    if 1e-6 <= abs(value) < _EXACT:
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    return repr(value).replace("e-0", "e-").replace("e+0", "e+")


def _joined(value: list[Value], spend: Callable[[int], None] | None) -> str:
    """The elements with commas between them; an inner list joins the same way, without recursion."""
    parts: list[str] = []
    pending = [iter(value)]
    while pending:
        for element in pending[-1]:
            if spend is not None:
                spend(1)
            if isinstance(element, list) and element:
                pending.append(iter(element))
                break
            parts.append("" if isinstance(element, list) else text_of(element))
        else:
            pending.pop()
    return ",".join(parts)


def escape(text: str) -> str:
    """Text as HTML: safe in content and in quoted attributes."""
    if _SPECIAL.search(text) is None:
        return text
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return text.replace("'", "&#x27;").replace("`", "&#x60;").replace("=", "&#x3D;")


def is_falsy(value: Value) -> bool:
    """None, false, the empty text and zero; not the empty list."""
    return value is None or (isinstance(value, bool | int | float | str) and not value)


def is_empty(value: Value) -> bool:
    """None, false, the empty text and the empty list; not zero."""
    if isinstance(value, bool | str | list):
        return not value
    return value is None


def is_same(left: Value, right: Value) -> bool:
    """The ``==`` of JavaScript, but a list or an object equals only itself: ``3`` equals ``"3"`` and ``true`` is 1."""
    if left is None or right is None or isinstance(left, list | dict) or isinstance(right, list | dict):
        return left is right
    if isinstance(left, str) != isinstance(right, str):
        left, right = _as_number(left), _as_number(right)
    return bool(left == right)


def _as_number(value: bool | int | float | str) -> float | int | None:
    """A number, or None for text that is no decimal number or is too long for one; the empty text is 0."""
    if not isinstance(value, str):
        return value
    if len(value) > _MAX_NUMBER:
        return None
    text = value.strip()
    if not text:
        return 0
    return float(text) if _DECIMAL_NUMBER.fullmatch(text) else None


def index_of(name: str) -> int | None:
    """The position that a property name means in a list or text."""
    return int(name) if _INDEX.fullmatch(name) else None


def property_of(value: Value, name: str, index: int | None) -> Value:
    """The property ``name``, where ``index`` is :func:`index_of` it: a key of an object, an element, a length."""
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, list | str):
        if index is not None:
            return value[index] if index < len(value) else None
        return len(value) if name == "length" else None
    return None
