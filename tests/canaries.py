"""Values that a test can recognise wherever they appear, for every field of a credential model that takes one."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, get_args
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel, SecretStr, ValidationError

from sluice.providers.contract import AnyPackage
from sluice_simulator.accounts import rsa_key

# Fields without which a secret of the model is refused.
COMPANIONS: Mapping[str, Mapping[str, Any]] = {
    "provider-smtp": {"auth": {"user": "shop"}},
    "provider-twilio": {"apiKeySid": "SK" + "0" * 32},
    "provider-twilio-whatsapp": {"apiKeySid": "SK" + "0" * 32},
}


# Where the account is reached: with another value no call would be made.
ADDRESSES = frozenset({"host", "baseUrl", "tokenUri"})


def secret_fields(model: type[BaseModel]) -> Iterator[str]:
    """The paths of the secret fields of a credential model, in the caller's spelling."""
    return _fields(model, SecretStr)


def text_fields(model: type[BaseModel]) -> Iterator[str]:
    """The paths of its other texts, such as the name of a user, without those that say where the account is."""
    return (path for path in _fields(model, str) if path.rpartition(".")[2] not in ADDRESSES)


def _fields(model: type[BaseModel], kind: type[Any], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        for part in _parts(field.annotation):
            if part is kind:
                yield path
            elif isinstance(part, type) and issubclass(part, BaseModel):
                yield from _fields(part, kind, f"{path}.")


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
        """These credentials with a value in every secret field of the package that they leave empty, and in every other
        text field that takes one.
        """
        found = deepcopy({**COMPANIONS.get(package.name, {}), **credentials})
        for path in secret_fields(package.credentials):
            owner, name = _owner(found, path)
            if name not in owner:
                owner[name] = _shaped(path, self(f"{package.name}.{path}"))
        for path in text_fields(package.credentials):
            found = self._with_text(package, found, path)
        return found

    def _with_text(self, package: AnyPackage, credentials: dict[str, Any], path: str) -> dict[str, Any]:
        """The credentials with the longest value that a text field accepts; as they were if it takes none."""
        value = f"canary{uuid4().hex}"
        for length in (len(value), 20, 11):  # 11: a sender of SMS
            other = deepcopy(credentials)
            owner, name = _owner(other, path)
            owner[name] = value[:length]
            try:
                package.credentials.model_validate(other)
            except ValidationError:
                continue
            self.values.setdefault(f"{package.name}.{path}", value[:length])
            owner[name] = self.values[f"{package.name}.{path}"]
            return other
        return credentials

    def search(self, content: bytes) -> list[str]:
        """The names of those in ``content``: plain, hexadecimal, percent-encoded, or in base64 at any offset."""
        lowered = content.lower()
        return [
            name
            for name, value in self.values.items()
            if any(form in content for form in _forms(value)) or value.encode().hex().encode() in lowered
        ]


def _owner(credentials: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """The object in which a field is, and its name there."""
    block, _, name = path.rpartition(".")
    return credentials if not block else credentials.setdefault(block, {}), name


def _shaped(path: str, canary: str) -> str:
    """A value of the form that the field has, with the canary in it."""
    if path != "serviceAccount":
        return canary
    # PEM allows text before the key.
    file = {"type": "service_account", "project_id": "sluice-demo", "client_email": "sender@sluice-demo.example"}
    return json.dumps({**file, "private_key": f"{canary}\n{rsa_key()}", "private_key_id": canary})


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
