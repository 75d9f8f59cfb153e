"""The inline helpers: pure functions of JSON values. Block helpers are in :mod:`sluice.templates.blocks`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from sluice.templates.values import Value, index_of, is_empty, is_falsy, property_of, text_of

Spend = Callable[[int], None]
"""Charges work units to the rendering."""

_DATE_PARTS = {
    "YYYY": "{0.year:04}",
    "MM": "{0.month:02}",
    "DD": "{0.day:02}",
    "HH": "{0.hour:02}",
    "mm": "{0.minute:02}",
    "ss": "{0.second:02}",
}
_DATE_PART = re.compile("|".join(_DATE_PARTS))
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,  # `fromisoformat` alone accepts some texts that are no date
)


class Helper(NamedTuple):
    """``function`` takes the charge and ``arguments`` values, the last ``optional`` of which may be absent."""

    arguments: int
    function: Callable[..., Value]
    optional: int = 0


def _uppercase(spend: Spend, value: Value) -> Value:
    return text_of(value, spend).upper()


def _lowercase(spend: Spend, value: Value) -> Value:
    return text_of(value, spend).lower()


def _capitalize(spend: Spend, value: Value) -> Value:
    text = text_of(value, spend)
    return text[:1].upper() + text[1:]


def _default(spend: Spend, value: Value, fallback: Value) -> Value:
    return fallback if is_empty(value) else value


def _lookup(spend: Spend, value: Value, name: Value) -> Value:
    if is_falsy(value):
        return value
    key = text_of(name, spend)
    return property_of(value, key, index_of(key))


def _format_date(spend: Spend, value: Value, *pattern: Value) -> Value:
    """The date as written, without conversion of its time zone; other values stay as they are.

    Without a pattern: as ``toLocaleDateString`` of JavaScript in the locale en-US, ``1/15/2024``.
    """
    moment = _moment(value)
    if moment is None:
        return value
    if not pattern:
        return f"{moment.month}/{moment.day}/{moment.year}"
    text = text_of(pattern[0], spend)
    spend(len(text) // 4)  # a part has at least two characters and takes as long as a node
    return _DATE_PART.sub(lambda part: _DATE_PARTS[part[0]].format(moment), text)


def _moment(value: Value) -> datetime | None:
    """ISO 8601 text, or a number of milliseconds since 1970 in UTC, as JavaScript's ``Date`` takes them."""
    try:
        if isinstance(value, str) and _DATE.fullmatch(value):
            return datetime.fromisoformat(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    return None


HELPERS = {
    "uppercase": Helper(1, _uppercase),
    "lowercase": Helper(1, _lowercase),
    "capitalize": Helper(1, _capitalize),
    "default": Helper(2, _default),
    "formatDate": Helper(2, _format_date, optional=1),
    "lookup": Helper(2, _lookup),
}
