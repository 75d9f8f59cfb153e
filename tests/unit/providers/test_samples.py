"""The samples of every package: the genuine one is believed, the others are not, and none says anything."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from sluice.providers.account import Account
from sluice.providers.contract import AnyPackage, InvalidReceiptSignatureError
from sluice.providers.registry import PACKAGES
from sluice.providers.samples import is_believed, samples
from tests.unit.providers.examples import credentials_of, sample_of

URL = "https://hooks.example/v1/receipts/prv_1"
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
# The provider signs with a private key of its own.
ONLY_THE_PROVIDER_SIGNS = {"provider-sendgrid", "provider-ses"}
SIGNING = [one for one in PACKAGES.values() if one.sample]
# Signed together with a time.
AGEING = {"provider-resend", "provider-mailgun"}

every_signing_package = pytest.mark.parametrize("package", SIGNING, ids=lambda package: package.name)


def account_of(package: AnyPackage) -> Account:
    return Account(UUID(int=1), 1, package, credentials_of(package))


def test_every_package_with_a_webhook_signs_a_sample_if_that_is_possible() -> None:
    with_webhook = {one.name for one in PACKAGES.values() if one.parse_webhook}

    assert with_webhook - {one.name for one in SIGNING} == ONLY_THE_PROVIDER_SIGNS


@every_signing_package
def test_only_the_genuine_sample_is_believed(package: AnyPackage) -> None:
    account = account_of(package)

    believed = {name: is_believed(account, request) for name, request in samples(account, URL, NOW)}

    expected = {"genuine": True, "tampered": False} | ({"stale": False} if package.name in AGEING else {})
    assert believed == expected


@every_signing_package
def test_a_genuine_sample_says_nothing_about_a_message(package: AnyPackage) -> None:
    account = account_of(package)
    genuine = dict(samples(account, URL, NOW))["genuine"]

    assert package.parse_webhook is not None
    assert list(package.parse_webhook(genuine, account.credentials, {}).events) == []


@every_signing_package
def test_an_account_without_what_signs_has_no_sample(package: AnyPackage) -> None:
    given = {
        name: value
        for name, value in sample_of(package).credentials.items()
        if not name.startswith(("webhook", "secretToken", "appSecret", "platformSecret"))
    }
    if package.name.startswith("provider-twilio"):
        given = {**given, "authToken": None, "apiKeySid": "SK" + "0" * 32, "apiKeySecret": "x"}
    account = Account(UUID(int=1), 1, package, package.credentials.model_validate(given))

    with pytest.raises(InvalidReceiptSignatureError):
        list(samples(account, URL, NOW))


@pytest.mark.parametrize("name", sorted(ONLY_THE_PROVIDER_SIGNS))
def test_a_package_whose_provider_alone_can_sign_has_no_samples(name: str) -> None:
    assert list(samples(account_of(PACKAGES[name]), URL, NOW)) == []
