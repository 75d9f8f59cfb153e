"""The connection to Redis: TLS as the URL asks for it, and one sentence for each fault."""

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from gateway.app import _open_redis
from sluice.runtime.errors import SluiceError
from sluice.runtime.redis_client import open_redis
from sluice_cli.diagnosis.finding import Level
from sluice_cli.diagnosis.installation import Installation
from sluice_cli.diagnosis.services import check_redis
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.process_info import free_port
from tests.certificates import Authority


class TlsProxy:
    """TLS in front of the real Redis, which asks for a client certificate of the authority."""

    def __init__(self, folder, target):
        self._target = urlsplit(target)
        self.authority, self.other = Authority(folder), Authority(folder, "other")
        self._client = self.authority.issue("client")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*self.authority.issue("redis", "127.0.0.1"))
        self._context.load_verify_locations(self.authority.path)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self.connections = []

    async def serve(self, reader, writer):
        self.connections.append(writer.get_extra_info("peercert")["subject"])
        theirs, ours = await asyncio.open_connection(self._target.hostname, self._target.port)
        await asyncio.wait(
            [asyncio.ensure_future(copy(reader, ours)), asyncio.ensure_future(copy(theirs, writer))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        ours.close()
        writer.close()

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self.server.sockets[0].getsockname()[1]

    def url(self, *, host="127.0.0.1", root=None):
        certificate, key = self._client
        options = {"ssl_ca_certs": root or self.authority.path, "ssl_certfile": certificate, "ssl_keyfile": key}
        return f"rediss://{host}:{self.port}/0?{urlencode(options)}"


async def copy(source, target):
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()


@pytest.fixture
async def proxy(redis_url, tmp_path):
    proxy = TlsProxy(tmp_path, redis_url)
    await proxy.start()
    yield proxy
    proxy.server.close()


async def test_the_certificates_of_both_sides_are_verified(proxy):
    async with open_redis(proxy.url()) as redis:
        assert await redis.set("sluice:test:tls", "1")

    assert proxy.connections[0] == ((("commonName", "client"),),)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("another authority", "TLS with Redis failed: self-signed certificate in certificate chain"),
        ("another host", "TLS with Redis failed: Hostname mismatch"),
        ("no file", "ssl_ca_certs in SLUICE_REDIS_URL is /nowhere/ca.pem, which is no file"),
    ],
)
async def test_a_tls_fault_is_one_sentence(proxy, fault, sentence):
    url = {
        "another authority": proxy.url(root=proxy.other.path),
        "another host": proxy.url(host="localhost"),
        "no file": proxy.url(root="/nowhere/ca.pem"),
    }[fault]

    with pytest.raises(SluiceError, match=sentence):
        async with open_redis(url):
            pass


@pytest.mark.parametrize(
    "url", ["http://localhost", "redis://localhost:port/0", "rediss://127.0.0.1:1/0?ssl_unknown=1"]
)
async def test_a_url_that_cannot_be_used_is_refused(url):
    with pytest.raises(SluiceError, match="SLUICE_REDIS_URL cannot be used"):
        async with open_redis(url):
            pass


async def test_a_wrong_password_is_refused(tmp_path):
    with LocalStack(tmp_path, services=["redis"], testing=False) as stack:
        address = urlsplit(stack.addresses["redis"])
        for userinfo in (":wrong@", ""):
            url = address._replace(netloc=f"{userinfo}127.0.0.1:{address.port}").geturl()
            with pytest.raises(SluiceError, match="Redis refuses the login in SLUICE_REDIS_URL"):
                async with open_redis(url):
                    pass


async def test_a_server_that_is_away_is_no_error():
    async with open_redis(f"redis://127.0.0.1:{free_port()}/0") as redis:
        assert redis is not None


async def test_doctor_and_the_gateway_log_in_with_the_password_that_is_apart_from_the_url(tmp_path):
    """As in docker-compose.yml."""
    with LocalStack(tmp_path, services=["redis"], testing=False) as stack:
        address = urlsplit(stack.addresses["redis"])
        url = f"redis://127.0.0.1:{address.port}/0"
        redis = {"SLUICE_REDIS_URL": url, "SLUICE_REDIS_PASSWORD": address.password}

        [with_password] = await check_redis(installation_with(redis))
        [without] = await check_redis(installation_with({"SLUICE_REDIS_URL": url}))
        async with _open_redis(url, address.password) as client:
            assert await client.ping()

    assert (with_password.level, with_password.text) == (Level.OK, "Redis answers")
    assert without.level is Level.FAIL


@pytest.mark.parametrize("url", ["http://localhost", "rediss://127.0.0.1:1/0?ssl_unknown=1"])
async def test_doctor_names_a_url_that_cannot_be_used(url):
    [found] = await check_redis(installation_with({"SLUICE_REDIS_URL": url}))

    assert found.level is Level.FAIL


def installation_with(environment):
    return Installation({}, environment, [], {}, Path(), Path())
