"""The forgery matrix over every package with receipts, and its positive twin: the genuine receipt is believed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from sluice.providers.contract import AnyPackage, InvalidReceiptSignatureError
from sluice.providers.registry import PACKAGES
from tests.unit.providers.forgeries import Genuine, believed, forgeries, genuine_receipts, unconfigured

SIGNED = [
    pytest.param(package, genuine, id=f"{package.name}-{number}")
    for package in PACKAGES.values()
    if package.parse_webhook
    for number, genuine in enumerate(genuine_receipts(package), start=1)
]
every_genuine_receipt = pytest.mark.parametrize(("package", "genuine"), SIGNED)


@every_genuine_receipt
def test_the_genuine_receipt_is_believed(package: AnyPackage, genuine: Genuine) -> None:
    assert believed(package, genuine, genuine.signed)


@every_genuine_receipt
def test_every_forgery_is_refused(
    package: AnyPackage, genuine: Genuine, record_property: Callable[[str, object], None]
) -> None:
    results = {name: believed(package, genuine, forged) for name, forged in forgeries(genuine)}

    record_property("forgeries", len(results))
    record_property("refused", sum(not wrong for wrong in results.values()))
    assert [name for name, wrong in results.items() if wrong] == []
    assert len(results) >= 20


@pytest.mark.parametrize("package", [one for one in PACKAGES.values() if one.parse_webhook], ids=lambda one: one.name)
def test_finding_17_a_package_whose_signature_covers_the_url_says_so(package: AnyPackage) -> None:
    """The receipt endpoint refuses its receipts while the installation has no public URL."""
    assert package.signs_url is any(genuine.covers_url for genuine in genuine_receipts(package))


ODD: list[Any] = [
    *(None, True, 7, -1.5, 10**30, "", "x" * 5000, "\x00", [], [7], {}, {"a": None}, "☃"),
    *("9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "2026-02-30", "2026-01-01T25:00:00Z"),
]
DEEP = b"[" * 600 + b"]" * 600  # readable, and nested more deeply than orjson writes


@every_genuine_receipt
def test_no_genuine_receipt_raises_whatever_is_in_it(package: AnyPackage, genuine: Genuine) -> None:
    assert package.parse_webhook is not None
    for body in odd_bodies(genuine.request.body):
        try:
            signed = genuine.sign(replace(genuine.request, body=body), genuine.key)
        except (ValueError, KeyError, TypeError):  # no body that this scheme can sign
            continue
        with suppress(InvalidReceiptSignatureError):
            package.parse_webhook(signed, genuine.account(package), genuine.fetched)


def odd_bodies(body: bytes) -> Iterator[bytes]:
    """The body with each of its values replaced, and bodies of other forms."""
    yield from (b"", b"7", b"[]", b"[[]]", b"{}", b"null", b"\xff\xfe", b"\x00", b"a=%FF&a=1", DEEP, b'{"a":%s}' % DEEP)
    if not body.startswith(b"{"):
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True))
        for name in fields:
            yield from (urlencode({**fields, name: odd}).encode() for odd in ("", "\x00", "☃", "x" * 5000, "-1"))
        return
    for number in range(_count(json.loads(body))):
        yield from (json.dumps(_replaced(json.loads(body), number, odd)).encode() for odd in ODD)
        yield json.dumps(_replaced(json.loads(body), number, "DEEP")).encode().replace(b'"DEEP"', DEEP)


def _count(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_count, children))


def _replaced(value: Any, number: int, odd: Any) -> Any:
    """A copy of ``value`` whose part of this number, counted as by ``_count``, is ``odd``."""
    if number == 0:
        return odd
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    copy, at = (dict(value) if isinstance(value, dict) else list(value)), 1
    for key, child in items:
        if at <= number < at + _count(child):
            copy[key] = _replaced(child, number - at, odd)
        at += _count(child)
    return copy


@every_genuine_receipt
def test_without_its_secret_the_account_believes_nothing(package: AnyPackage, genuine: Genuine) -> None:
    credentials = unconfigured(package, genuine)

    if credentials is not None:
        assert package.parse_webhook is not None
        with pytest.raises(InvalidReceiptSignatureError):
            package.parse_webhook(genuine.signed, credentials, genuine.fetched)
