"""Real transports, the real simulator, certificates, and servers with exactly the responses of a test."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sluice.transports.opening import open_transports
from sluice.transports.provider_call import Transports
from sluice.transports.settings import TransportSettings
from tests.loopback import LOOPBACK_NETWORKS

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def transports() -> AsyncIterator[Transports]:
    limits = TransportSettings(outgoing_allow=LOOPBACK_NETWORKS, smtp_ehlo_name="test.example")
    async with open_transports(limits=limits) as opened:
        yield opened


@asynccontextmanager
async def server(talk: Talk, host: str = "127.0.0.1", port: int = 0, *, receive_buffer: int = 0) -> AsyncIterator[int]:
    """A server that treats every client as ``talk`` says; its port. ``receive_buffer``: bytes, 0 for the usual."""
    clients: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        clients.add(task)
        try:
            await talk(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            clients.discard(task)
            writer.transport.abort()

    listening = await asyncio.start_server(serve, host, port)
    if receive_buffer:
        listening.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for client in list(clients):
            client.cancel()
        while clients:
            await asyncio.sleep(0)


@dataclass(frozen=True)
class Certificate:
    """Self-signed, for ``localhost`` and 127.0.0.1."""

    file: Path
    context: ssl.SSLContext  # a server's


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "cert.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(secret)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return Certificate(folder / "cert.pem", context)
