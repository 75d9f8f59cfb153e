"""The kit: error tables, times, and the comparison of signatures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from sluice.model.outcome import (
    AuthFailed,
    Declined,
    ProviderFault,
    RecipientRejected,
    Refusal,
    Scope,
    Throttled,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.providers.contract import Credentials, InvalidReceiptSignatureError
from sluice.providers.kit.credentials import WebhookToken
from sluice.providers.kit.error_table import ErrorTable, reason_of, rows
from sluice.providers.kit.requests import basic
from sluice.providers.kit.responses import exact_json_object, identifier, number_of, object_of, xml_texts
from sluice.providers.kit.signatures import require_match, verify_hmac_sha256, verify_url_token, with_url_token
from sluice.providers.kit.times import parse_http_date, parse_iso_time, parse_unix_time
from tests.unit.providers.examples import a_receipt

TABLE: ErrorTable[str] = ErrorTable(
    {
        "big": Declined(Reason.TOO_LARGE),
        "account": Declined(Reason.QUOTA, scope=Scope.ACCOUNT),
        "quota": Throttled(retry_after=timedelta(hours=1), scope=Scope.SENDER),
        "rate": Throttled(),
    },
    {401: AuthFailed(), 503: ProviderFault()},
)


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (400, "big", Declined(Reason.TOO_LARGE, "400 big words")),
        (503, "account", Declined(Reason.QUOTA, "503 account words", Scope.ACCOUNT)),
        (401, "other", AuthFailed("401 other words")),
        (401, None, AuthFailed("401 words")),
        (503, None, ProviderFault("503 words")),
        (418, "other", Unknown("418 other words")),
        (418, "Word", Unknown("418 words")),
        (200, "big", Unknown("200 big words")),
    ],
)
def test_the_code_decides_and_then_the_status(status: int, code: str | None, outcome: Refusal) -> None:
    assert TABLE.outcome(httpx.Response(status), code, "words") == outcome


@pytest.mark.parametrize(
    ("code", "header", "wait", "expected"),
    [
        ("rate", None, None, None),
        ("rate", "7", None, timedelta(seconds=7)),
        ("rate", "7", timedelta(seconds=9), timedelta(seconds=9)),
        ("quota", None, None, timedelta(hours=1)),
        ("quota", "7", None, timedelta(seconds=7)),
    ],
)
def test_the_providers_own_wait_comes_before_the_tables(
    code: str, header: str | None, wait: timedelta | None, expected: timedelta | None
) -> None:
    response = httpx.Response(429, headers={"retry-after": header} if header else {})

    outcome = TABLE.outcome(response, code, wait=wait)

    assert isinstance(outcome, Throttled)
    assert outcome.retry_after == expected


NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (parse_iso_time("2026-05-04T12:00:00"), NOON),
        (parse_iso_time("2026-05-04T14:00:00+02:00"), NOON),
        (parse_iso_time("soon"), None),
        (parse_iso_time(7), None),
        (parse_http_date("Mon, 04 May 2026 12:00:00 GMT"), NOON),
        (parse_http_date("soon"), None),
        (parse_unix_time(int(NOON.timestamp())), NOON),
        (parse_unix_time(10**30), None),
        (parse_unix_time(10**11), None),
        (parse_iso_time("9999-12-31T23:59:59"), None),
        (parse_iso_time("0001-01-01T00:00:00+14:00"), None),
        (parse_http_date("Mon, 04 May 2626 12:00:00 GMT"), None),
        (parse_unix_time("7"), None),
    ],
)
def test_times_are_aware_or_none(found: datetime | None, expected: datetime | None) -> None:
    assert found == expected


@pytest.mark.parametrize(("offered", "expected"), [([], ["a"]), (["a"], []), (["b", ""], ["a"]), (["ä"], ["a"])])
def test_nothing_matches_unless_one_is_equal(offered: list[str], expected: list[str]) -> None:
    with pytest.raises(InvalidReceiptSignatureError):
        require_match(offered, expected)


def test_one_equal_signature_is_enough() -> None:
    require_match(["b", "a"], ["c", "a"])


TOKEN = SecretStr("0123456789-abcdef_X")


@pytest.mark.parametrize("url", ["https://h.test/r", "https://h.test/r?a=b"])
def test_the_token_in_the_address_is_verified(url: str) -> None:
    request = a_receipt(with_url_token(url, TOKEN), {}, b"")

    verify_url_token(request, TOKEN)
    with pytest.raises(InvalidReceiptSignatureError):
        verify_url_token(request, SecretStr(TOKEN.get_secret_value() + "x"))


@pytest.mark.parametrize("token", ["", "fifteen-letters", "a token with blanks in it", "ä" * 20, "x" * 201])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token: str) -> None:
    class Account(Credentials):
        webhook_token: WebhookToken

    with pytest.raises(ValidationError):
        Account.model_validate({"webhook_token": token})


def test_rows_end_alike() -> None:
    assert rows(AuthFailed(), 1, 2) == {1: AuthFailed(), 2: AuthFailed()}


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (RecipientRejected(Reason.BLOCKED), Reason.BLOCKED),
        (Declined(Reason.SPAM), Reason.SPAM),
        (AuthFailed(), Reason.CREDENTIALS),
        (Throttled(), Reason.QUOTA),
        (ProviderFault(), Reason.NETWORK),
        (Unknown(), Reason.NETWORK),
    ],
)
def test_every_refusal_names_a_reason(refusal: Refusal, reason: Reason) -> None:
    assert reason_of(refusal) is reason


@pytest.mark.parametrize("found", [None, 7, "x", [], [{"a": 1}]])
def test_what_is_no_object_is_an_empty_one(found: object) -> None:
    assert object_of({"name": found}, "name") == {}
    assert object_of({}, "name") == {}
    assert object_of({"name": {"a": 1}}, "name") == {"a": 1}


def test_a_password_may_have_any_letters() -> None:
    assert basic("u", "pä:ss") == httpx.BasicAuth("u", "pä:ss")._auth_header


# RFC 4231, test case 2.
DIGEST = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


def test_an_hmac_of_the_body_is_verified() -> None:
    body, key = b"what do ya want for nothing?", SecretStr("Jefe")

    verify_hmac_sha256(body, key, DIGEST)
    for offered in ("", DIGEST.upper(), DIGEST[:-1], DIGEST + "0", "sha256=" + DIGEST):
        with pytest.raises(InvalidReceiptSignatureError):
            verify_hmac_sha256(body, key, offered)
    for other in (None, SecretStr(""), SecretStr("jefe")):
        with pytest.raises(InvalidReceiptSignatureError):
            verify_hmac_sha256(body, other, DIGEST)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a":902026010211300900000000001,"b":1.50}', {"a": "902026010211300900000000001", "b": "1.50"}),
        (b'{"a":{"b":[1]}}', {"a": {"b": ["1"]}}),
        *[(odd, {}) for odd in (b"", b"[]", b"7", b"{", b'{"a":NaN}', b'{"a":"\\ud800"}', b"\xff", b'{"a":' * 5000)],
    ],
)
def test_numbers_are_read_without_loss(content: bytes, expected: object) -> None:
    assert exact_json_object(content) == expected


@pytest.mark.parametrize("value", ["", " ", "a b", "a\n", "\x00", "é", "x" * 201, None, 7, True, ["a"], {"a": 1}])
def test_what_is_no_identifier(value: object) -> None:
    assert identifier(value) is None


@pytest.mark.parametrize("value", ["3017", "ATXid_01-2", "x" * 200])
def test_what_is_an_identifier(value: str) -> None:
    assert identifier(value) == value


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'<a xmlns="http://x/"><b>1</b><b>2</b><n:c xmlns:n="y">&lt;3</n:c></a>', {"a/b": "1", "a/c": "<3", "a": ""}),
        (b"<a><b/></a>", {"a/b": "", "a": ""}),
        (b"<a>1<!-- x -->2</a>", {"a": "12"}),
        *[(odd, {}) for odd in (b"", b"<a>", b"<a></b>", b"<a/><b/>", b"{}", b"\xff\xfe<", b"<a>" * 50)],
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', {}),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', {}),
        (b'<?xml version="1.0" encoding="none-such"?><a/>', {}),
        (b'<?xml version="1.0" encoding="rot13"?><a/>', {}),
    ],
)
def test_texts_of_xml(content: bytes, expected: dict[str, str]) -> None:
    assert xml_texts(content) == expected


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("+2348012345678", "+2348012345678"),
        ("2348012345678", "+2348012345678"),
        (" 2348012345678", "+2348012345678"),  # the plus sign of a form that was not encoded
        ("12345", "12345"),
        ("08012345678", "08012345678"),
        ("ACME", "ACME"),
        ("2f6c3f5e-8f0c-4d0b-9a38-0d3c1f5b7a11", "2f6c3f5e-8f0c-4d0b-9a38-0d3c1f5b7a11"),
        ("", None),
        (2348012345678, None),
    ],
)
def test_a_number_has_the_form_of_its_channel(value: object, number: str | None) -> None:
    assert number_of(value) == number
