"""Patterns that the credentials of several packages share, and the way to find every secret in one."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, SecretStr

# No user info (it would be a second credential), no query, no fragment.
BASE_URL = r"^https?://[A-Za-z0-9._\[\]:-]{1,253}(/[A-Za-z0-9._~/-]*)?$"


def secrets_of(credentials: BaseModel) -> Iterator[str]:
    """Every secret inside, nested blocks included: what must not be in any text that leaves the house."""
    for name in type(credentials).model_fields:
        value = getattr(credentials, name)
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from secrets_of(value)
