"""The headers of a limit in an OpenAPI document."""

from __future__ import annotations

from typing import Any

from gateway.rate_limits.middleware import HEADERS


def add_rate_limits(document: dict[str, Any]) -> None:
    """Every response of ``document`` may have the headers of a limit."""
    limits = {name: {"schema": {"type": "integer"}, "description": text} for name, text in HEADERS.items()}
    document.setdefault("components", {})["headers"] = limits
    named = {name: {"$ref": f"#/components/headers/{name}"} for name in limits}
    for item in document["paths"].values():
        for operation in item.values():
            for response in operation["responses"].values():
                response.setdefault("headers", {}).update(named)
