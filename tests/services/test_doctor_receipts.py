"""`sluice doctor` names the layer that breaks a receipt: the real receipt endpoint behind a proxy that does it."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from gateway.receipts.endpoint import ReceiptEndpoint
from sluice.delivery.outbox import OutboxPublisher
from sluice.providers.registry import PACKAGES
from sluice.providers.samples import SampleAnswer, SampleResult
from sluice.store.cipher import CredentialCipher
from sluice.store.provider_receipts import ProviderReceipts
from sluice_cli.diagnosis import receipts
from sluice_cli.diagnosis.finding import Level
from sluice_cli.diagnosis.installation import Installation
from tests.examples import NOON, PROVIDER, a_provider
from tests.proxy import proxy
from tests.unit.providers.examples import sample_of

KEY = bytes(32)
CIPHER = CredentialCipher(lambda: [KEY])
NONE = "prv_00000000000000000000000000"


def row_of(package, **changes):
    """A provider with the sample account of a package."""
    row = a_provider(id=PROVIDER, package=package, name="mine")
    credentials = {**sample_of(PACKAGES[package]).credentials, **changes}
    sealed = CIPHER.encrypt_credentials(credentials, project_id=row.project_id, provider_id=PROVIDER)
    return a_provider(id=PROVIDER, package=package, name="mine", encrypted_credentials=sealed)


class Config:
    def __init__(self, *rows):
        self.providers = {row.id: row for row in rows}


@pytest.fixture
def behind(store, bus):
    """Runs the endpoint behind a proxy whose address is public; returns the findings about it and its providers."""

    async def examine(change=None, *, row=None, known=None, public_url="http://{place}", called="http://{place}"):
        loop = asyncio.get_running_loop()

        def respond(path, headers, body):
            path, body, answer = change(path, body) if change else (path, body, None)
            if answer is not None:
                return answer
            request = client.post(path, headers=headers, content=body)
            found = asyncio.run_coroutine_threadsafe(request, loop).result(20)
            return found.status_code, {"content-type": found.headers["content-type"]}, found.content

        with proxy(respond) as place:
            outbox = OutboxPublisher(store.gateway, bus)
            endpoint = ReceiptEndpoint(
                store.gateway,
                Config(*filter(None, [known or row])),
                CIPHER,
                outbox,
                public_url=public_url and public_url.format(place=place),
                links={},
            )
            async with outbox.running(), endpoint.running():
                transport = httpx.ASGITransport(Starlette(routes=[endpoint.route()]))
                async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
                    return await examined(called.format(place=place), row), place

    return examine


async def examined(url, row):
    installation = Installation({}, {"SLUICE_PUBLIC_URL": url, **KEYS}, [], {}, Path("/"), Path("/"))
    address = await receipts.check_public_address(installation, needed=False)
    found = await receipts.check_receipts(installation, [row] if row else [], {}, post_samples=row is not None)
    return [f"{one.level.value} {one.text}" for one in (found if row else address)]


KEYS = {"SLUICE_ENCRYPTION_KEY": "A" * 43 + "="}
PROXIES = {
    "nothing": (None, "ok {url} reaches the gateway, and nothing on the way changes a request"),
    "another site": (
        lambda path, body: (path, body, (404, {}, b"<html>")),
        "FAIL proxy: {place} answers 404 (a proxy), and not as a gateway does",
    ),
    "a page with 200": (
        lambda path, body: (path, body, (200, {}, b"<html>")),
        "FAIL proxy: {place} answers 200 (a proxy), and not as a gateway does",
    ),
    "a redirect to TLS": (
        lambda path, body: (path, body, (301, {"location": "https://hooks.example/x"}, b"")),
        f"FAIL host: /v1/receipts/{NONE}?ref=a%2Fb is redirected to https://hooks.example/x (301), "
        "and no provider follows",
    ),
    "a query that is dropped": (
        lambda path, body: (path.partition("?")[0], body, None),
        f"FAIL proxy: /v1/receipts/{NONE}?ref=a%2Fb arrives as /v1/receipts/{NONE}",
    ),
    "a query that is decoded": (
        lambda path, body: (path.replace("%2F", "/"), body, None),
        f"FAIL proxy: /v1/receipts/{NONE}?ref=a%2Fb arrives as /v1/receipts/{NONE}?ref=a/b",
    ),
    "another body": (lambda path, body: (path, b"{ }", None), "FAIL proxy: the body arrives changed"),
}


@pytest.mark.parametrize(("change", "expected"), PROXIES.values(), ids=PROXIES.keys())
async def test_what_a_proxy_does_is_named(behind, change, expected):
    (found,), place = await behind(change)

    assert found == expected.format(place=place, url=f"http://{place}")


async def test_another_scheme_or_host_than_the_gateways_is_named(behind):
    (scheme,), place = await behind(public_url="https://{place}")
    (host,), other = await behind(public_url="http://hooks.example")

    assert scheme == f"FAIL scheme: providers call http://{place}, the gateway verifies https://{place}"
    assert host == f"FAIL host: providers call http://{other}, the gateway verifies http://hooks.example"


async def test_nothing_listens_and_no_tls(behind):
    assert await examined("http://127.0.0.1:1", None) == ["FAIL host: 127.0.0.1:1 cannot be reached"]
    (found,), place = await behind(called="https://{place}")
    assert found == f"FAIL scheme: {place} does not speak TLS"


@pytest.mark.parametrize("url", ["ftp://x", "https://", "hooks.example", "https://x/?a=1"])
async def test_an_address_that_is_no_base_url_is_named(url):
    (found,) = await examined(url, None)

    assert found == f"FAIL {url.rstrip('/')} is no base URL"


@pytest.mark.parametrize("name", [one.name for one in PACKAGES.values() if one.sample])
async def test_the_samples_of_every_package_pass(behind, name):
    found, _ = await behind(row=row_of(name))

    assert len(found) == 1
    assert found[0].startswith("ok a sample with its signature is believed, one that is tampered")


@pytest.mark.parametrize("name", ["provider-sendgrid", "provider-ses"])
async def test_where_only_the_provider_can_sign_the_line_says_so(behind, name):
    found, _ = await behind(row=row_of(name))

    assert found == ["ok only the provider itself can sign; the address is reached (see public address)"]


async def test_a_gateway_with_another_secret_or_without_the_provider_is_named(behind):
    other = row_of("provider-resend", webhookSecret="whsec_" + "QUJD" * 8)
    (secret,), _ = await behind(row=row_of("provider-resend"), known=other)
    elsewhere = a_provider(id=receipts._NO_PROVIDER)
    (unknown,), _ = await behind(row=row_of("provider-resend"), known=elsewhere)

    assert (
        secret
        == "FAIL secret: the gateway refuses the genuine sample, which arrived unchanged: its secret is another one"
    )
    assert unknown == "FAIL host: the gateway does not know this provider"


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (
            SampleResult.NO_PUBLIC_URL,
            "host: the signature covers the address, and the gateway has no SLUICE_PUBLIC_URL",
        ),
        (SampleResult.UNREADABLE, "secret: the gateway cannot read the credentials of this provider"),
    ],
)
def test_what_the_gateway_lacks_is_named(result, expected):
    with pytest.raises(receipts.LayerError, match=expected):
        receipts._judge("genuine", result)


def test_a_clock_that_differs_is_named():
    sample = PACKAGES["provider-telegram"].sample
    assert sample is not None
    account = PACKAGES["provider-telegram"].credentials.model_validate(
        sample_of(PACKAGES["provider-telegram"]).credentials
    )
    request = sample("https://x/v1", account, datetime.now(UTC))
    answer = SampleAnswer.to(request, SampleResult.VERIFIED)
    late = answer.model_copy(update={"received_at": answer.received_at + timedelta(minutes=7)})

    with pytest.raises(receipts.LayerError, match="clock: the gateway's clock and this machine's differ by 420 s"):
        receipts._compare(request, late)


def test_a_token_in_the_url_is_not_shown():
    assert receipts._shown("https://x/v1/r?ref=1&token=secret") == "https://x/v1/r?ref=1&token=(hidden)"
    assert receipts._path_of("https://x/v1/r?token=secret&a=1") == "/v1/r?token=(hidden)&a=1"


COUNTS = {"received_at": NOON, "accepted_count": 0, "silent_since": None, "refused_at": None, "refused_count": 0}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, []),
        ({"refused_at": NOON, "refused_count": 2}, [(Level.WARN, "secret: 2 webhook requests were refused")]),
        (
            {"refused_at": NOON, "refused_count": 2, "received_at": None},
            [(Level.FAIL, "secret: 2 webhook requests were refused")],
        ),
        ({"silent_since": NOON, "accepted_count": 30}, [(Level.FAIL, "stopped: 30 messages were accepted since")]),
        ({"received_at": None, "accepted_count": 3}, [(Level.WARN, "none has ever come, 3 messages were accepted")]),
    ],
    ids=["in order", "some refused", "all refused", "silent", "none ever"],
)
def test_what_the_installation_has_counted(counts, expected):
    found = receipts._judge_counts(a_provider(), ProviderReceipts(**{**COUNTS, **counts}))

    assert [(one.level, one.text.startswith(text)) for one, (_, text) in zip(found, expected, strict=True)] == [
        (level, True) for level, _ in expected
    ]
