"""Credentials of providers in requests and responses: validated by their package, shown as which fields are set."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from gateway.errors import ValidationFailed, from_faults
from gateway.kit.addresses import host_of
from gateway.providers.v1_schemas import CredentialsResponse, CredentialsStatus
from sluice.model import ids
from sluice.providers.account import UnusableAccountError, open_account
from sluice.providers.contract import AnyPackage, Credentials
from sluice.providers.kit.signatures import with_url_token
from sluice.providers.registry import get_package
from sluice.runtime.errors import SluiceError
from sluice.store.cipher import CredentialCipher
from sluice.store.providers import ProviderRow

MAX_CREDENTIALS = 8_192
"""Bytes of JSON. The largest genuine ones are a service account's file (2.4 KB), or a private key of 8,192 bits."""

_SHOWN = 4  # characters of a long value that are shown
_LONG = 16  # characters from which a value is long: its last ones help no guess
_URL = re.compile("https?://", re.IGNORECASE)
_SPACE = re.compile(r"\s")


def read_credentials(package: AnyPackage, document: Mapping[str, Any]) -> Credentials:
    """The credentials in a request.

    Raises:
        ValidationFailed: they are not those of the package; the error names the field and repeats no value.
    """
    try:
        encoded = json.dumps(dict(document))
        if len(encoded) > MAX_CREDENTIALS:
            raise ValidationFailed(f"credentials: may have at most {MAX_CREDENTIALS} bytes", field="credentials")
        credentials: Credentials = package.credentials.model_validate_json(encoded)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise from_faults([{**faults[0], "loc": ("credentials", *faults[0]["loc"])}], without=()) from None
    except (RecursionError, ValueError):
        raise ValidationFailed("credentials: are not JSON", field="credentials") from None
    return credentials


def hosts_of(credentials: Credentials) -> Iterator[tuple[str, str]]:
    """The hosts that the credentials name themselves, each with its field as requests have it.

    Raises:
        ValidationFailed: a URL names none; the field is named.
    """
    for name, field in type(credentials).model_fields.items():
        value = getattr(credentials, name)
        if not isinstance(value, str) or name not in credentials.model_fields_set:
            continue
        label = f"credentials.{field.alias or name}"
        if name == "host":
            yield label, value
        elif _URL.match(value):
            try:
                yield label, host_of(value)
            except ValueError as error:
                raise ValidationFailed(f"{label}: {error}", field=label) from None


def open_credentials(row: ProviderRow, cipher: CredentialCipher) -> Credentials | None:
    """The stored credentials; None if they cannot be read."""
    try:
        return open_account(row, cipher, {}).credentials
    except UnusableAccountError:
        return None


class ShownCredentials(NamedTuple):
    """What a response shows of a provider's credentials. ``receipt_url``: see :func:`show_credentials`."""

    credentials: CredentialsResponse
    receipt_url: str | None


def show_credentials(row: ProviderRow, cipher: CredentialCipher, public_url: str | None) -> ShownCredentials:
    """Which fields are set, without those of the model's defaults; and the address for the provider's webhook, with its
    token where the package uses one, None if it has no webhook or the installation no ``public_url``.
    """
    try:
        document = _decrypt(row, cipher)
        package = get_package(row.package)
        credentials = package.credentials.model_validate_json(json.dumps(dict(document)))
    except (LookupError, SluiceError, ValueError):  # the package is not installed, or they cannot be read
        return ShownCredentials(CredentialsResponse(status=CredentialsStatus.UNREADABLE, fields={}), None)
    shown = CredentialsResponse(status=CredentialsStatus.SET, fields=_mask(document))
    if public_url is None or package.parse_webhook is None:
        return ShownCredentials(shown, None)
    url = f"{public_url.rstrip('/')}/v1/receipts/{ids.encode_id('prv', row.id)}"
    token = getattr(credentials, "webhook_token", None)
    return ShownCredentials(shown, url if token is None else with_url_token(url, token))


def _decrypt(row: ProviderRow, cipher: CredentialCipher) -> Mapping[str, Any]:
    opened: Mapping[str, Any] = json.loads(
        cipher.decrypt(
            row.encrypted_credentials, project_id=row.project_id, provider_id=row.id, version=row.credentials_version
        )
    )
    return opened


def _mask(document: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The fields, those of nested objects with a dotted path, with the end of each long text."""
    shown: dict[str, str] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            shown |= _mask(value, f"{prefix}{name}.")
        elif value is not None:
            tail = (
                value[-_SHOWN:] if isinstance(value, str) and len(value) >= _LONG and not _SPACE.search(value) else ""
            )
            shown[prefix + name] = f"••••{tail}"
    return shown


def is_same(row: ProviderRow, cipher: CredentialCipher, document: Mapping[str, Any]) -> bool:
    """Whether the stored credentials are these."""
    try:
        return dict(_decrypt(row, cipher)) == dict(document)
    except (SluiceError, ValueError):
        return False
