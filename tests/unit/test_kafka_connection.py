"""The settings of a Kafka connection: what clients get of them, and one clear error when they do not fit."""

import asyncio
import datetime
import json
import ssl
import sys
from types import ModuleType

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from faststream import security

from sluice.bus.connection import KafkaConnection
from sluice.runtime.errors import SluiceError
from sluice.runtime.settings import KafkaSettings

LOGIN = {"kafka_username": "ada", "kafka_password": "canary"}
SASL_TLS = {"kafka_security_protocol": "SASL_SSL"}


def connection(**settings):
    return KafkaConnection(KafkaSettings(kafka_bootstrap_servers="b1:9092,b2:9093", **settings))


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    files[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def test_without_security_there_are_only_servers():
    assert connection().options() == {"bootstrap_servers": "b1:9092,b2:9093"}
    assert connection().faststream() == {"bootstrap_servers": "b1:9092,b2:9093", "security": None}


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize(
    ("mechanism", "kind"),
    [
        ("PLAIN", security.SASLPlaintext),
        ("SCRAM-SHA-256", security.SASLScram256),
        ("SCRAM-SHA-512", security.SASLScram512),
    ],
)
def test_a_login_reaches_both_clients(protocol, mechanism, kind):
    found = connection(kafka_security_protocol=protocol, kafka_sasl_mechanism=mechanism, **LOGIN)

    options = found.options()
    assert (options["security_protocol"], options["sasl_mechanism"]) == (protocol, mechanism)
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("ada", "canary")
    assert isinstance(options["ssl_context"], ssl.SSLContext) == (protocol == "SASL_SSL")
    login = found.faststream()["security"]
    assert isinstance(login, kind)
    assert (login.username, login.password, login.use_ssl) == ("ada", "canary", protocol == "SASL_SSL")


def test_tls_checks_the_certificate_and_the_name():
    context = connection(kafka_security_protocol="SSL").options()["ssl_context"]

    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_an_own_authority_and_a_client_certificate_are_used(certificate):
    found = connection(
        kafka_security_protocol="SSL",
        kafka_ca_file=certificate[0],
        kafka_certificate_file=certificate[0],
        kafka_key_file=certificate[1],
    )

    context = found.options()["ssl_context"]
    assert [dict(part[0] for part in one["subject"])["commonName"] for one in context.get_ca_certs()] == ["broker"]


def test_the_password_may_be_in_a_file(tmp_path):
    file = tmp_path / "password"
    file.write_text("canary\n")
    found = connection(**SASL_TLS, kafka_sasl_mechanism="PLAIN", kafka_username="ada", kafka_password_file=file)

    assert found.options()["sasl_plain_password"] == "canary"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, "SLUICE_KAFKA_SASL_MECHANISM must be set"),
        ({"kafka_sasl_mechanism": "PLAIN", **LOGIN}, "SLUICE_KAFKA_SASL_MECHANISM must be set"),
        ({**SASL_TLS, "kafka_sasl_mechanism": "PLAIN"}, "needs SLUICE_KAFKA_USERNAME, SLUICE_KAFKA_PASSWORD"),
        ({**SASL_TLS, "kafka_sasl_mechanism": "SCRAM-SHA-512", "kafka_username": "a"}, "needs SLUICE_KAFKA_PASSWORD"),
        ({**SASL_TLS, "kafka_sasl_mechanism": "OAUTHBEARER", **LOGIN}, "needs SLUICE_KAFKA_OAUTH_TOKEN_URL"),
        ({**SASL_TLS, "kafka_sasl_mechanism": "AWS_MSK_IAM"}, "needs SLUICE_KAFKA_AWS_REGION"),
        (
            {**SASL_TLS, "kafka_sasl_mechanism": "AWS_MSK_IAM", "kafka_aws_region": "eu-west-1"},
            "needs the package aws-msk-iam-sasl-signer-python",
        ),
        ({"kafka_security_protocol": "SSL", "kafka_ca_file": "/missing.pem"}, "/missing.pem"),
        ({"kafka_security_protocol": "SSL", "kafka_certificate_file": "/missing.pem"}, "/missing.pem"),
        (
            {**SASL_TLS, "kafka_sasl_mechanism": "PLAIN", "kafka_username": "a", "kafka_password_file": "/missing"},
            "SLUICE_KAFKA_PASSWORD_FILE: /missing: No such file or directory",
        ),
    ],
)
def test_settings_that_do_not_fit_are_one_error_that_names_them(settings, words):
    with pytest.raises(SluiceError) as refused:
        connection(**settings)

    assert words in str(refused.value)
    assert "canary" not in str(refused.value)


def test_no_text_of_a_connection_shows_the_password():
    found = connection(**SASL_TLS, kafka_sasl_mechanism="PLAIN", **LOGIN)

    assert "canary" not in f"{found!r} {found} {found.settings!r}"


class TokenEndpoint:
    """An OAuth server that counts its tokens."""

    def __init__(self, *, expires_in, status="200 OK"):
        self.requests = []
        self._expires_in, self._status = expires_in, status

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/token"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        self.requests.append((head, await reader.readexactly(length)))
        body = json.dumps({"access_token": f"t{len(self.requests)}", "expires_in": self._expires_in}).encode()
        writer.write(
            f"HTTP/1.1 {self._status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
        )
        await writer.drain()
        writer.close()


@pytest.mark.parametrize(("expires_in", "tokens"), [(3600, ["t1"] * 6), (30, ["t1", "t2", "t3", "t4", "t5", "t6"])])
async def test_a_token_is_kept_until_shortly_before_it_expires(expires_in, tokens):
    async with TokenEndpoint(expires_in=expires_in) as endpoint:
        found = connection(
            **SASL_TLS,
            kafka_sasl_mechanism="OAUTHBEARER",
            kafka_oauth_token_url=endpoint.url,
            kafka_oauth_scope="kafka",
            **LOGIN,
        )
        provider = found.options()["sasl_oauth_token_provider"]

        assert sorted(await asyncio.gather(*(provider.token() for _ in range(6)))) == tokens
    assert endpoint.requests[0][1] == b"grant_type=client_credentials&scope=kafka"
    assert b"authorization: Basic " in endpoint.requests[0][0].replace(b"Authorization", b"authorization")
    assert found.faststream()["sasl_oauth_token_provider"] is provider
    assert isinstance(found.faststream()["security"], security.SASLOAuthBearer)


async def test_a_refused_token_is_one_error():
    async with TokenEndpoint(expires_in=1, status="401 Unauthorized") as endpoint:
        found = connection(**SASL_TLS, kafka_sasl_mechanism="OAUTHBEARER", kafka_oauth_token_url=endpoint.url, **LOGIN)

        with pytest.raises(SluiceError, match=r"no token for Kafka from http://127\.0\.0\.1"):
            await found.options()["sasl_oauth_token_provider"].token()


async def test_a_token_for_msk_is_of_the_module_of_the_signer(monkeypatch):
    # As the package is made: a module of its own, which the package does not import.
    package, module = ModuleType("aws_msk_iam_sasl_signer"), ModuleType("aws_msk_iam_sasl_signer.MSKAuthTokenProvider")
    module.generate_auth_token = lambda region: (f"for {region}", 1)
    for each in (package, module):
        monkeypatch.setitem(sys.modules, each.__name__, each)
    found = connection(**SASL_TLS, kafka_sasl_mechanism="AWS_MSK_IAM", kafka_aws_region="eu-west-1")

    assert await found.options()["sasl_oauth_token_provider"].token() == "for eu-west-1"
