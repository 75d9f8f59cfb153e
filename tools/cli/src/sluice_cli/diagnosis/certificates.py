"""Certificates: those in files that the settings name, and those that the servers present."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509

from sluice_cli.diagnosis.finding import Finding, fail, ok, warn
from sluice_cli.diagnosis.installation import Installation

_SOON = timedelta(days=21)
_TIMEOUT = 5.0  # seconds
_POSTGRES_TLS = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # SSLRequest of PostgreSQL's protocol
_CHECK = "certificates"

# Parameters of the address that name a file with certificates.
_FILES = {"SLUICE_POSTGRES_DSN": ("sslrootcert", "sslcert"), "SLUICE_REDIS_URL": ("ssl_ca_certs", "ssl_certfile")}
_FILE_VARIABLES = ("SLUICE_KAFKA_CA_FILE", "SLUICE_KAFKA_CERTIFICATE_FILE", "SLUICE_SMS_LINK_CA_FILE")


async def check(installation: Installation) -> list[Finding]:
    """Each certificate that has expired or is about to."""
    now = datetime.now(UTC)
    found, number = [], 0
    for name, path in certificate_files(installation.environment):
        try:
            certificates = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no certificate in PEM"
            found.append(fail(_CHECK, f"{path}, which {name} names, cannot be read: {reason}", f"correct {name}"))
            continue
        number += len(certificates)
        found += [fault for one in certificates if (fault := _judge(one, f"{path} ({name})", now)) is not None]
    for name, host, port in tls_servers(installation):
        certificate = await read_server_certificate(host, port, postgres=name == "SLUICE_POSTGRES_DSN")
        if certificate is not None:
            number += 1
            fault = _judge(certificate, f"the server {host}:{port} ({name})", now)
            found += [fault] if fault is not None else []
    return found or [ok(_CHECK, f"{number} in use, none expires within {_SOON.days} days")]


def _judge(certificate: x509.Certificate, where: str, now: datetime) -> Finding | None:
    expiry = certificate.not_valid_after_utc
    subject = certificate.subject.rfc4514_string()
    if expiry < now:
        return fail(_CHECK, f"{subject} of {where} expired on {expiry:%Y-%m-%d %H:%M} UTC", "renew it")
    if certificate.not_valid_before_utc > now:
        start = certificate.not_valid_before_utc
        return fail(
            _CHECK, f"{subject} of {where} is valid from {start:%Y-%m-%d %H:%M} UTC", "set the clock, or renew it"
        )
    if expiry < now + _SOON:
        return warn(_CHECK, f"{subject} of {where} expires on {expiry:%Y-%m-%d %H:%M} UTC", "renew it")
    return None


def certificate_files(environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """The files of certificates that the settings name, with the variable of each."""
    for name in _FILE_VARIABLES:
        if environment.get(name):
            yield name, Path(environment[name])
    for name, parameters in _FILES.items():
        options = parse_qs(urlsplit(environment.get(name, "")).query)
        yield from ((name, Path(path)) for parameter in parameters for path in options.get(parameter, ()))


def tls_servers(installation: Installation) -> Iterator[tuple[str, str, int]]:
    """The servers to which connections use TLS: variable, host and port."""
    environment = installation.environment
    if environment.get("SLUICE_KAFKA_SECURITY_PROTOCOL", "").endswith("SSL"):
        for server in environment.get("SLUICE_KAFKA_BOOTSTRAP_SERVERS", "").split(","):
            host, _, port = server.rpartition(":")
            if host and port.isdecimal():
                yield "SLUICE_KAFKA_BOOTSTRAP_SERVERS", host.strip("[]"), int(port)
    addresses = {
        "SLUICE_POSTGRES_DSN": environment.get("SLUICE_POSTGRES_DSN", ""),
        "SLUICE_REDIS_URL": environment.get("SLUICE_REDIS_URL", ""),
        "SLUICE_PUBLIC_URL": installation.public_url or "",
    }
    defaults = {"postgresql": 5432, "postgres": 5432, "rediss": 6379, "https": 443}
    for name, address in addresses.items():
        parts = urlsplit(address)
        if parts.scheme in defaults and parts.hostname:
            with suppress(ValueError):  # a port that is no number
                yield name, parts.hostname, parts.port or defaults[parts.scheme]


async def read_server_certificate(host: str, port: int, *, postgres: bool) -> x509.Certificate | None:
    """The certificate that a server presents, whatever authority signed it; None without TLS or without an answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError, TimeoutError, ssl.SSLError, ValueError, EOFError):
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                if postgres:
                    writer.write(_POSTGRES_TLS)
                    if await reader.readexactly(1) != b"S":
                        return None
                await writer.start_tls(context, server_hostname=host)
                content = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                return x509.load_der_x509_certificate(content) if content else None
            finally:
                writer.close()
    return None
