"""Telegram Bot API, sendMessage (https://core.telegram.org/bots/api, Bot API 10.1, read 2026-08).

A bot writes only to users who started it and to groups that it belongs to, so a recipient is a chat id that was
collected before. There is no idempotency key, no field for our reference, and no receipt: the highest state is SENT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

import httpx
from pydantic import AfterValidator, Field, SecretStr

from sluice.model.message import Channel, ChatMessage
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Refusal,
    Throttled,
)
from sluice.model.reasons import Reason
from sluice.providers.contract import (
    Credentials,
    InboundMessage,
    OptOut,
    OutboundMessage,
    Package,
    TransportKind,
    UnsupportedMessageError,
    WebhookReply,
    WebhookRequest,
)
from sluice.providers.kit.credentials import BASE_URL
from sluice.providers.kit.error_table import ErrorTable, find_text
from sluice.providers.kit.requests import endpoint, post_json
from sluice.providers.kit.responses import clamp, json_object, object_of, seconds, text_of
from sluice.providers.kit.signatures import json_sample, require_match, require_secret
from sluice.providers.kit.times import parse_unix_time

_BOT_TOKEN = re.compile(r"[1-9][0-9]{0,19}:[A-Za-z0-9_-]{1,59}")  # at most 80 characters
_SECRET_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}")
_CHAT_ID = re.compile(r"-?[1-9][0-9]{0,18}")
_RETRY_AFTER = re.compile(r"retry after (\d{1,9})", re.IGNORECASE)


def _bot_token(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value().strip()
    if not _BOT_TOKEN.fullmatch(value):
        raise ValueError("a bot token is <bot id>:<secret>")
    return SecretStr(value)


def _secret_token(secret: SecretStr) -> SecretStr:
    if not _SECRET_TOKEN.fullmatch(secret.get_secret_value()):
        raise ValueError("1 to 256 characters A-Z a-z 0-9 _ -")
    return secret


class TelegramCredentials(Credentials):
    """A bot; the secret token is the one that was given to ``setWebhook``, for inbound updates only."""

    bot_token: Annotated[SecretStr, AfterValidator(_bot_token)] = Field(alias="botToken", title="Bot token")
    secret_token: Annotated[SecretStr, AfterValidator(_secret_token)] | None = Field(
        default=None, alias="secretToken", title="Secret token of the webhook"
    )
    base_url: str = Field(default="https://api.telegram.org", alias="baseUrl", pattern=BASE_URL, title="Address")
    test_environment: bool = Field(default=False, alias="testEnvironment", title="Telegram's test environment")


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: TelegramCredentials) -> httpx.Request:
    """One text to one chat, without markup: nothing has to be escaped."""
    content = message.content
    if not isinstance(content, ChatMessage) or content.channel != "telegram":
        raise UnsupportedMessageError("Telegram carries Telegram messages only")
    recipient = message.recipient
    test = "/test" if credentials.test_environment else ""
    return post_json(
        endpoint(credentials.base_url, f"/bot{credentials.bot_token.get_secret_value()}{test}/sendMessage"),
        {"chat_id": int(recipient) if _CHAT_ID.fullmatch(recipient) else recipient, "text": content.text},
    )


# Responses. Descriptions are not promised to be stable: the longest known part decides, else the status. ----

_INVALID = Declined(Reason.INVALID_CONTENT)
_NOT_ALLOWED = Declined(Reason.POLICY)  # of this bot in this chat
_UNKNOWN_CHAT = RecipientRejected(Reason.UNKNOWN_RECIPIENT)
_OPTED_OUT = RecipientRejected(Reason.UNSUBSCRIBED)  # the same fact as the update with the status "kicked"

# Part of the description, in lower case.
ERROR_TEXTS: Mapping[tuple[int, str], Refusal] = {
    (403, "bot was blocked by the user"): _OPTED_OUT,
    (403, "user is deactivated"): RecipientRejected(Reason.DISABLED),
    (403, "bot can't initiate conversation with a user"): RecipientRejected(Reason.UNREACHABLE),
    (403, "bot was kicked from the"): _OPTED_OUT,
    (403, "bot is not a member of the"): RecipientRejected(Reason.BLOCKED),
    (403, "the group chat was deleted"): _UNKNOWN_CHAT,
    (403, ""): RecipientRejected(Reason.BLOCKED),  # every 403 of Telegram's own is about the chat
    (400, "chat not found"): _UNKNOWN_CHAT,
    (400, "peer_id_invalid"): _UNKNOWN_CHAT,
    # The chat has a new id, ``migrate_to_chat_id``; this one never comes back.
    (400, "group chat was upgraded to a supergroup"): _UNKNOWN_CHAT,
    (400, "message text is empty"): _INVALID,
    (400, "message is too long"): Declined(Reason.TOO_LARGE),
    (400, "can't parse entities"): _INVALID,
    (400, "unsupported parse_mode"): _INVALID,
    (400, "reply markup is too long"): Declined(Reason.TOO_LARGE),
    (400, "wrong http url specified"): _INVALID,
    (400, "chat_admin_required"): _NOT_ALLOWED,
    (400, "not enough rights"): _NOT_ALLOWED,
    (400, "topic_closed"): _NOT_ALLOWED,
    (400, "message thread not found"): _NOT_ALLOWED,
    (400, "logged out"): AuthFailed(),  # the bot was moved to another server
    (500, "internal server error"): ProviderFault(),
}
# 500 and 504 without Telegram's own description come from something in front of it, which may have passed the request
# on.
STATUS_FALLBACK: Mapping[int, Refusal] = {
    400: _INVALID,
    401: AuthFailed(),
    403: AuthFailed(),  # of a proxy: no recipient has refused anything
    404: AuthFailed(),  # a malformed token, or a wrong base URL
    409: AuthFailed(),
    413: Declined(Reason.TOO_LARGE),
    421: AuthFailed(),  # this server does not serve the bot
    429: Throttled(),
    502: ProviderFault(),
    503: ProviderFault(),
}
_ERRORS = ErrorTable(ERROR_TEXTS, STATUS_FALLBACK)


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 2xx with ``ok`` and the message's id, which is unique within its chat."""
    body = json_object(response.content)
    result = body.get("result")
    if response.is_success and body.get("ok") is True and isinstance(result, dict):
        chat, message_id = object_of(result, "chat").get("id"), result.get("message_id")
        if type(chat) is int and type(message_id) is int:  # a bool is no id
            return Accepted(f"{chat}:{message_id}")
    # Only Telegram's own envelope speaks about a chat.
    description = text_of(body.get("description"), 1000) or "" if body.get("ok") is False else ""
    code = find_text(ERROR_TEXTS, response.status_code, description) if description else None
    return _ERRORS.outcome(response, code, description, wait=_wait(body, description))


