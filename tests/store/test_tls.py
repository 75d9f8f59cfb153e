"""TLS to PostgreSQL, as the DSN asks for it, and one sentence for each fault."""

import os
import shutil
from urllib.parse import urlencode, urlsplit

import asyncpg
import pytest

from sluice.runtime.errors import SluiceError
from sluice.store.db import connect, open_pool
from sluice.store.logins import with_login
from sluice_launcher.local_stack import LocalStack
from sluice_launcher.plan import OWNER
from tests.certificates import Authority
from tests.engine import connected

# A connection that is tried again after a refusal would exceed the time of a test.
WAIT = 1000.0


class Server:
    """PostgreSQL that takes only TLS with a client certificate of its authority, for all but the superuser."""

    def __init__(self, dsn, authority, other, client, foreign):
        self.dsn, self.authority, self.other = dsn, authority, other
        self.client, self.foreign = client, foreign

    def address(self, *, sslmode="verify-full", root=None, client="client", host="127.0.0.1", **options):
        pair = {"client": self.client, "foreign": self.foreign, None: None}[client]
        chosen = {"sslmode": sslmode, "sslrootcert": root or self.authority.path}
        if pair:
            chosen |= dict(zip(("sslcert", "sslkey"), pair, strict=True))
        parts = urlsplit(self.dsn)
        netloc = parts.netloc.replace("127.0.0.1", host)
        return parts._replace(netloc=netloc, query=urlencode(chosen | options)).geturl()


@pytest.fixture(scope="module")
async def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    authority, other = Authority(folder), Authority(folder, "other")
    certificate, key = authority.issue("server", "127.0.0.1")
    with LocalStack(folder / "stack", services=["postgres"], testing=False) as stack:
        data = folder / "stack/postgres"
        owner = data.stat()
        for source, name in ((certificate, "server.crt"), (key, "server.key"), (authority.path, "root.crt")):
            shutil.copyfile(source, data / name)
            (data / name).chmod(0o600)
            os.chown(data / name, owner.st_uid, owner.st_gid)
        (data / "pg_hba.conf").write_text(
            "host all postgres 127.0.0.1/32 scram-sha-256\n"
            "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
        )
        async with connected(stack.superuser_dsn) as superuser:
            for setting in ("ssl = on", "ssl_ca_file = 'root.crt'"):
                await superuser.execute(f"ALTER SYSTEM SET {setting}")
            await superuser.execute("SELECT pg_reload_conf()")
        yield Server(
            stack.addresses["postgres"], authority, other, authority.issue("client"), other.issue("foreign-client")
        )


async def test_the_certificates_of_both_sides_are_verified(server):
    async with open_pool(server.address(), size=1, name="tls") as pool:
        row = await pool.fetchrow("SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()")

    assert (row["ssl"], row["client_dn"]) == (True, "/CN=client")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"root": "other"}, "PostgreSQL's certificate is not accepted: self-signed certificate in certificate chain"),
        ({"host": "localhost"}, "PostgreSQL's certificate is not accepted: Hostname mismatch"),
        ({"client": None}, "PostgreSQL refuses the connection: connection requires a valid client certificate"),
        ({"sslmode": "disable"}, "PostgreSQL refuses the connection: no pg_hba.conf entry .*no encryption"),
        ({"sslmode": "always"}, "the DSN of PostgreSQL cannot be used: .*sslmode"),
        ({"root": "missing"}, "sslrootcert in the DSN of PostgreSQL is .*missing.pem: No such file or directory"),
    ],
)
async def test_a_fault_is_one_sentence_at_once(server, tmp_path, options, sentence):
    roots = {"other": server.other.path, "missing": tmp_path / "missing.pem"}
    dsn = server.address(**options | ({"root": roots[options["root"]]} if "root" in options else {}))

    with pytest.raises(SluiceError, match=sentence):
        await connect(dsn, timeout=10.0)
    with pytest.raises(SluiceError, match=sentence):
        async with open_pool(dsn, size=1, name="tls", wait=WAIT):
            pass


async def test_a_clients_certificate_of_another_authority_is_refused(server):
    with pytest.raises(SluiceError, match=r"cannot connect to PostgreSQL: .*the one of sslcert may be refused"):
        await connect(server.address(client="foreign"), timeout=10.0)


async def test_a_server_without_tls_is_named(postgres_dsn):
    dsn = urlsplit(postgres_dsn)._replace(query="sslmode=require").geturl()

    with pytest.raises(SluiceError, match="PostgreSQL does not offer TLS, which sslmode in the DSN requires"):
        async with open_pool(dsn, size=1, name="tls", wait=WAIT):
            pass


async def test_a_wrong_password_is_refused(server):
    dsn = with_login(server.address(), OWNER, "wrong")

    with pytest.raises(SluiceError, match="PostgreSQL refuses the connection: password authentication failed"):
        async with open_pool(dsn, size=1, name="tls", wait=WAIT):
            pass


async def test_the_owner_of_the_local_stack_is_no_superuser(server):
    connection = await asyncpg.connect(server.address())
    try:
        attributes = await connection.fetchrow(
            "SELECT rolsuper, rolbypassrls, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SELECT pg_read_file('PG_VERSION')")
    finally:
        await connection.close()
    assert not any(attributes.values())
