"""The receipts: samples through the public address, and what the running installation has counted.

The samples take the way of a provider's webhook. The gateway says what of a sample arrived, so that a difference names
the layer that made it: the host (name, port, certificate), the scheme, a proxy in between, the clock, or the secret.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from pydantic import ValidationError

from sluice.model import ids
from sluice.providers.account import Account, UnusableAccountError, open_account
from sluice.providers.contract import InvalidReceiptSignatureError, ReceiptSource, WebhookRequest
from sluice.providers.kit.signatures import TOKEN_PARAMETER
from sluice.providers.samples import SAMPLE_HEADER, SampleAnswer, SampleResult, samples
from sluice.providers.sms_link import Links, SmsLinkSettings, read_links
from sluice.runtime.errors import SluiceError
from sluice.runtime.settings import KafkaSettings, load
from sluice.store.cipher import CredentialCipher
from sluice.store.provider_receipts import ProviderReceipts
from sluice.store.providers import ProviderRow
from sluice_cli.diagnosis.encryption import keys_of
from sluice_cli.diagnosis.finding import Finding, fail, ok, warn
from sluice_cli.diagnosis.installation import Installation
from sluice_cli.terminal import printable

_TIMEOUT = 10.0  # seconds for one sample
_PARALLEL = 8  # samples at the same time
_SKEW = 60.0  # seconds between the gateway's clock and this machine's
_NO_PROVIDER = UUID(int=0)


class _Links(SmsLinkSettings, KafkaSettings):
    """The SMS link, whose package may receive webhooks in place of the built-in one's."""


class LayerError(Exception):
    """A sample did not arrive as it was sent: the layer, what happened, what to do."""

    def __init__(self, layer: str, text: str, action: str) -> None:
        super().__init__(f"{layer}: {text}")
        self.action = action


async def check_public_address(installation: Installation, *, needed: bool) -> list[Finding]:
    """Whether a webhook request to the public address reaches a gateway, unchanged. ``needed``: by a provider."""
    address = installation.public_url
    if address is None:
        text = "SLUICE_PUBLIC_URL is not set: providers get no address for their receipts"
        action = "set SLUICE_PUBLIC_URL to the gateway's address as providers call it"
        return [fail("public address", text, action) if needed else warn("public address", text, action)]
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        return [fail("public address", f"{address} is no base URL", "set SLUICE_PUBLIC_URL to https://host[/path]")]
    request = WebhookRequest("POST", f"{receipt_url(address, _NO_PROVIDER)}?ref=a%2Fb", {}, b"{}", datetime.now(UTC))
    async with _client() as client:
        try:
            await post(client, request)
        except LayerError as wrong:
            return [fail("public address", str(wrong), wrong.action)]
    if needed and (parts.scheme == "http" or parts.hostname in ("localhost", "127.0.0.1", "::1")):
        text = f"{address} reaches the gateway from here; no provider on the internet can use it"
        return [warn("public address", text, "set SLUICE_PUBLIC_URL to an https address of the internet")]
    return [ok("public address", f"{address} reaches the gateway, and nothing on the way changes a request")]


async def check_receipts(
    installation: Installation, rows: Sequence[ProviderRow], counts: dict[UUID, ProviderReceipts], *, post_samples: bool
) -> list[Finding]:
    """One line for each provider whose receipts arrive by webhook, and one for each whose receipts have stopped.

    ``post_samples``: the public address works.
    """
    cipher, links = CredentialCipher(keys_of(installation)), _read_links()
    slots, found = asyncio.Semaphore(_PARALLEL), []

    async def examine(row: ProviderRow, account: Account, client: httpx.AsyncClient) -> list[Finding]:
        async with slots:
            return await _examine(installation.public_url or "", row, account, client)

    async with _client() as client:
        work = []
        for row in rows:
            try:
                account = open_account(row, cipher, links)
            except (UnusableAccountError, SluiceError):
                continue  # reported with the encryption key
            if account.package.parse_webhook is not None and post_samples:
                work.append(examine(row, account, client))
            if account.package.receipts is not ReceiptSource.NONE and row.id in counts:
                found += _judge_counts(row, counts[row.id])
        for findings in await asyncio.gather(*work):
            found += findings
    return found


