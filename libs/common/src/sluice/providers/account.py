"""An account: a provider's row with its package and its decrypted credentials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from pydantic import ValidationError

from sluice.providers.contract import AnyPackage, Credentials
from sluice.providers.registry import UnknownPackageError, get_package
from sluice.providers.sms_link import Links
from sluice.runtime.errors import SluiceError


class AccountRow(Protocol):
    """The columns of a provider's row that an account is opened from."""

    @property
    def id(self) -> UUID: ...
    @property
    def project_id(self) -> UUID: ...
    @property
    def package(self) -> str: ...
    @property
    def encrypted_credentials(self) -> bytes: ...
    @property
    def version(self) -> int: ...
    @property
    def credentials_version(self) -> int: ...


class Cipher(Protocol):
    """Decrypts credentials; raises SluiceError when they do not belong to this row and key."""

    def decrypt(self, ciphertext: bytes, *, project_id: UUID, provider_id: UUID, version: int) -> bytes: ...


class UnusableAccountError(SluiceError):
    """The account cannot be used: its package is not installed, or its credentials cannot be read."""


@dataclass(frozen=True, slots=True)
class Account:
    """One provider, ready to be called. ``version`` is that of the row it was opened from."""

    provider_id: UUID
    version: int
    package: AnyPackage
    credentials: Credentials = field(repr=False)


def open_account(row: AccountRow, cipher: Cipher, links: Links) -> Account:
    """The account of this row; where the installation has a link for its package, that of the link.

    Raises:
        UnusableAccountError: without the credentials in its text, which a ValidationError's text would show.
    """
    linked = links.get(row.package)
    if linked is not None:
        return Account(row.id, row.version, linked.package, linked.credentials)
    try:
        package = get_package(row.package)
        opened = cipher.decrypt(
            row.encrypted_credentials, project_id=row.project_id, provider_id=row.id, version=row.credentials_version
        )
        return Account(row.id, row.version, package, package.credentials.model_validate_json(opened))
    except UnknownPackageError as error:
        raise UnusableAccountError(str(error)) from None
    except (SluiceError, ValidationError) as error:
        raise UnusableAccountError(f"the credentials of provider {row.id} cannot be used") from (
            error if isinstance(error, SluiceError) else None
        )
