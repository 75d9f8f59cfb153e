"""What messages cost, as whole millionths: sums in any order are exact, and equal in Python and in SQL.

The currency is the project's own: prices and costs have the unit in which the operator wrote ``settings.price``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MILLIONTHS = 1_000_000


def price_of(settings: Mapping[str, Any]) -> int | None:
    """The price of a provider with these settings, in millionths; None: it has none."""
    price = settings.get("price")
    return None if price is None else round(price * _MILLIONTHS)


def in_currency(millionths: int) -> float:
    """A cost as people read it."""
    return millionths / _MILLIONTHS
