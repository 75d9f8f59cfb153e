"""Field types that the credentials of several packages share, and a walk over all secrets of one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from cryptography.exceptions import UnsupportedAlgorithm
from pydantic import AfterValidator, BaseModel, SecretStr

from sluice.providers.kit.signatures import load_p256_key

# No user info (it would be a second credential), no query, no fragment.
BASE_URL = r"^https?://[A-Za-z0-9._\[\]:-]{1,253}(/[A-Za-z0-9._~/-]{0,500})?$"


def _header_safe(secret: SecretStr) -> SecretStr:
    """Without surrounding blanks; refused when it is not valid in a header."""
    value = secret.get_secret_value().strip()
    if not re.fullmatch(r"[!-~]{1,1000}", value):
        raise ValueError("only printable ASCII characters, without blanks")
    return SecretStr(value)


# A secret that is sent in a header: an invalid one is refused when it is configured, not by every message.
HeaderSecret = Annotated[SecretStr, AfterValidator(_header_safe)]


def _unguessable(secret: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,200}", secret.get_secret_value()):
        raise ValueError("16 to 200 random characters A-Z a-z 0-9 _ -")
    return secret


# The token in the address of a provider's receipts, where the provider signs nothing.
WebhookToken = Annotated[SecretStr, AfterValidator(_unguessable)]


def _p256_key(text: str) -> str:
    key = "".join(text.split())
    try:
        load_p256_key(key)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be the base64 text of a public key on the curve P-256") from None
    return key


# A provider's key for its webhooks: base64 of a DER SubjectPublicKeyInfo, without line breaks. It is no secret.
P256PublicKey = Annotated[str, AfterValidator(_p256_key)]


def secrets_of(credentials: BaseModel) -> Iterator[str]:
    """Every secret inside, nested blocks included: none may be in a log, an event or an error text."""
    for name in type(credentials).model_fields:
        value = getattr(credentials, name)
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, BaseModel):
            yield from secrets_of(value)
