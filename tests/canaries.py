"""Secrets that a test can recognise wherever they appear, for every secret field of a credential model."""

import base64
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, get_args
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel, SecretStr

from sluice.providers.contract import AnyPackage

# Fields that are an alternative to others of the same model: both at once are refused.
ALTERNATIVES: Mapping[str, frozenset[str]] = {"provider-fcm": frozenset({"serviceAccount"})}
# Fields without which a secret of the model is refused.
COMPANIONS: Mapping[str, Mapping[str, Any]] = {
    "provider-smtp": {"auth": {"user": "shop"}},
    "provider-twilio": {"apiKeySid": "SK" + "0" * 32},
    "provider-twilio-whatsapp": {"apiKeySid": "SK" + "0" * 32},
}


def secret_fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The paths of the secret fields of a credential model, in the caller's spelling."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        for part in _parts(field.annotation):
            if part is SecretStr:
                yield path
            elif isinstance(part, type) and issubclass(part, BaseModel):
                yield from secret_fields(part, f"{path}.")


def _parts(annotation: object) -> Iterator[object]:
    """The types in an annotation such as ``Annotated[SecretStr, …] | None``."""
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for part in inner:
        yield from _parts(part)


class Canaries:
    """Unique values by ``package.field``."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        """The value of a field, always the same one."""
        return self.values.setdefault(name, f"canary00{uuid4().hex}")

    def complete(self, package: AnyPackage, credentials: Mapping[str, Any]) -> dict[str, Any]:
        """These credentials with a value in every secret field of the package that they leave empty."""
        found = deepcopy({**COMPANIONS.get(package.name, {}), **credentials})
        for path in secret_fields(package.credentials):
            block, _, name = path.rpartition(".")
            owner = found if not block else found.setdefault(block, {})
            if path not in ALTERNATIVES.get(package.name, ()):
                owner.setdefault(name, self(f"{package.name}.{path}"))
        return found

    def search(self, content: bytes) -> list[str]:
        """The names of those in ``content``: plain, hexadecimal, percent-encoded, or in base64 at any offset."""
        lowered = content.lower()
        return [
            name
            for name, value in self.values.items()
            if any(form in content for form in _forms(value)) or value.encode().hex().encode() in lowered
        ]


def _forms(value: str) -> Iterator[bytes]:
    raw = value.encode()
    yield raw
    yield quote(value, safe="").encode()
    yield "".join(f"%{octet:02x}" for octet in raw).encode()
    yield "".join(f"%{octet:02X}" for octet in raw).encode()
    for offset in range(3):
        # Without the characters that depend on the octets around the value.
        text = base64.b64encode(b"\0" * offset + raw)
        whole = text[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6]
        yield whole
        yield re.sub(rb"\+", b"-", re.sub(rb"/", b"_", whole))
