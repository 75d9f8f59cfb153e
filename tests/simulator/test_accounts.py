"""The accounts of demonstrations and system tests: one for each package, with every secret field supplied."""

import pytest

from sluice.model.message import Channel
from sluice.providers.kit.credentials import secrets_of
from sluice.providers.registry import PACKAGES
from sluice_simulator.accounts import every_account
from sluice_simulator.registry import DIALECTS
from tests.canaries import ALTERNATIVES, Canaries, secret_fields

ALL = {name: package for name, package in PACKAGES.items() if len(package.channels) < len(Channel)}
every_package = pytest.mark.parametrize("package", ALL.values(), ids=ALL.keys())


@every_package
def test_every_package_has_an_account_whose_message_it_carries(package):
    account = every_account()[package.name]

    assert DIALECTS[account.dialect].package == package.name
    assert account.channel in package.channels


@every_package
def test_the_secret_fields_of_an_account_are_supplied_by_the_caller_and_are_valid(package):
    given: list[str] = []

    def secret(name):
        given.append(name)
        return f"canary00{len(given):08}"

    account = every_account(secret)[package.name]

    credentials = package.credentials.model_validate(account.credentials_at("127.0.0.1", 2525))
    supplied = {name.removeprefix(f"{package.name}.") for name in given if name.startswith(f"{package.name}.")}
    assert supplied <= set(secret_fields(package.credentials))
    assert all("canary00" in secret for secret in secrets_of(credentials))


@every_package
def test_every_secret_field_of_the_model_can_have_a_canary(package):
    canaries = Canaries()
    account = every_account(canaries)[package.name]

    credentials = canaries.complete(package, account.credentials_at("127.0.0.1", 2525))

    assert all("canary00" in secret for secret in secrets_of(package.credentials.model_validate(credentials)))
    named = {name.removeprefix(f"{package.name}.") for name in canaries.values if name.startswith(f"{package.name}.")}
    assert named == set(secret_fields(package.credentials)) - ALTERNATIVES.get(package.name, set())
