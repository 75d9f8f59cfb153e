"""The settings of the SMS link: what each kind stands for, and an error that names the setting for each fault."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sluice.delivery.smpp_link import smpp_config
from sluice.providers.account import open_account
from sluice.providers.adapters.messagepipe import SMPP_LINK
from sluice.providers.adapters.twilio_sms import TWILIO
from sluice.providers.contract import TransportKind
from sluice.providers.kit.smpp_status import StatusClass
from sluice.providers.sms_link import SmsLinkSettings, read_links
from sluice.runtime.errors import SluiceError
from tests.examples import a_provider
from tests.unit.providers.examples import HIDDEN
from tests.unit.providers.test_twilio_sms import SAMPLE

NAME = "provider-messagepipe"
SMPP: dict[str, Any] = {
    "sms_link_kind": "smpp",
    "sms_link_host": "smsc.example.com",
    "sms_link_system_id": "acme",
    "sms_link_password": HIDDEN,
}
PACKAGE: dict[str, Any] = {
    "sms_link_kind": "package",
    "sms_link_package": "provider-twilio",
    "sms_link_credentials": json.dumps(SAMPLE.credentials),
}


class Cipher:
    def decrypt(self, ciphertext: bytes, **_: Any) -> bytes:
        return ciphertext


def settings(fields: dict[str, Any], **changes: Any) -> SmsLinkSettings:
    return SmsLinkSettings.model_validate(fields | changes)


def opened(**fields: Any) -> Any:
    row = a_provider(package=NAME, encrypted_credentials=b"{}")
    return open_account(row, Cipher(), read_links(settings(fields)))


def test_without_a_link_the_account_captures() -> None:
    assert opened().package.transport is TransportKind.SANDBOX


def test_an_smpp_link_submits() -> None:
    account = opened(**SMPP | {"sms_link_sender": "ACME"})

    assert account.package is SMPP_LINK
    assert account.credentials == SMPP_LINK.credentials.model_validate({"sender": "ACME"})


def test_a_package_link_calls_that_package_with_the_operators_credentials() -> None:
    account = opened(**PACKAGE)

    assert (account.package.name, account.package.build) == (NAME, TWILIO.build)
    assert account.credentials == TWILIO.credentials.model_validate(SAMPLE.credentials)
    assert account.package.parse_webhook is TWILIO.parse_webhook
    assert HIDDEN not in repr(account)


def test_another_package_keeps_its_own_account() -> None:
    row = a_provider(package="provider-twilio", encrypted_credentials=json.dumps(SAMPLE.credentials).encode())

    assert open_account(row, Cipher(), read_links(settings(SMPP))).package is TWILIO


def test_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n", "utf-8")
    (tmp_path / "credentials").write_text(json.dumps(SAMPLE.credentials), "utf-8")

    smpp = settings(SMPP, sms_link_password=None, sms_link_password_file=tmp_path / "password")
    package = settings(PACKAGE, sms_link_credentials=None, sms_link_credentials_file=tmp_path / "credentials")

    assert smpp.smpp_password().get_secret_value() == "secret"
    assert read_links(package)[NAME].credentials == TWILIO.credentials.model_validate(SAMPLE.credentials)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (SMPP | {"sms_link_host": None}, "SLUICE_SMS_LINK_HOST"),
        (SMPP | {"sms_link_system_id": None}, "SLUICE_SMS_LINK_SYSTEM_ID"),
        (PACKAGE | {"sms_link_package": None}, "SLUICE_SMS_LINK_PACKAGE"),
        (PACKAGE | {"sms_link_package": "provider-nix"}, "SLUICE_SMS_LINK_PACKAGE"),
        (PACKAGE | {"sms_link_package": "provider-resend"}, "SLUICE_SMS_LINK_PACKAGE"),
        (PACKAGE | {"sms_link_package": NAME}, "SLUICE_SMS_LINK_PACKAGE"),
        (PACKAGE | {"sms_link_credentials": None}, "SLUICE_SMS_LINK_CREDENTIALS"),
        (PACKAGE | {"sms_link_credentials": "{"}, "SLUICE_SMS_LINK_CREDENTIALS"),
        (PACKAGE | {"sms_link_credentials": '{"authToken": "' + HIDDEN + '"}'}, "accountSid"),
        (PACKAGE | {"sms_link_credentials": '{"nosuch": "' + HIDDEN + '"}'}, "nosuch"),
    ],
)
def test_a_missing_or_wrong_setting_is_named_and_no_secret_is_shown(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(SluiceError, match=named) as refused:
        read_links(settings(fields))

    assert HIDDEN not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sms_link_password": None}, "SLUICE_SMS_LINK_PASSWORD"),
        ({"sms_link_password": ""}, "SLUICE_SMS_LINK_PASSWORD"),
        ({"sms_link_password": None, "sms_link_password_file": "/nosuch"}, "SLUICE_SMS_LINK_PASSWORD_FILE"),
        ({"sms_link_password": HIDDEN + "é"}, "password"),
        ({"sms_link_password": HIDDEN * 300}, "password"),
    ],
)
def test_a_session_needs_a_password_that_fits(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(SluiceError, match=named) as refused:
        smpp_config(settings(SMPP, **changes))

    assert HIDDEN not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "ss7"),
        ("port", 0),
        ("port", 65536),
        ("system_id", "x" * 16),
        ("system_id", ""),
        ("system_type", "é"),
        ("binds", 0),
        ("window", 0),
        ("data_coding_default", "utf8"),
        ("long_message_mode", "split"),
        ("message_id_format", "hex"),
        ("timezone", "Africa/Nowhere"),
        ("timezone", "../etc/passwd"),
        ("status_overrides", {"8": "nosuch"}),
        ("source_ton", 7),
    ],
)
def test_a_value_outside_its_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(SMPP, **{f"sms_link_{name}": value})

    assert refused.value.errors()[0]["loc"][0] == f"sms_link_{name}"


def test_status_overrides_are_read() -> None:
    found = settings(SMPP, sms_link_status_overrides={"8": "throttled"})

    assert found.sms_link_status_overrides == {8: StatusClass.THROTTLED}


def test_tls_needs_a_readable_certificate_authority() -> None:
    assert settings(SMPP).tls_context() is None
    assert isinstance(settings(SMPP, sms_link_tls=True).tls_context(), ssl.SSLContext)
    with pytest.raises(SluiceError, match="SLUICE_SMS_LINK_CA_FILE"):
        settings(SMPP, sms_link_tls=True, sms_link_ca_file="/nosuch").tls_context()