def receipt_url(address: str, provider_id: UUID) -> str:
    """The URL of a provider's receipts at a public address."""
    return f"{address}/v1/receipts/{ids.encode_id('prv', provider_id)}"


def _read_links() -> Links:
    try:
        return read_links(load(_Links))
    except SluiceError:  # reported with the settings
        return {}


async def _examine(address: str, row: ProviderRow, account: Account, client: httpx.AsyncClient) -> list[Finding]:
    check, url = f"receipts of {_named(row)}", receipt_url(address, row.id)
    done = []
    try:
        for name, request in samples(account, url, datetime.now(UTC)):
            answer = await post(client, request)
            _judge(name, answer.result)
            done.append(name)
    except InvalidReceiptSignatureError as missing:
        text = f"secret: {missing}: every receipt is refused"
        return [fail(check, text, f"enter the webhook secret or token of {account.package.title} in its credentials")]
    except LayerError as wrong:
        return [fail(check, str(wrong), wrong.action)]
    if not done:
        return [ok(check, "only the provider itself can sign; the address is reached (see public address)")]
    refused = " or ".join(done[1:])
    return [ok(check, f"a sample with its signature is believed, one that is {refused} is not")]


def _judge(name: str, result: SampleResult) -> None:
    """Raises LayerError where the gateway decides otherwise than the package does here."""
    match result:
        case SampleResult.UNKNOWN:
            text, action = "the gateway does not know this provider", "is it a gateway of this database? Restart it"
            raise LayerError("host", text, action)
        case SampleResult.UNREADABLE:
            text = "the gateway cannot read the credentials of this provider"
            raise LayerError("secret", text, "give it the key file of this installation")
        case SampleResult.NO_PUBLIC_URL:
            text = "the signature covers the address, and the gateway has no SLUICE_PUBLIC_URL"
            raise LayerError("host", text, "set it for the gateway")
    if (result is SampleResult.VERIFIED) != (name == "genuine"):
        verb = "refuses" if name == "genuine" else "believes"
        text = f"the gateway {verb} the {name} sample, which arrived unchanged: its secret is another one"
        raise LayerError("secret", text, "restart the gateway: it has not noticed a change of the credentials")


async def post(client: httpx.AsyncClient, sample: WebhookRequest) -> SampleAnswer:
    """The gateway's answer to a sample that arrived as it was sent.

    Raises:
        LayerError: it did not arrive, or changed; the layer is named.
    """
    headers = {**sample.headers, SAMPLE_HEADER: "1"}
    try:
        response = await client.request(sample.method, sample.url, headers=headers, content=sample.body)
    except httpx.HTTPError as error:
        raise _unreached(sample.url, error) from None
    answer = _read(sample.url, response)
    _compare(sample, answer)
    return answer


def _unreached(url: str, error: httpx.HTTPError) -> LayerError:
    host, action = urlsplit(url).netloc, "correct SLUICE_PUBLIC_URL, the name server or the firewall"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        text = f"the certificate of {host} is not valid: {cause.verify_message}"
        return LayerError("host", text, "renew or replace it: providers refuse it, too")
    if isinstance(cause, ssl.SSLError) and "WRONG_VERSION" in str(cause):
        return LayerError("scheme", f"{host} does not speak TLS", "put a proxy with TLS there, or use http://")
    if isinstance(error, httpx.TimeoutException):
        return LayerError("host", f"{host} does not answer", action)
    return LayerError("host", f"{host} cannot be reached", action)


