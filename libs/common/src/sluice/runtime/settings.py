"""Settings that every role reads, from the environment (prefix ``SLUICE_``), once, at start."""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from sluice.runtime.errors import SluiceError


class Settings(BaseSettings):
    """The backing services and the address this role listens on. Durations are seconds."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", frozen=True, extra="ignore", allow_inf_nan=False)

    postgres_dsn: str = Field(description="PostgreSQL address, postgresql://user:password@host:port/name")
    kafka_bootstrap_servers: str = Field(
        pattern=r"^[^\s:,]+:\d{1,5}(,[^\s:,]+:\d{1,5})*$", description="Kafka bootstrap servers, host:port[,host:port]"
    )
    redis_url: str | None = Field(None, description="Redis address; without one the features that use it do without")
    host: str = Field("127.0.0.1", description="address this role listens on")
    port: int = Field(0, ge=0, le=65535, description="port this role listens on, 0 for any free one")
    log_level: str = Field("info", description="debug, info, warning or error")
    postgres_pool_size: int = Field(8, ge=1, le=200, description="PostgreSQL connections of this process")
    shutdown_timeout: float = Field(25.0, gt=0, description="time to finish what is in flight when asked to stop")


class EncryptionSettings(Settings):
    """For the roles that read or write provider credentials."""

    encryption_key: SecretStr | None = Field(None, description="credentials key: 32 bytes in base64")
    encryption_key_file: Path | None = Field(None, description="file with the credentials key, mode 600")

    def read_encryption_key(self) -> bytes:
        """The 32 bytes that wrap provider credentials.

        Raises:
            SluiceError: there is none, it is not 32 bytes of base64, or others may read its file.
        """
        if self.encryption_key is not None:
            return decode_key(self.encryption_key.get_secret_value(), "SLUICE_ENCRYPTION_KEY")
        if self.encryption_key_file is None:
            raise SluiceError(
                "no credentials key: set SLUICE_ENCRYPTION_KEY or SLUICE_ENCRYPTION_KEY_FILE (`sluice up` makes a key file)"
            )
        return read_key_file(self.encryption_key_file)


class DispatchSettings(Settings):
    """For the roles that put deliveries on the conveyor."""

    dispatch_queue_limit: int = Field(
        4_000,
        ge=1,
        description="deliveries of one channel that may wait on the bus; more wait in the record, each project's in "
        "its turn. About one to two seconds' worth of what the workers carry",
    )


S = TypeVar("S", bound=BaseSettings)


def load(kind: type[S], **overrides: Any) -> S:
    """Read settings; what is missing or wrong stops the start and is named.

    Raises:
        SluiceError: one sentence naming each variable and what is wrong with it.
    """
    try:
        return kind(**overrides)
    except ValidationError as error:
        faults = "; ".join(
            f"SLUICE_{'_'.join(str(part) for part in fault['loc']).upper()}: {_message(fault)}"
            for fault in error.errors()
        )
        raise SluiceError(f"settings are wrong: {faults}") from None
    except SettingsError as error:
        # The value of a list or table is read before anything is validated; only this text says whose it was.
        named = re.search(r'field "(\w+)"', str(error))
        variable = f"SLUICE_{named[1].upper()}" if named else "one of them"
        raise SluiceError(f"settings are wrong: {variable}: must be JSON") from None


def _message(fault: Any) -> str:
    return "is not set" if fault["type"] == "missing" else str(fault["msg"]).lower()


def decode_key(text: str, source: str) -> bytes:
    """Decode a credentials key.

    Raises:
        SluiceError: it is not exactly 32 bytes in base64; ``source`` is named, the text is not.
    """
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise SluiceError(f"{source} is not a credentials key: it must hold 32 bytes in base64")
    return key


def read_key_file(path: Path) -> bytes:
    """Read a credentials key file.

    Raises:
        SluiceError: it cannot be read, others may read it, or its content is not a key.
    """
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII text"
        raise SluiceError(f"key file {path} cannot be read: {reason}") from None
    if mode & 0o077:
        raise SluiceError(f"key file {path} may be read by others (mode {mode:o}): run chmod 600 {path}")
    return decode_key(text, f"key file {path}")
