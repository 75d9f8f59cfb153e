"""The forgery matrix: false receipts made from one genuine receipt, all of which a package has to refuse.

A package's test file names its genuine receipts in ``GENUINE``; ``test_forgeries.py`` tries the matrix on each.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from importlib import import_module
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import ValidationError

from sluice.providers.contract import (
    AnyPackage,
    Credentials,
    InvalidReceiptSignatureError,
    WebhookReply,
    WebhookRequest,
)
from tests.unit.providers.examples import credentials_of

Forgery = tuple[str, WebhookRequest]


class Place(Protocol):
    """Where a request carries its signature or token."""

    def read(self, request: WebhookRequest) -> str: ...
    def write(self, request: WebhookRequest, value: str | None) -> WebhookRequest: ...


@dataclass(frozen=True)
class Header:
    """A header, its name in lower case."""

    name: str

    def read(self, request: WebhookRequest) -> str:
        return request.headers[self.name]

    def write(self, request: WebhookRequest, value: str | None) -> WebhookRequest:
        headers = {name: old for name, old in request.headers.items() if name != self.name}
        return replace(request, headers=headers if value is None else {**headers, self.name: value})


@dataclass(frozen=True)
class Parameter:
    """A parameter of the URL's query."""

    name: str

    def read(self, request: WebhookRequest) -> str:
        return dict(parse_qsl(urlsplit(request.url).query, keep_blank_values=True))[self.name]

    def write(self, request: WebhookRequest, value: str | None) -> WebhookRequest:
        parts = urlsplit(request.url)
        query = [(name, old) for name, old in parse_qsl(parts.query, keep_blank_values=True) if name != self.name]
        query += [] if value is None else [(self.name, value)]
        return replace(request, url=urlunsplit(parts._replace(query=urlencode(query, errors="surrogatepass"))))


@dataclass(frozen=True)
class JsonField:
    """A field of a JSON object in the body."""

    name: str

    def read(self, request: WebhookRequest) -> str:
        return str(json.loads(request.body)[self.name])

    def write(self, request: WebhookRequest, value: str | None) -> WebhookRequest:
        body = {name: old for name, old in json.loads(request.body).items() if name != self.name}
        return replace(request, body=json.dumps(body if value is None else {**body, self.name: value}).encode())


@dataclass(frozen=True)
class Genuine:
    """A receipt and how its provider signs it.

    ``sign(request, key)`` is written from the provider's recipe, never with the adapter's own function; its time is
    ``request.received_at``. ``secret``: the credential field that holds ``key``, None when the account has no key.
    """

    request: WebhookRequest  # not signed yet
    place: Place
    sign: Callable[[WebhookRequest, str], WebhookRequest]
    key: str
    other_key: str
    secret: str | None = None
    credentials: Mapping[str, Any] = field(default_factory=dict)  # what differs from SAMPLE
    fetched: Mapping[str, bytes] = field(default_factory=dict)
    covers_body: bool = True
    covers_url: bool = False
    lifetime: timedelta | None = None  # an older or newer signature is refused
    ignores_case: bool = False
    also_genuine: frozenset[str] = frozenset()  # names of forgeries that are other forms of the provider's signature
    more: Callable[[WebhookRequest], Iterable[Forgery]] = lambda signed: ()  # what only this scheme has

    @property
    def signed(self) -> WebhookRequest:
        return self.sign(self.request, self.key)

    def account(self, package: AnyPackage) -> Credentials:
        return credentials_of(package, **{**self.credentials, **({self.secret: self.key} if self.secret else {})})


def genuine_receipts(package: AnyPackage) -> Sequence[Genuine]:
    """``GENUINE`` of the test file of the package's adapter."""
    adapter = package.build.__module__.rpartition(".")[2]
    found: Sequence[Genuine] = import_module(f"tests.unit.providers.test_{adapter}").GENUINE
    return found


def believed(package: AnyPackage, genuine: Genuine, request: WebhookRequest) -> bool:
    """Whether the package takes the request for a genuine one. A fetch is none yet: it is not verified."""
    assert package.parse_webhook is not None
    try:
        reply: WebhookReply = package.parse_webhook(request, genuine.account(package), genuine.fetched)
    except InvalidReceiptSignatureError:
        return False
    return reply.fetch is None


