"""The header of an answer that repeats an earlier one."""

from __future__ import annotations

from typing import Any

REPLAYED_HEADER: dict[str, Any] = {
    "Idempotent-Replayed": {
        "schema": {"const": "true"},
        "description": "Present when the idempotency key was used before: this is the answer to the first request.",
    }
}
"""For the ``headers`` of a documented response."""
