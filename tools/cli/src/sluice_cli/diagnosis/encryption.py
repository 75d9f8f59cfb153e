"""The encryption key: its file, and whether it opens the credentials of every provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sluice.providers.account import UnusableAccountError, open_account
from sluice.runtime.errors import SluiceError
from sluice.runtime.settings import decode_keys, read_key_file
from sluice.store.cipher import CredentialCipher
from sluice.store.providers import ProviderRow
from sluice_cli.diagnosis.finding import Finding, fail, ok, warn
from sluice_cli.diagnosis.installation import Installation

_CHECK = "encryption key"
_SHOWN = 3  # providers that one line names


def keys_of(installation: Installation) -> Callable[[], Sequence[bytes]]:
    """What reads the keys, as a role does; it raises SluiceError."""
    text = installation.environment.get("SLUICE_ENCRYPTION_KEY")
    if text:
        return lambda: decode_keys(text, "SLUICE_ENCRYPTION_KEY")
    return lambda: read_key_file(installation.key_file)


async def check_key(installation: Installation) -> list[Finding]:
    """Whether the key can be read, by its owner alone."""
    try:
        keys = keys_of(installation)()
    except SluiceError as error:
        text, _, advice = str(error).partition(": run ")
        action = f"run {advice}" if advice else "restore it from its backup; a new one does not open the credentials"
        return [fail(_CHECK, text, action)]
    if len(keys) > 1:
        text = f"{len(keys)} keys are in use"
        return [warn(_CHECK, text, "end the rotation with `sluice rotate-encryption-key --remove-old`")]
    where = "SLUICE_ENCRYPTION_KEY" if installation.environment.get("SLUICE_ENCRYPTION_KEY") else installation.key_file
    return [ok(_CHECK, f"{where} holds one key")]


def check_rows(installation: Installation, rows: Sequence[ProviderRow]) -> list[Finding]:
    """Whether the credentials of all providers can be read."""
    cipher = CredentialCipher(keys_of(installation))
    unreadable = []
    for row in rows:
        try:
            open_account(row, cipher, {})
        except (UnusableAccountError, SluiceError) as error:
            unreadable.append(f"{row.name} ({error})")
    if not unreadable:
        return [ok(_CHECK, f"the credentials of all {len(rows)} providers can be read")]
    more = f" and {len(unreadable) - _SHOWN} more" if len(unreadable) > _SHOWN else ""
    text = f"{len(unreadable)} of {len(rows)} providers cannot be used: {', '.join(unreadable[:_SHOWN])}{more}"
    return [fail(_CHECK, text, "restore the key that encrypted them, or enter their credentials again")]