def _read(url: str, response: httpx.Response) -> SampleAnswer:
    status = response.status_code
    if response.is_redirect:
        target = printable(response.headers.get("location", ""))
        text = f"{_path_of(url)} is redirected to {_shown(target)} ({status}), and no provider follows"
        layer = "scheme" if urlsplit(target).netloc == urlsplit(url).netloc else "host"
        raise LayerError(layer, text, "set SLUICE_PUBLIC_URL to where it leads")
    try:
        if status != 200:
            raise ValueError
        return SampleAnswer.model_validate_json(response.content)
    except (ValidationError, ValueError):
        server = printable(response.headers.get("server", "no Server header"))
        text = f"{urlsplit(url).netloc} answers {status} ({server}), and not as a gateway does"
        raise LayerError(
            "proxy", text, "let it pass /v1/receipts/ on to the gateway, or correct SLUICE_PUBLIC_URL"
        ) from None


def _compare(sample: WebhookRequest, answer: SampleAnswer) -> None:
    """Raises LayerError for the first difference between what was sent and what the gateway saw."""
    sent, seen = urlsplit(sample.url), urlsplit(answer.url)
    for layer, one, other in (("scheme", sent.scheme, seen.scheme), ("host", sent.netloc, seen.netloc)):
        if one != other:
            called, verified = (f"{parts.scheme}://{parts.netloc}" for parts in (sent, seen))
            text = f"providers call {called}, the gateway verifies {verified}"
            raise LayerError(layer, text, f"set the gateway's SLUICE_PUBLIC_URL to {called}")
    if (sent.path, sent.query) != (seen.path, seen.query):
        text = f"{_path_of(sample.url)} arrives as {_path_of(answer.url)}"
        raise LayerError("proxy", text, "let it pass path and query unchanged, or add its path to SLUICE_PUBLIC_URL")
    if answer.body_sha256 != sha256(sample.body).hexdigest():
        raise LayerError("proxy", "the body arrives changed", "let the proxy pass the body unchanged")
    skew = abs((answer.received_at - sample.received_at).total_seconds())
    if skew > _SKEW:
        text = f"the gateway's clock and this machine's differ by {skew:.0f} s"
        raise LayerError("clock", text, "synchronise both (NTP): signatures with a time are refused")


def _shown(url: str) -> str:
    """A URL on a terminal, without the token that may be in it."""
    return re.sub(rf"(?<=[?&]){TOKEN_PARAMETER}=[^&]*", f"{TOKEN_PARAMETER}=(hidden)", printable(url))


def _path_of(url: str) -> str:
    parts = urlsplit(_shown(url))
    return f"{parts.path}?{parts.query}".rstrip("?")


def _judge_counts(row: ProviderRow, counts: ProviderReceipts) -> list[Finding]:
    """What the installation has counted since the provider's newest receipt."""
    check, found = f"receipts of {_named(row)}", []
    if counts.refused_count:
        last = f"{counts.refused_at:%Y-%m-%d %H:%M} UTC" if counts.refused_at else ""
        text = (
            f"secret: {counts.refused_count} webhook requests were refused since the newest receipt, the last at {last}"
        )
        advice = "compare the webhook secret with the provider's; forgeries of others look the same"
        found.append((warn if counts.received_at else fail)(check, text, advice))
    if counts.silent_since is not None:
        newest = f"{counts.received_at:%Y-%m-%d %H:%M} UTC"
        text = f"stopped: {counts.accepted_count} messages were accepted since the newest, of {newest}"
        found.append(fail(check, text, "look whether the webhook is still registered and enabled at the provider"))
    elif counts.received_at is None and counts.accepted_count and not counts.refused_count:
        text = f"none has ever come, {counts.accepted_count} messages were accepted"
        found.append(warn(check, text, "register the webhook at the provider (docs/providers)"))
    return found


def _named(row: ProviderRow) -> str:
    return f"{printable(row.name)} ({row.package})"


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False, trust_env=False)