def unconfigured(package: AnyPackage, genuine: Genuine) -> Credentials | None:
    """The account without the secret; None when the package does not allow that."""
    if genuine.secret is None:
        return None
    try:
        return credentials_of(package, **{**genuine.credentials, genuine.secret: None})
    except ValidationError:
        return None


def forgeries(genuine: Genuine) -> Iterator[Forgery]:
    """Every false receipt, with what is false about it; at least twenty."""
    signed = genuine.signed
    for name, forged in (
        *_values(genuine, signed),
        *_keys(genuine),
        *(_bodies(genuine, signed) if genuine.covers_body else ()),
        *(_urls(signed) if genuine.covers_url else ()),
        *(_times(signed, genuine.lifetime) if genuine.lifetime else ()),
        *(_parameters(genuine.place, signed) if isinstance(genuine.place, Parameter) else ()),
        *(_headers(genuine.place, signed) if isinstance(genuine.place, Header) else ()),
        *genuine.more(signed),
    ):
        assert forged != signed, name
        if name not in genuine.also_genuine:
            yield name, forged


def _values(genuine: Genuine, signed: WebhookRequest) -> Iterator[Forgery]:
    """Other values of the signature."""
    place, good = genuine.place, genuine.place.read(signed)
    other = genuine.place.read(genuine.sign(genuine.request, genuine.other_key))
    values: dict[str, str | None] = {
        "no signature": None,
        "an empty signature": "",
        "a blank": " ",
        **{f"truncated to {length}": good[:length] for length in range(1, len(good))},
        **{f"without the first {length}": good[length:] for length in range(1, min(len(good), 9))},
        "one character more": good + "0",
        "padding": good + "==",
        "reversed": good[::-1],
        "in base64": base64.b64encode(good.encode()).decode(),
        "in hex": good.encode().hex(),
        "a blank inside": f"{good[:3]} {good[3:]}",
        "a NUL at its end": good + "\x00",
        "not ASCII": good + "☃",
        "half a character": "\udcff" + good[1:],
        "full-width": "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in good),
        "twice": f"{good},{good}",
        "two headers, the first false": f"{other},{good}",
        "two headers, the second false": f"{good},{other}",
        "in quotation marks": f'"{good}"',
        **{f"the word {word!r}": word for word in ("none", "null", "true", "undefined", "*", "0", "alg=none")},
        **dict(_other_algorithms(genuine, good)),
    }
    if not genuine.ignores_case:
        values["another case"] = good.swapcase()
    for name, value in values.items():
        if value != good:
            yield name, place.write(signed, value)


def _other_algorithms(genuine: Genuine, good: str) -> Iterator[tuple[str, str]]:
    key, body = genuine.key.encode(), genuine.request.body
    for algorithm in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512"):
        for name, digest in (
            (f"HMAC-{algorithm}", hmac.digest(key, body, algorithm)),
            (f"{algorithm} without a key", hashlib.new(algorithm, body).digest()),
        ):
            for form, value in (("hex", digest.hex()), ("base64", base64.b64encode(digest).decode())):
                if value not in good:
                    yield f"{name} in {form}", value


def _keys(genuine: Genuine) -> Iterator[Forgery]:
    """Signatures of other keys: another account's, and those that a mistake would make valid."""
    for name, key in (("another account's key", genuine.other_key), ("an empty key", "")):
        try:
            yield name, genuine.sign(genuine.request, key)
        except ValueError:  # no key of this scheme
            continue


