"""Properties of every package, ours and third parties'."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sluice.model.outcome import Accepted, RecipientRejected
from sluice.model.state import EventType
from sluice.providers import registry
from sluice.providers.contract import (
    RECEIPT_TYPES,
    AnyPackage,
    InvalidReceiptSignatureError,
    ReceiptSource,
    TransportKind,
)
from sluice.providers.kit.credentials import secrets_of
from sluice.providers.registry import PACKAGES, UnknownPackageError, credential_schema, get_package
from sluice_simulator.registry import DIALECTS
from tests.unit.providers.examples import HIDDEN, a_receipt, content_for, credentials_of, outbound, sample_of

SIGNED_HEADERS = [
    *("svix-id", "svix-timestamp", "content-type"),
    *(dialect.receipts.signature_header or "authorization" for dialect in DIALECTS.values() if dialect.receipts),
]
every_package = pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES.keys())


@every_package
def test_a_package_is_found_under_its_own_name(package: AnyPackage) -> None:
    assert get_package(package.name) is package
    assert package.name.startswith("provider-")


def test_an_unknown_name_is_an_error_that_lists_the_installed_ones() -> None:
    with pytest.raises(UnknownPackageError, match=r"provider-nix.*provider-resend, .*provider-smtp"):
        get_package("provider-nix")


@every_package
def test_no_text_made_of_credentials_shows_a_secret(package: AnyPackage) -> None:
    credentials = credentials_of(package)

    shown = f"{credentials!r} {credentials} {credentials.model_dump()} {credentials.model_dump_json()}"

    assert HIDDEN not in shown
    assert all(HIDDEN in secret for secret in secrets_of(credentials))


@every_package
def test_a_validation_error_does_not_repeat_the_credentials(package: AnyPackage) -> None:
    with pytest.raises(ValidationError) as complaint:
        package.credentials.model_validate({**sample_of(package).credentials, "nosuch": HIDDEN})

    assert HIDDEN not in str(complaint.value)


@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
@every_package
def test_finding_7_no_secret_may_be_blank(package: AnyPackage, blank: str) -> None:
    sample = sample_of(package).credentials
    for path in _secret_paths(sample):
        with pytest.raises(ValidationError) as refused:
            package.credentials.model_validate(_replaced(sample, path, blank))

        assert [error["loc"] for error in refused.value.errors()] == [path]


def _secret_paths(value: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, content in value.items():
        if isinstance(content, Mapping):
            yield from ((name, *path) for path in _secret_paths(content))
        elif HIDDEN in str(content):
            yield (name,)


def _replaced(value: Mapping[str, Any], path: tuple[str, ...], content: str) -> dict[str, Any]:
    name, *rest = path
    return {**value, name: _replaced(value[name], tuple(rest), content) if rest else content}


@every_package
def test_the_schema_is_json_in_the_callers_spelling(package: AnyPackage) -> None:
    schema = json.loads(json.dumps(credential_schema(package)))

    assert set(sample_of(package).credentials) <= set(schema["properties"])
    assert schema["additionalProperties"] is False


@every_package
def test_the_request_of_a_package_shows_no_secret_when_printed(package: AnyPackage) -> None:
    assert HIDDEN not in repr(package.build(outbound(content_for(package)), credentials_of(package)))


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
def test_no_response_raises_in_a_package_or_passes_for_an_acceptance(
    package: AnyPackage, status: int, content: bytes
) -> None:
    assert not isinstance(package.classify(httpx.Response(status, content=content)), Accepted)


@pytest.mark.parametrize("content", [b"", b"<html>Forbidden</html>", b"{}", b'{"code":403,"message":"Forbidden"}'])
@pytest.mark.parametrize(
    "package", [p for p in PACKAGES.values() if p.transport is TransportKind.HTTP], ids=lambda p: p.name
)
def test_no_status_alone_is_about_the_recipient(package: AnyPackage, content: bytes) -> None:
    """Anything on the way may answer with a status: only a provider's own words end a delivery."""
    found = [package.classify(httpx.Response(status, content=content)) for status in range(300, 600)]

    assert not any(isinstance(outcome, RecipientRejected) for outcome in found)


@settings(deadline=None, max_examples=60)
@given(
    headers=st.dictionaries(
        st.sampled_from(SIGNED_HEADERS),
        st.text(max_size=30) | st.sampled_from(["v1,", "1777896000", "application/json"]),
    ),
    body=st.binary(max_size=80),
)
@pytest.mark.parametrize("package", [p for p in PACKAGES.values() if p.parse_webhook], ids=lambda p: p.name)
def test_no_unsigned_request_raises_otherwise_or_passes_for_a_genuine_one(
    package: AnyPackage, headers: dict[str, str], body: bytes
) -> None:
    assert package.parse_webhook is not None
    with pytest.raises(InvalidReceiptSignatureError):
        package.parse_webhook(a_receipt("https://h.test/r?ref=1", headers, body), credentials_of(package), {})


@every_package
def test_the_facts_of_a_package_agree_with_its_functions(package: AnyPackage) -> None:
    assert (package.receipts is ReceiptSource.WEBHOOK) <= (package.parse_webhook is not None)
    assert package.max_recipients >= 1
    assert package.docs_url.startswith("https://") or package.transport is TransportKind.SANDBOX
    assert all(url.startswith("https://") for url in package.webhook_urls)


@every_package
def test_an_adapters_tables_have_the_names_of_every_adapter(package: AnyPackage) -> None:
    adapter = import_module(package.build.__module__)
    tables = {
        name
        for name, value in vars(adapter).items()
        if name.isupper() and not name.startswith("_") and isinstance(value, Mapping | tuple)
    }

    assert tables <= TABLES
    assert {one for row in vars(adapter).get("EVENT_TYPES", {}).values() for one in event_types(row)} <= RECEIPT_TYPES


TABLES = {
    *("ERROR_CODES", "STATUS_FALLBACK", "GROUP_FALLBACK", "REPLY_RULES", "ERROR_TEXTS"),
    *("EVENT_TYPES", "GROUP_EVENT_TYPES", "BOUNCE_TYPES", "ASYNC_ERROR_CODES"),
}


def event_types(row: Any) -> list[EventType]:
    values = row if isinstance(row, tuple) else (row,)
    return [value for value in values if isinstance(value, EventType)]


# Third parties


class Entry(EntryPoint):
    """An entry point with its object."""

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
def test_an_entry_point_without_a_package_is_skipped(offered: list[Entry], found: Any) -> None:
    offered.append(entry("odd", found))

    assert registry.load_entry_points() == {}
    assert get_package("provider-smtp") is PACKAGES["provider-smtp"]
