"""Types of command-line arguments."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def within(kind: type[int] | type[float], low: float, high: float) -> Callable[[str], float]:
    """The type of an argument that is a number of ``kind`` from ``low`` to ``high``, for ``add_argument``."""

    def parse(text: str) -> float:
        try:
            found = kind(text)
        except ValueError:
            found = math.nan
        if not low <= found <= high:
            raise argparse.ArgumentTypeError(f"must be {low:,} to {high:,}")
        return found

    return parse