def _bodies(genuine: Genuine, signed: WebhookRequest) -> Iterator[Forgery]:
    """A genuine signature over something else."""
    body = signed.body
    changed: dict[str, bytes] = {
        "a byte more": body + b" ",
        "a byte less": body[:-1],
        "no body": b"",
        "an empty object": b"{}",
        "a NUL": body + b"\x00",
        "not UTF-8": body + b"\xff",
        "a byte order mark": b"\xef\xbb\xbf" + body,
        "the body twice": body + body,
        "ten megabytes": body + b" " * 10_000_000,
        "a field more": body + b"&extra=1",
        "a flood of fields": b"&".join(b"a%d=1" % number for number in range(5000)),
        **{f"byte {at} changed": _flip(body, at) for at in range(0, len(body), max(1, len(body) // 24))},
    }
    if body.startswith(b"{"):
        changed["re-serialised"] = json.dumps(json.loads(body), indent=1).encode()
        changed["a repeated field"] = body[:-1] + b',"status":"x"}'
    for name, other in changed.items():
        yield name, replace(signed, body=other)


def _flip(body: bytes, at: int) -> bytes:
    other = b"x" if body[at : at + 1] != b"x" else b"y"
    return body[:at] + other + body[at + 1 :]


def _urls(signed: WebhookRequest) -> Iterator[Forgery]:
    """A genuine signature over another address."""
    parts = urlsplit(signed.url)
    query = f"{parts.query}&" if parts.query else ""
    for name, changes in {
        "another host": {"netloc": "other.example"},
        "another path": {"path": parts.path + "/2"},
        "another scheme": {"scheme": "http" if parts.scheme == "https" else "https"},
        "a parameter more": {"query": f"{query}extra=1"},
        "another reference": {"query": parts.query.replace("ref=", "ref=x")},
        "no query": {"query": ""},
        "a fragment": {"fragment": "x"},
    }.items():
        yield name, replace(signed, url=urlunsplit(parts._replace(**changes)))


def _times(signed: WebhookRequest, lifetime: timedelta) -> Iterator[Forgery]:
    """An exact copy that arrives too late, and one that was signed in the future."""
    for wait in (lifetime + timedelta(seconds=1), lifetime * 2, timedelta(days=8), timedelta(days=4000)):
        yield f"a replay after {wait}", replace(signed, received_at=signed.received_at + wait)
        yield f"signed {wait} in the future", replace(signed, received_at=signed.received_at - wait)


def _parameters(place: Parameter, signed: WebhookRequest) -> Iterator[Forgery]:
    """A token elsewhere than in its parameter."""
    token, without = place.read(signed), place.write(signed, None)
    parts = urlsplit(without.url)
    query = f"{parts.query}&" if parts.query else ""

    def at(**changes: str) -> WebhookRequest:
        return replace(without, url=urlunsplit(parts._replace(**changes)))

    def carrying(**headers: str) -> WebhookRequest:
        return replace(without, headers={**signed.headers, **headers})

    yield "the parameter twice", at(query=f"{query}{place.name}={token}&{place.name}={token}")
    yield "two parameters, the first false", at(query=f"{query}{place.name}=x&{place.name}={token}")
    yield "two parameters, the second false", at(query=f"{query}{place.name}={token}&{place.name}=x")
    yield "a list", at(query=f"{query}{place.name}[]={token}")
    yield "the parameter's name in another case", at(query=f"{query}{place.name.upper()}={token}")
    yield "another parameter", at(query=f"{query}key={token}")
    yield "encoded twice", at(query=f"{query}{place.name}=" + "".join(f"%25{ord(one):02X}" for one in token))
    yield "in the fragment", at(fragment=f"{place.name}={token}")
    yield "in the path", at(path=f"{parts.path}/{token}")
    yield "as user info", at(netloc=f"{token}@{parts.netloc}")
    yield "in the body", replace(without, body=f"{place.name}={token}".encode())
    yield "in a header", carrying(**{place.name: token, "authorization": f"Bearer {token}"})
    yield "in a cookie", carrying(cookie=f"{place.name}={token}")


def _headers(place: Header, signed: WebhookRequest) -> Iterator[Forgery]:
    """A signature elsewhere than in its header."""
    value, without = place.read(signed), place.write(signed, None)
    separator = "&" if "?" in without.url else "?"
    query = urlencode({place.name: value})
    yield "in the query", replace(without, url=f"{without.url}{separator}{query}")
    yield "in another header", replace(without, headers={**without.headers, "x-signature": value})
    yield "in the body", replace(without, body=value.encode())
