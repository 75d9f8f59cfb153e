"""The forgery matrix over every package with receipts, and its positive twin: the genuine receipt is believed."""

from __future__ import annotations

from collections.abc import Callable

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


@every_genuine_receipt
def test_without_its_secret_the_account_believes_nothing(package: AnyPackage, genuine: Genuine) -> None:
    credentials = unconfigured(package, genuine)

    if credentials is not None:
        assert package.parse_webhook is not None
        with pytest.raises(InvalidReceiptSignatureError):
            package.parse_webhook(genuine.signed, credentials, genuine.fetched)