def _wait(body: Mapping[str, Any], description: str) -> timedelta | None:
    """The parameter, else the description, which alone names it in old responses."""
    stated = object_of(body, "parameters").get("retry_after")
    wait = seconds(stated) if type(stated) in (int, float) else None
    if wait is None and (found := _RETRY_AFTER.search(description)):
        wait = seconds(found[1])
    return None if wait is None else clamp(wait)


# Updates: a text to the bot, and the end of its permission to write. ---------------------------------------


def parse_webhook(
    request: WebhookRequest, credentials: TelegramCredentials, _fetched: Mapping[str, bytes]
) -> WebhookReply:
    """One update. The secret token is a shared secret in a header; it does not cover the body."""
    secret = require_secret(credentials.secret_token)
    require_match([request.headers.get("x-telegram-bot-api-secret-token", "")], [secret])
    update = json_object(request.body)
    member, message = object_of(update, "my_chat_member"), object_of(update, "message")
    if object_of(member, "new_chat_member").get("status") == "kicked" and (chat := _chat(member)):
        return WebhookReply([OptOut(chat, Reason.BLOCKED, parse_unix_time(member.get("date")))])
    if type(update.get("update_id")) is int and (chat := _chat(message)):
        return WebhookReply(
            [
                InboundMessage(
                    inbound_id=str(update["update_id"]),
                    sender=chat,
                    text=text_of(message.get("text"), 4096) or "",
                    occurred_at=parse_unix_time(message.get("date")),
                )
            ]
        )
    return WebhookReply()


def _chat(update: Mapping[str, Any]) -> str | None:
    chat = object_of(update, "chat").get("id")
    return str(chat) if type(chat) is int else None


def sample(url: str, credentials: TelegramCredentials, at: datetime) -> WebhookRequest:
    """An update without content, with the secret token."""
    return json_sample(url, at, x_telegram_bot_api_secret_token=require_secret(credentials.secret_token))


TELEGRAM = Package(
    name="provider-telegram",
    title="Telegram",
    channels=(Channel.TELEGRAM,),
    credentials=TelegramCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    parse_webhook=parse_webhook,
    sample=sample,
    docs_url="https://core.telegram.org/bots/api#sendmessage",
    http_timeout=lambda _: 30.0,  # a text whose response is slow is sent nevertheless (python-telegram-bot#1045)
)
