"""How the processes connect to Kafka: addresses, TLS and login, the same for aiokafka and FastStream."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import httpx
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError

from sluice.runtime.errors import SluiceError
from sluice.runtime.logs import instance_name
from sluice.runtime.settings import KafkaSettings, SaslMechanism, SecurityProtocol, load, load_from

if TYPE_CHECKING:
    from faststream.security import BaseSecurity

_EARLY = 60.0  # seconds before a token expires at which the next one is fetched


@dataclass(frozen=True)
class KafkaConnection:
    """The bootstrap servers, and the options that every client of them needs.

    Raises:
        SluiceError: a setting is missing or does not fit the others, or a file cannot be read.
    """

    settings: KafkaSettings = field(repr=False)

    def __post_init__(self) -> None:
        _check(self.settings)
        _ = self._ssl_context, self._token_provider, self.settings.password()

    @classmethod
    def to(cls, servers: str) -> KafkaConnection:
        """A connection to these bootstrap servers, with the environment's other settings."""
        return cls(load(KafkaSettings, kafka_bootstrap_servers=servers))

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> KafkaConnection:
        """A connection with the ``SLUICE_KAFKA_…`` variables of an environment."""
        return cls(load_from(KafkaSettings, environment))

    @property
    def servers(self) -> str:
        """The bootstrap servers, ``host:port[,host:port]``."""
        return self.settings.kafka_bootstrap_servers

    def options(self) -> dict[str, Any]:
        """The keyword arguments of an aiokafka client."""
        security = self.settings
        if security.kafka_security_protocol is SecurityProtocol.PLAINTEXT:
            return {"bootstrap_servers": self.servers}
        options: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": security.kafka_security_protocol.value,
            "ssl_context": self._ssl_context,
        }
        if security.kafka_sasl_mechanism is not None:
            options |= self._login()
        return options

    def _login(self) -> dict[str, Any]:
        if self._token_provider is not None:
            return {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": self._token_provider}
        return {
            "sasl_mechanism": str(self.settings.kafka_sasl_mechanism),
            "sasl_plain_username": self.settings.kafka_username,
            "sasl_plain_password": self.settings.password(),
        }

    def faststream(self) -> dict[str, Any]:
        """The keyword arguments of a FastStream ``KafkaBroker``, its servers included."""
        options: dict[str, Any] = {"bootstrap_servers": self.servers, "security": self._faststream_security()}
        if self._token_provider is not None:
            options["sasl_oauth_token_provider"] = self._token_provider
        return options

    def _faststream_security(self) -> BaseSecurity | None:
        from faststream import security

        context, uses_tls = self._ssl_context, self.settings.kafka_security_protocol.uses_tls
        mechanism = self.settings.kafka_sasl_mechanism
        if mechanism is None:
            return security.BaseSecurity(ssl_context=context, use_ssl=True) if uses_tls else None
        if self._token_provider is not None:
            return security.SASLOAuthBearer(ssl_context=context, use_ssl=uses_tls)
        kind = {
            SaslMechanism.PLAIN: security.SASLPlaintext,
            SaslMechanism.SCRAM_SHA_256: security.SASLScram256,
            SaslMechanism.SCRAM_SHA_512: security.SASLScram512,
        }[mechanism]
        return kind(self.settings.kafka_username or "", self.settings.password(), context, uses_tls)

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext | None:
        security = self.settings
        if not security.kafka_security_protocol.uses_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=security.kafka_ca_file)
            if security.kafka_certificate_file is not None:
                context.load_cert_chain(security.kafka_certificate_file, security.kafka_key_file)
        except (OSError, ssl.SSLError) as error:
            files = [security.kafka_ca_file, security.kafka_certificate_file, security.kafka_key_file]
            named = ", ".join(str(file) for file in files if file)
            raise SluiceError(f"the certificates of the Kafka connection cannot be used ({named}): {error}") from None
        return context

    @cached_property
    def _token_provider(self) -> AbstractTokenProvider | None:
        match self.settings.kafka_sasl_mechanism:
            case SaslMechanism.OAUTHBEARER:
                return ClientCredentialsTokenProvider(self.settings)
            case SaslMechanism.AWS_MSK_IAM:
                return MskTokenProvider(self.settings.kafka_aws_region or "")
        return None


