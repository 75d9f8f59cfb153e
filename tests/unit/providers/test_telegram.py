"""provider-telegram: the request, every row of the error table, and the updates with their forgeries."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from sluice.model.message import ChatMessage
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Throttled,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.model.suppression import SuppressionReason, suppression_reason
from sluice.providers.adapters.telegram import TelegramCredentials, build, classify, parse_webhook
from sluice.providers.contract import (
    InboundMessage,
    InvalidReceiptSignatureError,
    OptOut,
    UnsupportedMessageError,
    WebhookEvent,
    WebhookRequest,
)
from tests.unit.providers.examples import HIDDEN, Sample, a_receipt, an_sms, outbound
from tests.unit.providers.forgeries import Genuine, Header

SAMPLE = Sample({"botToken": f"42:{HIDDEN}", "secretToken": HIDDEN}, webhook_secret=HIDDEN)
TOKEN = "42:AAE_x-yz"
SECRET = "webhook-secret_1"
FIELDS: dict[str, Any] = {"botToken": TOKEN, "secretToken": SECRET}
CREDENTIALS = TelegramCredentials.model_validate(FIELDS)
URL = "https://hooks.example.test/receipts/prv_1"


def a_text(text: str = "Order <A-17> & co.", **changes: Any) -> Any:
    return outbound(ChatMessage(channel="telegram", text=text), **{"recipient": "123456789", **changes})


# The request


def test_the_text_is_in_the_request() -> None:
    request = build(a_text(), CREDENTIALS)

    assert (request.method, str(request.url)) == ("POST", f"https://api.telegram.org/bot{TOKEN}/sendMessage")
    assert request.headers["content-type"] == "application/json"
    assert "authorization" not in request.headers
    assert json.loads(request.content) == {"chat_id": 123456789, "text": "Order <A-17> & co."}


@pytest.mark.parametrize(
    ("recipient", "chat_id"),
    [
        ("-1001234567890", -1001234567890),
        ("4503599627370495", 4503599627370495),
        ("@some_channel", "@some_channel"),
        ("007", "007"),
    ],
)
def test_a_chat_is_an_id_or_a_public_name(recipient: str, chat_id: int | str) -> None:
    assert json.loads(build(a_text(recipient=recipient), CREDENTIALS).content)["chat_id"] == chat_id


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"testEnvironment": True}, f"https://api.telegram.org/bot{TOKEN}/test/sendMessage"),
        ({"baseUrl": "http://127.0.0.1:8081/"}, f"http://127.0.0.1:8081/bot{TOKEN}/sendMessage"),
    ],
)
def test_the_server_can_be_another(fields: dict[str, Any], url: str) -> None:
    assert str(build(a_text(), TelegramCredentials.model_validate({**FIELDS, **fields})).url) == url


def test_every_attempt_sends_the_same_bytes() -> None:
    first, second = build(a_text(), CREDENTIALS), build(a_text(reference="att_2"), CREDENTIALS)

    assert (first.url, first.content) == (second.url, second.content)


@pytest.mark.parametrize(
    "content", [an_sms(), ChatMessage(channel="signal", text="x"), ChatMessage(channel="telegram", text="\ud800")]
)
def test_what_it_cannot_carry_is_refused(content: Any) -> None:
    with pytest.raises(UnsupportedMessageError):
        build(outbound(content, recipient="1"), CREDENTIALS)


@pytest.mark.parametrize(
    "fields",
    [
        {"botToken": "42"},
        {"botToken": "042:abc"},
        {"botToken": "42:"},
        {"botToken": "42:a/b"},
        {"botToken": "42:a?b"},
        {"botToken": "42:" + "a" * 60},
        {"botToken": "x:abc"},
        {"secretToken": ""},
        {"secretToken": "a b"},
        {"secretToken": "a" * 257},
        {"baseUrl": "ftp://x"},
        {"surprise": 1},
    ],
)
def test_credentials_that_cannot_work_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        TelegramCredentials.model_validate({**FIELDS, **fields})

    assert TOKEN not in str(error.value)


def test_a_token_loses_the_line_end_it_was_pasted_with() -> None:
    credentials = TelegramCredentials.model_validate({"botToken": f" {TOKEN}\n"})

    assert credentials.bot_token.get_secret_value() == TOKEN


# Responses


def accepted(**changes: Any) -> dict[str, Any]:
    message = {"message_id": 7, "date": 1760000000, "chat": {"id": 123456789, "type": "private"}, "text": "x"}
    return {"ok": True, "result": message | changes}


@pytest.mark.parametrize(
    ("changes", "message_id"),
    [
        ({}, "123456789:7"),
        ({"message_id": 0}, "123456789:0"),
        ({"chat": {"id": -1001234567890}}, "-1001234567890:7"),
    ],
)
def test_a_200_with_the_message_is_accepted_under_chat_and_number(changes: dict[str, Any], message_id: str) -> None:
    assert classify(httpx.Response(200, json=accepted(**changes))) == Accepted(message_id)


@pytest.mark.parametrize(
    "body",
    [
        {"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked by the user"},
        {"ok": True},
        {"ok": True, "result": True},
        {"ok": 1, "result": accepted()["result"]},
        accepted(message_id=None),
        accepted(message_id="7"),
        accepted(message_id=True),
        accepted(chat=7),
        accepted(chat={}),
        [],
    ],
)
def test_a_200_that_is_not_the_documented_one_is_unknown(body: Any) -> None:
    assert isinstance(classify(httpx.Response(200, json=body)), Unknown)


OPTED_OUT, DISABLED = RecipientRejected(Reason.UNSUBSCRIBED), RecipientRejected(Reason.DISABLED)
NO_CHAT = RecipientRejected(Reason.UNKNOWN_RECIPIENT)
INVALID, TOO_LARGE = Declined(Reason.INVALID_CONTENT), Declined(Reason.TOO_LARGE)
NOT_ALLOWED = Declined(Reason.POLICY)
ROWS: list[tuple[int, str, Outcome]] = [
    (429, "Too Many Requests: retry after 5", Throttled(retry_after=timedelta(seconds=5))),
    (401, "Unauthorized", AuthFailed()),
    (401, "Unauthorized: invalid token specified", AuthFailed()),
    (404, "Not Found", AuthFailed()),
    (404, "Not Found: method not found", AuthFailed()),
    (421, "Misdirected Request: unallowed token specified", AuthFailed()),
    (409, "Conflict: terminated by other getUpdates request", AuthFailed()),
    (403, "Forbidden: bot was blocked by the user", OPTED_OUT),
    (403, "Forbidden: user is deactivated", DISABLED),
    (403, "Forbidden: bot can't initiate conversation with a user", RecipientRejected(Reason.UNREACHABLE)),
    (403, "Forbidden: bot was kicked from the group chat", OPTED_OUT),
    (403, "Forbidden: bot was kicked from the supergroup chat", OPTED_OUT),
    (403, "Forbidden: bot was kicked from the channel chat", OPTED_OUT),
    (403, "Forbidden: bot is not a member of the group chat", RecipientRejected(Reason.BLOCKED)),
    (403, "Forbidden: bot is not a member of the supergroup chat", RecipientRejected(Reason.BLOCKED)),
    (403, "Forbidden: bot is not a member of the channel chat", RecipientRejected(Reason.BLOCKED)),
    (403, "Forbidden: the group chat was deleted", NO_CHAT),
    (403, "Forbidden: something new", RecipientRejected(Reason.BLOCKED)),
    (400, "Bad Request: chat not found", NO_CHAT),
    (400, "Bad Request: private chat not found", NO_CHAT),
    (400, "Bad Request: PEER_ID_INVALID", NO_CHAT),
    (400, "Bad Request: group chat was upgraded to a supergroup chat", NO_CHAT),
    (400, "Bad Request: message text is empty", INVALID),
    (400, "Bad Request: message is too long", TOO_LARGE),
    (400, "Bad Request: can't parse entities: unsupported start tag at byte offset 7", INVALID),
    (400, "Bad Request: unsupported parse_mode", INVALID),
    (400, "Bad Request: CHAT_ADMIN_REQUIRED", NOT_ALLOWED),
    (400, "Bad Request: not enough rights to send text messages to the chat", NOT_ALLOWED),
    (400, "Bad Request: TOPIC_CLOSED", NOT_ALLOWED),
    (400, "Bad Request: message thread not found", NOT_ALLOWED),
    (400, "Logged out", AuthFailed()),
    (400, "Bad Request: reply markup is too long", TOO_LARGE),
    (400, "Bad Request: Wrong HTTP URL specified", INVALID),
    (400, "Bad Request: something new", INVALID),
    (413, "Request Entity Too Large", TOO_LARGE),
    (500, "Internal Server Error: restart", ProviderFault()),
    (500, "Internal Server Error", ProviderFault()),
]


@pytest.mark.parametrize(("status", "description", "outcome"), ROWS)
@pytest.mark.parametrize("spelling", [str, str.upper])
def test_a_refusal_is_classified(status: int, description: str, outcome: Outcome, spelling: Any) -> None:
    description = spelling(description)
    body = {"ok": False, "error_code": status, "description": description}

    found = classify(httpx.Response(status, json=body))

    assert not isinstance(found, Accepted)
    assert found.detail == f"{status} {description}"
    assert type(found) is type(outcome)
    for name in ("reason", "scope", "retry_after"):
        assert getattr(found, name, None) == getattr(outcome, name, None)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(403, text="<html>403 Forbidden</html>"),
        httpx.Response(403, text="bot was blocked by the user"),
        httpx.Response(403, json={"description": "Forbidden: bot was blocked by the user"}),
        httpx.Response(403, json={"ok": True, "description": "Forbidden: user is deactivated"}),
        httpx.Response(403, json={"ok": False}),
        httpx.Response(400, json={"description": "chat not found"}),
    ],
)
def test_a_refusal_without_telegrams_envelope_is_not_about_the_recipient(response: httpx.Response) -> None:
    assert isinstance(classify(response), AuthFailed if response.status_code == 403 else Declined)


@pytest.mark.parametrize(
    ("status", "description", "suppressed"),
    [
        (403, "Forbidden: bot was blocked by the user", SuppressionReason.UNSUBSCRIBE),
        (403, "Forbidden: bot was kicked from the group chat", SuppressionReason.UNSUBSCRIBE),
        (403, "Forbidden: user is deactivated", SuppressionReason.HARD_BOUNCE),
        (403, "Forbidden: the group chat was deleted", SuppressionReason.HARD_BOUNCE),
        (400, "Bad Request: group chat was upgraded to a supergroup chat", SuppressionReason.HARD_BOUNCE),
        (403, "Forbidden: bot is not a member of the channel chat", None),  # it can become one again
        (403, "Forbidden: bot can't initiate conversation with a user", None),
    ],
)
def test_a_chat_that_refuses_the_bot_or_is_closed_is_suppressed(
    status: int, description: str, suppressed: SuppressionReason | None
) -> None:
    outcome = classify(httpx.Response(status, json={"ok": False, "error_code": status, "description": description}))

    assert isinstance(outcome, RecipientRejected)
    assert suppression_reason(EventType.FAILED, outcome.reason) is suppressed


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *[(502, ProviderFault), (503, ProviderFault), (504, Unknown), (500, Unknown), (302, Unknown), (418, Unknown)],
        *[(401, AuthFailed), (404, AuthFailed), (429, Throttled), (413, Declined)],
    ],
)
@pytest.mark.parametrize("content", [b"", b"<html>Bad Gateway</html>", b"[]", b'{"description":7,"parameters":[]}'])
def test_without_telegrams_own_body_the_status_decides(status: int, outcome: type[Outcome], content: bytes) -> None:
    assert type(classify(httpx.Response(status, content=content))) is outcome


@pytest.mark.parametrize(
    ("parameters", "header", "description", "wait"),
    [
        ({"retry_after": 35}, "9", "Too Many Requests: retry after 7", 35),
        ({"retry_after": 0}, None, "", 1),
        ({"retry_after": 10**9}, None, "", 3600),
        ({"retry_after": True}, None, "", None),
        ({"retry_after": "35"}, None, "", None),
        ({}, "9", "", 9),
        ({}, None, "Too Many Requests: retry after 7", 7),
        ({}, None, "Too Many Requests", None),
    ],
)
def test_a_throttled_call_carries_telegrams_wait(
    parameters: dict[str, Any], header: str | None, description: str, wait: int | None
) -> None:
    body = {"ok": False, "error_code": 429, "description": description, "parameters": parameters}

    found = classify(httpx.Response(429, json=body, headers={"Retry-After": header} if header else {}))

    assert isinstance(found, Throttled)
    assert found.retry_after == (None if wait is None else timedelta(seconds=wait))


def test_the_new_id_of_a_group_is_in_no_text() -> None:
    body = {
        "ok": False,
        "error_code": 400,
        "description": "Bad Request: group chat was upgraded to a supergroup chat",
        "parameters": {"migrate_to_chat_id": -1001234567890},
    }

    found = classify(httpx.Response(400, json=body))

    assert isinstance(found, RecipientRejected)
    assert "1234567890" not in found.detail


# Updates


def updates(body: Any, secret: str | None = SECRET, credentials: TelegramCredentials = CREDENTIALS) -> Any:
    headers = {} if secret is None else {"x-telegram-bot-api-secret-token": secret}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_webhook(a_receipt(URL, headers, content), credentials, {}).events


def member_update(status: str, **changes: Any) -> dict[str, Any]:
    bot = {"id": 42, "is_bot": True, "first_name": "Bot"}
    member: dict[str, Any] = {
        "chat": {"id": 123456789, "type": "private", "first_name": "Ann"},
        "from": {"id": 123456789, "is_bot": False, "first_name": "Ann"},
        "date": 1760000000,
        "old_chat_member": {"status": "member", "user": bot},
        "new_chat_member": {"status": status, "user": bot, "until_date": 0},
    }
    return {"update_id": 1001, "my_chat_member": member | changes}


def message_update(**changes: Any) -> dict[str, Any]:
    message = {"message_id": 1, "date": 1760000000, "chat": {"id": 123456789, "type": "private"}, "text": "/start A-17"}
    return {"update_id": 1002, "message": message | changes}


AT = datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("update", "events"),
    [
        (member_update("kicked"), [OptOut("123456789", Reason.BLOCKED, AT)]),
        (member_update("kicked", date="soon"), [OptOut("123456789", Reason.BLOCKED, None)]),
        (member_update("member"), []),
        (member_update("kicked", chat={}), []),
        (member_update("kicked", new_chat_member="odd"), []),
        (message_update(), [InboundMessage("1002", "123456789", "/start A-17", occurred_at=AT)]),
        (message_update(text=None), [InboundMessage("1002", "123456789", "", occurred_at=AT)]),
        (message_update(chat=None), []),
        ({**message_update(), "update_id": "1002"}, []),
        ({"update_id": 1003, "callback_query": {"id": "1", "data": "x"}}, []),
        ({"update_id": 1004, "edited_message": message_update()["message"]}, []),
        ({}, []),
        ([], []),
        (b"not json", []),
        (b"\xff\xfe", []),
    ],
)
def test_an_update_is_an_inbound_message_an_opt_out_or_nothing(update: Any, events: list[WebhookEvent]) -> None:
    assert list(updates(update)) == events


def with_secret(request: WebhookRequest, key: str) -> WebhookRequest:
    return replace(request, headers={**request.headers, "x-telegram-bot-api-secret-token": key})


GENUINE = [
    Genuine(
        a_receipt(URL, {}, json.dumps(member_update("kicked")).encode()),
        Header("x-telegram-bot-api-secret-token"),
        with_secret,
        key=SECRET,
        other_key="webhook-secret_2",
        secret="secretToken",
        covers_body=False,
    )
]
# Beside the forgery matrix.
FORGERIES: list[tuple[str, str | None]] = [
    ("a blank around it", f" {SECRET}"),
    ("the bot token", TOKEN),
]


@pytest.mark.parametrize("secret", [row[1] for row in FORGERIES], ids=[row[0] for row in FORGERIES])
def test_an_update_without_the_secret_is_refused(secret: str | None) -> None:
    with pytest.raises(InvalidReceiptSignatureError):
        updates(member_update("kicked"), secret)


@pytest.mark.parametrize("secret", [None, "", SECRET])
def test_without_a_configured_secret_nothing_is_believed(secret: str | None) -> None:
    with pytest.raises(InvalidReceiptSignatureError):
        updates(member_update("kicked"), secret, TelegramCredentials.model_validate({"botToken": TOKEN}))
