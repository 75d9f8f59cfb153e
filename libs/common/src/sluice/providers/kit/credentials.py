"""Patterns that the credentials of several packages share, and the way to find every secret in one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, BaseModel, SecretStr

# No user info (it would be a second credential), no query, no fragment.
BASE_URL = r"^https?://[A-Za-z0-9._\[\]:-]{1,253}(/[A-Za-z0-9._~/-]*)?$"


def _header_safe(secret: SecretStr) -> SecretStr:
    """Without the blanks that pasting adds; refused when it could not stand in a header at all."""
    value = secret.get_secret_value().strip()
    if not re.fullmatch(r"[!-~]{1,1000}", value):
        raise ValueError("only printable ASCII characters, without blanks")
    return SecretStr(value)


# A secret that travels in a header: what is wrong with it is said when it is entered, not by every message.
HeaderSecret = Annotated[SecretStr, AfterValidator(_header_safe)]


def secrets_of(credentials: BaseModel) -> Iterator[str]:
    """Every secret inside, nested blocks included: what must not be in any text that leaves the house."""
    for name in type(credentials).model_fields:
        value = getattr(credentials, name)
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from secrets_of(value)
