"""Settings, read once at start from environment variables with the prefix ``SLUICE_``."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from sluice.runtime.errors import SluiceError
from sluice.runtime.http_limits import ConnectionLimits, RequestLimits


class SecurityProtocol(StrEnum):
    """How a Kafka connection is protected."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def uses_sasl(self) -> bool:
        """Whether clients log in."""
        return self.name.startswith("SASL")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.name.endswith("SSL")


class SaslMechanism(StrEnum):
    """How a client logs in to Kafka."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"
    OAUTHBEARER = "OAUTHBEARER"
    AWS_MSK_IAM = "AWS_MSK_IAM"


class KafkaSettings(BaseSettings):
    """The connection to Kafka."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", frozen=True, extra="ignore", allow_inf_nan=False)

    kafka_bootstrap_servers: str = Field(
        pattern=r"^[^\s:,]+:\d{1,5}(,[^\s:,]+:\d{1,5})*$", description="Kafka bootstrap servers, host:port[,host:port]"
    )
    kafka_security_protocol: SecurityProtocol = Field(
        SecurityProtocol.PLAINTEXT, description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    kafka_sasl_mechanism: SaslMechanism | None = Field(
        None, description="PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER (client credentials) or AWS_MSK_IAM"
    )
    kafka_username: str | None = Field(None, description="user, or client id with OAUTHBEARER")
    kafka_password: SecretStr | None = Field(None, description="password, or client secret with OAUTHBEARER")
    kafka_password_file: Path | None = Field(None, description="file with the password, instead of it")
    kafka_ca_file: Path | None = Field(
        None, description="certificate authority of the brokers; without it the system's are trusted"
    )
    kafka_certificate_file: Path | None = Field(None, description="client certificate (mTLS)")
    kafka_key_file: Path | None = Field(None, description="private key of the client certificate")
    kafka_oauth_token_url: str | None = Field(None, description="token endpoint for OAUTHBEARER")
    kafka_oauth_scope: str | None = Field(None, description="scope that is asked of the token endpoint")
    kafka_aws_region: str | None = Field(None, description="AWS region for AWS_MSK_IAM")

    def password(self) -> str:
        """The password, from the variable or the file.

        Raises:
            SluiceError: the file cannot be read.
        """
        if self.kafka_password is not None:
            return self.kafka_password.get_secret_value()
        if self.kafka_password_file is None:
            return ""
        try:
            return self.kafka_password_file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise SluiceError(f"SLUICE_KAFKA_PASSWORD_FILE: {self.kafka_password_file}: {reason}") from None


class Settings(KafkaSettings):
    """The settings of every role: backing services, HTTP address, logs, shutdown. Durations are seconds."""

    postgres_dsn: str = Field(
        description="PostgreSQL address with the login of this role, postgresql://user:password@host:port/name; "
        "for TLS with ?sslmode=verify-full&sslrootcert=FILE&sslcert=FILE&sslkey=FILE. Without a password in it, "
        "PGPASSWORD or PGPASSFILE have it",
    )
    redis_url: str | None = Field(
        None,
        description="Redis address; without one the health service keeps no snapshot, gateways share no rate limits, "
        "and requests that wait for an outcome look it up. For TLS rediss:// with "
        "?ssl_ca_certs=FILE&ssl_certfile=FILE&ssl_keyfile=FILE",
    )
    redis_password: SecretStr | None = Field(
        None, description="password of Redis, with any characters; where the address has one, that counts"
    )
    host: str = Field("127.0.0.1", description="address this role listens on")
    port: int = Field(0, ge=0, le=65535, description="port this role listens on, 0 for any free one")
    log_level: str = Field("info", description="debug, info, warning or error")
    tracing_endpoint: str | None = Field(
        None,
        description="where an OpenTelemetry collector takes traces by OTLP over HTTP, such as "
        "http://collector:4318/v1/traces; without one, nothing is traced",
    )
    tracing_sample_ratio: float = Field(
        0.01,
        ge=0,
        le=1,
        description="share of the messages that are traced; a request with a traceparent header decides itself",
    )
    postgres_pool_size: int = Field(8, ge=1, le=200, description="PostgreSQL connections of this process")
    shutdown_timeout: float = Field(25.0, gt=0, description="time to finish the work in flight at shutdown")
    http_head_bytes: int = Field(32_768, ge=1_024, description="size of a request's line and headers, and of trailers")
    http_headers: int = Field(100, ge=10, description="headers of a request")
    http_url_bytes: int = Field(8_192, ge=256, description="size of a request's URL")
    http_head_timeout: float = Field(10.0, gt=0, description="time for the headers of a request to arrive")
    http_body_grace: float = Field(10.0, gt=0, description="time before the rate of an arriving body counts")
    http_body_rate: int = Field(8_192, ge=1, description="slowest rate of an arriving body, bytes per second")
    http_write_timeout: float = Field(60.0, gt=0, description="time in which a client reads a part of a response")
    http_connections: int = Field(
        4_096, ge=1, description="connections of this process; at the limit, the longest idle one is closed"
    )
    http_connections_per_address: int = Field(
        2_048, ge=1, description="connections of one client address; a reverse proxy is one address"
    )

    def redis_login(self) -> str | None:
        """The password for Redis if it is not in the address."""
        return self.redis_password.get_secret_value() if self.redis_password else None

    def connection_limits(self) -> ConnectionLimits:
        """The limits of the HTTP server."""
        return ConnectionLimits(
            request=RequestLimits(self.http_head_bytes, self.http_headers, self.http_url_bytes),
            head_timeout=self.http_head_timeout,
            body_grace=self.http_body_grace,
            body_rate=self.http_body_rate,
            write_timeout=self.http_write_timeout,
            connections=self.http_connections,
            connections_per_address=self.http_connections_per_address,
        )


class EncryptionSettings(Settings):
    """For the roles that read or write provider credentials."""

    encryption_key: SecretStr | None = Field(
        None,
        description="key of provider credentials: 32 bytes in base64; several, separated by commas, during a rotation: "
        "the first encrypts",
    )
    encryption_key_file: Path | None = Field(None, description="file with the encryption keys, a line each, mode 600")

    def read_encryption_keys(self) -> Sequence[bytes]:
        """The keys of 32 bytes for provider credentials; the first encrypts.

        Raises:
            SluiceError: no key is set, one is not 32 bytes in base64, or other users may read the file.
        """
        if self.encryption_key is not None:
            return decode_keys(self.encryption_key.get_secret_value(), "SLUICE_ENCRYPTION_KEY")
        if self.encryption_key_file is None:
            raise SluiceError(
                "no encryption key: set SLUICE_ENCRYPTION_KEY or SLUICE_ENCRYPTION_KEY_FILE "
                "(`sluice generate-key` creates a file)"
            )
        return read_key_file(self.encryption_key_file)


class DispatchSettings(Settings):
    """For the roles that enqueue deliveries: gateway and router."""

    dispatch_queue_limit: int = Field(
        4_000,
        ge=1,
        description="deliveries of one channel on the bus; more wait in the database and are dequeued in fair order. "
        "One to two seconds of the workers' throughput",
    )


S = TypeVar("S", bound=BaseSettings)


def load(kind: type[S], **overrides: Any) -> S:
    """Read settings from the environment.

    Raises:
        SluiceError: a variable is missing or invalid; the sentence names each of them and its fault.
    """
    try:
        return kind(**overrides)
    except (ValidationError, SettingsError) as error:
        faults = "; ".join(f"{name}: {fault}" for name, fault in _faults(error).items())
        raise SluiceError(f"invalid settings: {faults}") from None


def load_from(kind: type[S], environment: Mapping[str, str]) -> S:
    """Read settings from ``environment``, then from this process's.

    Raises:
        SluiceError: as of :func:`load`.
    """
    given: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        text = environment.get(f"SLUICE_{name.upper()}")
        if text:
            is_object = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
            try:
                given[name] = json.loads(text) if is_object else text
            except ValueError:
                raise SluiceError(f"invalid settings: SLUICE_{name.upper()}: must be JSON") from None
    return load(kind, **given)


def find_faults(kind: type[BaseSettings]) -> dict[str, str]:
    """The faults of the environment for these settings, by variable; empty when they can be read."""
    try:
        kind()
    except (ValidationError, SettingsError) as error:
        return _faults(error)
    return {}


def _faults(error: ValidationError | SettingsError) -> dict[str, str]:
    if isinstance(error, ValidationError):
        return {
            f"SLUICE_{'_'.join(str(part) for part in fault['loc']).upper()}": _message(fault)
            for fault in error.errors()
        }
    # The JSON of a list or table is parsed before validation; only the error's text names the field.
    named = re.search(r'field "(\w+)"', str(error))
    return {f"SLUICE_{named[1].upper()}" if named else "a list or table": "must be JSON"}


def _message(fault: Any) -> str:
    return "is not set" if fault["type"] == "missing" else str(fault["msg"]).lower()


def decode_keys(text: str, source: str) -> list[bytes]:
    """Decode encryption keys, separated by commas or white space.

    Raises:
        SluiceError: there is none, or one is not 32 bytes in base64; the sentence names ``source`` and not the text.
    """
    keys = []
    for word in text.replace(",", " ").split():
        try:
            keys.append(base64.b64decode(word, validate=True))
        except (binascii.Error, ValueError):
            keys.append(b"")
    if not keys or any(len(key) != 32 for key in keys):
        raise SluiceError(f"{source} is not an encryption key: it must contain 32 bytes in base64")
    return keys


_DOCKER_SECRETS = Path("/run/secrets")


def _foreign_access(path: Path, status: os.stat_result) -> int:
    """The mode bits that a key file must not have.

    A secret that Kubernetes mounts belongs to root and is readable by the group of the process (``fsGroup``); one of
    Docker is readable by every user of the container, which is one. Neither can be changed from inside.
    """
    if status.st_uid == os.geteuid():
        return 0o077
    return 0o022 if path.is_relative_to(_DOCKER_SECRETS) else 0o027


def read_key_file(path: Path) -> list[bytes]:
    """Read the keys of an encryption key file; the first encrypts.

    Raises:
        SluiceError: the file cannot be read, other users may read it, or its content is not a key.
    """
    try:
        status = os.stat(path)
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not ASCII text"
        raise SluiceError(f"key file {path} cannot be read: {reason}") from None
    mode = stat.S_IMODE(status.st_mode)
    if mode & _foreign_access(path, status):
        raise SluiceError(f"key file {path} may be read by others (mode {mode:o}): run chmod 600 {path}")
    return decode_keys(text, f"key file {path}")
