"""Telegram's dialect. The facts are those of sluice/providers/adapters/telegram.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

import orjson

from sluice.providers.contract import TransportKind
from sluice_simulator.dialect import (
    Answered,
    Dialect,
    FakeRequest,
    FakeResponse,
    ParsedSend,
    ReceiptContext,
    ReceiptDialect,
    ReceiptPayload,
    Refused,
    json_response,
)
from sluice_simulator.scenario import Behaviour, Rule

# name -> (status, description)
ERRORS: Mapping[str, tuple[int, str]] = {
    "blocked": (403, "Forbidden: bot was blocked by the user"),
    "deactivated": (403, "Forbidden: user is deactivated"),
    "kicked": (403, "Forbidden: bot was kicked from the group chat"),
    "chat_not_found": (400, "Bad Request: chat not found"),
    "chat_id_empty": (400, "Bad Request: chat_id is empty"),
    "text_empty": (400, "Bad Request: message text is empty"),
    "too_long": (400, "Bad Request: message is too long"),
    "upgraded": (400, "Bad Request: group chat was upgraded to a supergroup chat"),
    "unauthorized": (401, "Unauthorized"),
    "invalid_token": (401, "Unauthorized: invalid token specified"),
    "no_method": (404, "Not Found: method not found"),
    "not_found": (404, "Not Found"),
    "flood": (429, "Too Many Requests: retry after {wait}"),
    "restart": (500, "Internal Server Error: restart"),
}
REFUSALS: Mapping[Behaviour, str] = {
    Behaviour.REJECT: "blocked",
    Behaviour.THROTTLE: "flood",
    Behaviour.AUTH: "unauthorized",
    Behaviour.FAULT: "restart",
}

_PATH = re.compile(r"/bot([^/]+)(?:/test)?/([A-Za-z]+)")
_TOKEN = re.compile(r"[1-9][0-9]*:[A-Za-z0-9_-]+")
_USERNAME = re.compile(r"@[A-Za-z][A-Za-z0-9_]{3,31}")


def _error(name: str, wait: float = 1) -> FakeResponse:
    status, description = ERRORS[name]
    seconds = max(1, round(wait))
    body: dict[str, Any] = {
        "ok": False,
        "error_code": status,
        "description": description.format(wait=seconds),
    }
    if name == "upgraded":
        body["parameters"] = {"migrate_to_chat_id": -1001234567890}
    if status != 429:
        return json_response(status, body)
    body["parameters"] = {"retry_after": seconds}
    return json_response(status, body, {"Retry-After": str(seconds)})


def read(request: FakeRequest) -> ParsedSend | Refused | Answered:
    """A text to a chat, ``getMe``, or Telegram's refusal. Method names are case-insensitive."""
    path = _PATH.fullmatch(request.path)
    if path is None:
        return Refused(_error("not_found"))
    token, method = path[1], path[2].lower()
    if not _TOKEN.fullmatch(token):
        return Refused(_error("invalid_token"))
    bot_id = int(token.partition(":")[0])
    match method:
        case "getme":
            bot = {"id": bot_id, "is_bot": True, "first_name": "Bot", "username": f"bot{bot_id}"}
            return Answered(json_response(200, {"ok": True, "result": bot}))
        case "sendmessage":
            return _send(_fields(request), token)
        case _:
            return Refused(_error("no_method"))


def _fields(request: FakeRequest) -> dict[str, Any]:
    """The query's fields and the body's, JSON or a form."""
    fields: dict[str, Any] = dict(parse_qsl(request.query))
    if not request.headers.get(b"content-type", b"").startswith(b"application/json"):
        return fields | dict(parse_qsl(request.body.decode("utf-8", "replace")))
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return fields
    return fields | body if isinstance(body, dict) else fields


def _send(fields: Mapping[str, Any], token: str) -> ParsedSend | Refused:
    recipient, text = str(fields.get("chat_id", "")), fields.get("text")
    if not recipient:
        return Refused(_error("chat_id_empty"))
    if not isinstance(text, str) or not text.strip():
        return Refused(_error("text_empty"))
    if len(text) > 4096:
        return Refused(_error("too_long"))
    chat = _chat_id(recipient)
    if chat is None:
        return Refused(_error("chat_not_found"))
    message_id = uuid4().int % 1_000_000_000
    return ParsedSend(
        recipient=recipient,
        provider_message_id=f"{chat}:{message_id}",
        account=token,
        fields={"text": text, "chat": str(chat), "message_id": str(message_id)},
    )


def _chat_id(recipient: str) -> int | None:
    """The id of a chat; that of a public name is derived from the name."""
    if _USERNAME.fullmatch(recipient):
        return -1_000_000_000_000 - int.from_bytes(sha256(recipient.lower().encode()).digest()[:4])
    # The behaviours' own recipients ("hang+…", "+1999005…") stand for chats too.
    return int(recipient) if re.fullmatch(r"[+-]?[0-9]{1,16}", recipient) else None


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """Telegram's response to a send."""
    refusal = REFUSALS.get(behaviour)
    if refusal is not None:
        return _error(rule.code if rule.code and rule.code in ERRORS else refusal, rule.retry_after)
    chat = int(send.fields["chat"])
    message = {
        "message_id": int(send.fields["message_id"]),
        "date": int(datetime.now(UTC).timestamp()),
        "chat": {"id": chat, "type": "private" if chat > 0 else "supergroup"},
        "text": send.fields["text"],
    }
    return json_response(200, {"ok": True, "result": message})


# Updates ---------------------------------------------------------------------------------------------------


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    """An update: the recipient writes to the bot (``inbound``) or blocks it (``opt_out``)."""
    send = context.send
    webhook = context.scenario.webhooks.get(send.account) or context.scenario.webhooks.get("*")
    if webhook is None or context.kind not in ("inbound", "opt_out"):
        return None
    chat, date = {"id": int(send.fields["chat"]), "type": "private"}, int(context.at.timestamp())
    update: dict[str, Any] = {"update_id": int.from_bytes(sha256(context.receipt_id.encode()).digest()[:4])}
    if context.kind == "inbound":
        update["message"] = {"message_id": 1, "date": date, "chat": chat, "text": "/start"}
    else:
        bot = {"id": int(send.account.partition(":")[0]), "is_bot": True, "first_name": "Bot"}
        update["my_chat_member"] = {
            "chat": chat,
            "from": {"id": chat["id"], "is_bot": False, "first_name": "Ann"},
            "date": date,
            "old_chat_member": {"status": "member", "user": bot},
            "new_chat_member": {"status": "kicked", "user": bot, "until_date": 0},
        }
    return ReceiptPayload(context.receipt_id, webhook.url, "application/json", orjson.dumps(update), webhook.secret)


def _sign(payload: ReceiptPayload, _: datetime) -> dict[str, str]:
    return {"x-telegram-bot-api-secret-token": payload.secret}


TELEGRAM = Dialect(
    name="telegram",
    package="provider-telegram",
    transport=TransportKind.HTTP,
    default_port=2582,
    read=read,
    respond=respond,
    declines={Behaviour.DECLINE: "too_long"},
    receipts=ReceiptDialect(_write, _sign, "x-telegram-bot-api-secret-token"),
)