def _check(settings: KafkaSettings) -> None:
    protocol, mechanism = settings.kafka_security_protocol, settings.kafka_sasl_mechanism
    if protocol.uses_sasl != (mechanism is not None):
        raise SluiceError(
            "SLUICE_KAFKA_SASL_MECHANISM must be set with a security protocol that begins with SASL, and only with one"
        )
    needed = {
        None: (),
        SaslMechanism.OAUTHBEARER: ("kafka_username", "kafka_password", "kafka_oauth_token_url"),
        SaslMechanism.AWS_MSK_IAM: ("kafka_aws_region",),
    }.get(mechanism, ("kafka_username", "kafka_password"))
    missing = [name for name in needed if not getattr(settings, name)]
    if "kafka_password" in missing and settings.kafka_password_file is not None:
        missing.remove("kafka_password")
    if missing:
        names = ", ".join(f"SLUICE_{name.upper()}" for name in missing)
        raise SluiceError(f"SLUICE_KAFKA_SASL_MECHANISM={mechanism} needs {names}")


async def explain(kafka: KafkaConnection) -> str:
    """Why no broker can be used; the clients only report that they could not connect.

    Tries each bootstrap server once, TLS and login included.
    """
    reasons = []
    for server in kafka.servers.split(","):
        host, _, port = server.rpartition(":")
        options = {name: value for name, value in kafka.options().items() if name != "bootstrap_servers"}
        try:
            connection = await create_conn(host, int(port), request_timeout_ms=5_000, **options)
            connection.close()
        except (KafkaError, OSError, SluiceError) as error:
            reasons.append(f"{server}: {error or type(error).__name__}")
    return "; ".join(reasons) or "the brokers answer now"


class ClientCredentialsTokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # untyped
    """Access tokens by OAuth 2.0 client credentials (RFC 6749 4.4), kept until shortly before they expire."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._token = ""
        self._expires_at = 0.0
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """A token that is valid for at least a minute, or the newest one.

        Raises:
            SluiceError: the token endpoint refuses, or does not answer.
        """
        async with self._lock:
            if time.monotonic() > self._expires_at - _EARLY:
                await self._fetch()
            return self._token

    async def _fetch(self) -> None:
        settings = self._settings
        form = {"grant_type": "client_credentials"}
        if settings.kafka_oauth_scope:
            form["scope"] = settings.kafka_oauth_scope
        try:
            async with httpx.AsyncClient(timeout=10.0) as client:
                answer = await client.post(
                    str(settings.kafka_oauth_token_url),
                    data=form,
                    auth=(settings.kafka_username or "", settings.password()),
                )
                document = answer.raise_for_status().json()
            self._token = str(document["access_token"])
            self._expires_at = time.monotonic() + float(document.get("expires_in", 300))
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise SluiceError(
                f"no token for Kafka from {settings.kafka_oauth_token_url}: {type(error).__name__}"
            ) from None


class MskTokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # untyped
    """Tokens of AWS's own signer for MSK with IAM, which is not installed by default."""

    def __init__(self, region: str) -> None:
        try:
            self._signer = import_module("aws_msk_iam_sasl_signer.MSKAuthTokenProvider")
        except ModuleNotFoundError:
            raise SluiceError(
                "SLUICE_KAFKA_SASL_MECHANISM=AWS_MSK_IAM needs the package aws-msk-iam-sasl-signer-python"
            ) from None
        self._region = region

    async def token(self) -> str:
        """A new token; the signer may read credentials over the network."""
        token, _ = await asyncio.to_thread(self._signer.generate_auth_token, self._region)
        return str(token)


def client_id(name: str) -> str:
    """What brokers call a client of this process: ``name``, of a group or a use, and the instance of its log lines."""
    return f"sluice-{name}@{instance_name()}"
