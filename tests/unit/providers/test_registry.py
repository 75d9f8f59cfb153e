"""What holds for every package, whoever wrote it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sluice.model.outcome import Accepted
from sluice.providers import registry
from sluice.providers.contract import AnyPackage, Credentials, InvalidReceiptSignatureError, TransportKind
from sluice.providers.kit.credentials import secrets_of
from sluice.providers.registry import PACKAGES, UnknownPackageError, credential_schema, get_package
from tests.unit.providers.examples import a_receipt, an_email, an_sms, outbound

HIDDEN = "s3cr3t-that-nobody-may-see"
COMPLETE: dict[str, dict[str, Any]] = {
    "provider-smtp": {"host": "mx.example.com", "auth": {"user": "u", "pass": HIDDEN}},
    "provider-resend": {"apiKey": HIDDEN, "webhookSecret": HIDDEN},
    "provider-twilio": {"accountSid": "AC" + "0" * 32, "authToken": HIDDEN, "from": "ACME"},
    "provider-sandbox": {},
}
every_package = pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES.keys())


def credentials_of(package: AnyPackage) -> Credentials:
    complete: Credentials = package.credentials.model_validate(COMPLETE[package.name])
    return complete


@every_package
def test_a_package_is_found_under_its_own_name(package: AnyPackage) -> None:
    assert get_package(package.name) is package
    assert package.name.startswith("provider-")


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UnknownPackageError, match=r"provider-nix.*provider-resend, .*provider-smtp"):
        get_package("provider-nix")


@every_package
def test_no_text_made_of_credentials_shows_a_secret(package: AnyPackage) -> None:
    credentials = credentials_of(package)

    shown = f"{credentials!r} {credentials} {credentials.model_dump()} {credentials.model_dump_json()}"

    assert HIDDEN not in shown
    assert set(secrets_of(credentials)) <= {HIDDEN}


@every_package
def test_a_complaint_about_credentials_does_not_repeat_them(package: AnyPackage) -> None:
    with pytest.raises(ValidationError) as complaint:
        package.credentials.model_validate({**COMPLETE[package.name], "nosuch": HIDDEN})

    assert HIDDEN not in str(complaint.value)


@every_package
def test_the_schema_is_json_in_the_callers_spelling(package: AnyPackage) -> None:
    schema = json.loads(json.dumps(credential_schema(package)))

    assert set(COMPLETE[package.name]) <= set(schema["properties"])
    assert schema["additionalProperties"] is False


@every_package
def test_the_request_of_a_package_shows_no_secret_when_printed(package: AnyPackage) -> None:
    content = an_email() if "email" in package.channels else an_sms()

    assert HIDDEN not in repr(package.build(outbound(content), credentials_of(package)))


@settings(deadline=None, max_examples=60)
@given(
    status=st.integers(200, 599),
    content=st.one_of(
        st.binary(max_size=60), st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode)
    ),
)
@pytest.mark.parametrize(
    "package", [p for p in PACKAGES.values() if p.transport is TransportKind.HTTP], ids=lambda p: p.name
)
def test_no_answer_whatsoever_upsets_a_package_or_passes_for_an_acceptance(
    package: AnyPackage, status: int, content: bytes
) -> None:
    assert not isinstance(package.classify(httpx.Response(status, content=content)), Accepted)


@settings(deadline=None, max_examples=60)
@given(
    headers=st.dictionaries(
        st.sampled_from(["svix-id", "svix-timestamp", "svix-signature", "x-twilio-signature", "content-type"]),
        st.text(max_size=30) | st.sampled_from(["v1,", "1777896000", "application/json"]),
    ),
    body=st.binary(max_size=80),
)
@pytest.mark.parametrize("package", [p for p in PACKAGES.values() if p.parse_webhook], ids=lambda p: p.name)
def test_no_receipt_whatsoever_upsets_a_package_or_passes_for_a_genuine_one(
    package: AnyPackage, headers: dict[str, str], body: bytes
) -> None:
    assert package.parse_webhook is not None
    with pytest.raises(InvalidReceiptSignatureError):
        package.parse_webhook(a_receipt("https://h.test/r?ref=1", headers, body), credentials_of(package), {})


# Third parties


class Entry(EntryPoint):
    """An entry point whose object is at hand."""

    found: Any

    def load(self) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def entry(name: str, found: Any) -> Entry:
    made = Entry(name, "x:y", registry.ENTRY_POINTS)
    vars(made)["found"] = found
    return made


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Entry]]:
    entries: list[Entry] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    registry.installed.cache_clear()
    yield entries
    registry.installed.cache_clear()


def test_a_third_partys_package_is_found_by_its_name(offered: list[Entry]) -> None:
    from dataclasses import replace

    pigeon = replace(PACKAGES["provider-sandbox"], name="provider-pigeon")
    offered.append(entry("pigeon", pigeon))

    assert get_package("provider-pigeon") is pigeon


@pytest.mark.parametrize("found", [ImportError("no"), "not a package", PACKAGES["provider-smtp"]])
def test_what_is_no_package_of_theirs_is_left_out_and_the_rest_goes_on(offered: list[Entry], found: Any) -> None:
    offered.append(entry("odd", found))

    assert registry.load_entry_points() == {}
    assert get_package("provider-smtp") is PACKAGES["provider-smtp"]
