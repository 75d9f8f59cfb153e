"""Firebase Cloud Messaging, HTTP v1, ``messages:send`` (discovery document of 2026-10-23, error codes read 2026-08).

There is no idempotency key, no field for our reference, and no receipt: the highest state is SENT. The message's id is
in the data of the notification, and identifies it on the device: there a repeat replaces the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Self

import httpx
from pydantic import Field, SecretStr, field_validator, model_validator

from sluice.model.message import Channel, Push
from sluice.model.outcome import (
    Accepted,
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Refusal,
    Throttled,
    Unknown,
)
from sluice.model.reasons import Reason
from sluice.providers.contract import (
    Credentials,
    OutboundMessage,
    Package,
    TokenExchange,
    TransportKind,
    UnsupportedMessageError,
)
from sluice.providers.kit.credentials import BASE_URL
from sluice.providers.kit.error_table import ErrorTable, rows
from sluice.providers.kit.jwt_bearer import RsaKey, load_rsa_key, post_assertion, read_token
from sluice.providers.kit.requests import endpoint, post_json
from sluice.providers.kit.responses import clamp, json_object, object_of, seconds, text_of

MESSAGE_ID = "sluice_message_id"  # in the data of every notification

_GOOGLE = "https://fcm.googleapis.com"
_TOKEN_ENDPOINT = "https://oauth2.googleapis.com/token"  # noqa: S105
_SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
_PROJECT_ID = r"^[A-Za-z0-9][A-Za-z0-9.:_-]{0,99}$"
_TOPIC = re.compile(r"[a-zA-Z0-9._~%-]{1,900}")
_PLATFORMS = ("android", "apns", "webpush")  # of a message: AndroidConfig, ApnsConfig, WebpushConfig
_NAME = re.compile(r"projects/[^/\s]+/messages/\S+")


class FcmCredentials(Credentials):
    """A service account, in parts or as Google's JSON file. With another ``baseUrl``, tokens come from there too."""

    project_id: str | None = Field(default=None, alias="projectId", pattern=_PROJECT_ID, title="Project ID")
    client_email: str | None = Field(
        default=None, alias="clientEmail", pattern=r"^[^@\s]+@[^@\s]+$", title="Service account"
    )
    private_key: RsaKey | None = Field(default=None, alias="privateKey", title="Private key")
    private_key_id: str | None = Field(default=None, alias="privateKeyId", max_length=200, title="Private key ID")
    service_account: SecretStr | None = Field(default=None, alias="serviceAccount", title="JSON file of the account")
    token_uri: str | None = Field(default=None, alias="tokenUri", pattern=BASE_URL, title="Address of tokens")
    base_url: str = Field(default=_GOOGLE, alias="baseUrl", pattern=BASE_URL, title="Address")

    @field_validator("service_account")
    @classmethod
    def _is_service_account(cls, file: SecretStr | None) -> SecretStr | None:
        if file is not None:
            account = json_object(file.get_secret_value().encode())
            project = text_of(account.get("project_id")) or ""
            if account.get("type") != "service_account" or not re.fullmatch(_PROJECT_ID, project):
                raise ValueError("not the JSON file of a service account")
            if not text_of(account.get("client_email")) or not text_of(account.get("private_key")):
                raise ValueError("the JSON file has no client_email or no private_key")
            load_rsa_key(account["private_key"])
        return file

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.service_account is None and not (self.project_id and self.client_email and self.private_key):
            raise ValueError("projectId, clientEmail and privateKey are needed, or serviceAccount")
        return self

    @property
    def account(self) -> Mapping[str, str]:
        """The parts under the names that they have in Google's file; those of the settings come before the file's."""
        file = self.service_account.get_secret_value().encode() if self.service_account else b""
        key = self.private_key.get_secret_value() if self.private_key else None
        parts = {"project_id": self.project_id, "client_email": self.client_email, "private_key": key}
        stated = {**parts, "private_key_id": self.private_key_id}
        return json_object(file) | {name: value for name, value in stated.items() if value}


# Sending ---------------------------------------------------------------------------------------------------


def build(message: OutboundMessage, credentials: FcmCredentials) -> httpx.Request:
    """One notification to one device or topic."""
    content = message.content
    if not isinstance(content, Push):
        raise UnsupportedMessageError("FCM carries push notifications only")
    visible = {"title": content.title, "body": content.text, "image": content.image}
    notification = {name: value for name, value in visible.items() if value is not None}
    platforms = _shown(message.message_id[:64], content) if notification else _HIDDEN
    fields = {
        **_target(message.recipient),
        **({"notification": notification} if notification else {}),
        "data": {MESSAGE_ID: message.message_id, **content.data},
        **_merged(platforms, {name: content.platform[name] for name in _PLATFORMS if name in content.platform}),
    }
    path = f"/v1/projects/{credentials.account['project_id']}/messages:send"
    token = message.access_token
    headers = {"authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    return post_json(endpoint(credentials.base_url, path), {"message": fields}, **headers)


def _target(recipient: str) -> dict[str, str]:
    kind, _, name = recipient.partition(":")
    if kind == "user":
        raise UnsupportedMessageError("FCM has devices and topics, but no users")
    if kind != "topic":
        return {"token": recipient}
    if not _TOPIC.fullmatch(name):
        raise UnsupportedMessageError("a topic has 1 to 900 characters a-z A-Z 0-9 - _ . ~ %")
    return {"topic": name}


def _shown(identifier: str, content: Push) -> dict[str, Any]:
    """The options of a visible notification: a repeat under the same identifier replaces the first."""
    payload = {"payload": {"aps": {"mutable-content": 1}}} if content.image else {}
    return {
        "android": {"notification": {"tag": identifier}},
        "apns": {"headers": {"apns-collapse-id": identifier}, **payload},
    }


def _merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Both objects in one, at all levels; where both have a value, ``theirs``."""
    both = {
        name: _merged(ours[name], theirs[name])
        for name in ours.keys() & theirs.keys()
        if isinstance(ours[name], Mapping) and isinstance(theirs[name], Mapping)
    }
    return {**ours, **theirs, **both}


# Of data alone: iOS accepts it only in the background and with a low priority.
_HIDDEN: Mapping[str, Any] = {
    "apns": {
        "headers": {"apns-priority": "5", "apns-push-type": "background"},
        "payload": {"aps": {"content-available": 1}},
    }
}


# Tokens ----------------------------------------------------------------------------------------------------


def build_token_request(credentials: FcmCredentials, now: datetime) -> httpx.Request:
    """The exchange of an assertion, signed with the account's key, for an access token."""
    account, replaced = credentials.account, credentials.base_url != _GOOGLE
    url = credentials.token_uri or (f"{credentials.base_url.rstrip('/')}/token" if replaced else _TOKEN_ENDPOINT)
    claims = {"iss": account["client_email"], "scope": _SCOPE, "aud": _TOKEN_ENDPOINT}
    key_id = account.get("private_key_id")
    return post_assertion(httpx.URL(url), claims, account["private_key"], key_id=key_id, now=now)


# Responses -------------------------------------------------------------------------------------------------

# FCM's own code, else the status in the body. A 404 or 403 without FCM's own code is about the project.
ERROR_CODES: Mapping[str, Refusal] = {
    "UNREGISTERED": RecipientRejected(Reason.UNKNOWN_RECIPIENT),
    "SENDER_ID_MISMATCH": Declined(Reason.SENDER),  # a device of another project, whose account may send to it
    **rows(Declined(Reason.CREDENTIALS), "THIRD_PARTY_AUTH_ERROR", "APNS_AUTH_ERROR"),  # of one platform only
    "INVALID_ARGUMENT": Declined(Reason.INVALID_CONTENT),
    **rows(Declined(Reason.OTHER), "FAILED_PRECONDITION", "OUT_OF_RANGE"),
    **rows(Throttled(retry_after=timedelta(seconds=60)), "QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED"),
    **rows(AuthFailed(), "UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND"),
    **rows(ProviderFault(), "UNAVAILABLE", "INTERNAL", "UNSPECIFIED_ERROR", "UNKNOWN"),
    **rows(Unknown(), "DEADLINE_EXCEEDED", "CANCELLED"),
    "INVALID_ARGUMENT message.token": RecipientRejected(Reason.INVALID_ADDRESS),
}
STATUS_FALLBACK: Mapping[int, Refusal] = {
    **dict.fromkeys(range(400, 500), Declined(Reason.INVALID_CONTENT)),
    **dict.fromkeys((401, 403, 404), AuthFailed()),
    413: Declined(Reason.TOO_LARGE),
    429: Throttled(retry_after=timedelta(seconds=60)),
    502: ProviderFault(),
}
_ERRORS = ErrorTable(ERROR_CODES, STATUS_FALLBACK)


def classify(response: httpx.Response) -> Outcome:
    """Accepted only by a 200 with the message's name."""
    body = json_object(response.content)
    name = text_of(body.get("name"), 500)
    if response.status_code == 200 and name and _NAME.fullmatch(name) and "error" not in body:
        return Accepted(name)
    error = object_of(body, "error")
    words, details = text_of(error.get("message"), 1000) or "", list(_details(error))
    code = next(
        (found for kind, detail in details if kind == "FcmError" and (found := _word(detail, "errorCode"))), None
    )
    code = code or _word(error, "status")
    if code == "INVALID_ARGUMENT" and _about_token(words, details):
        code = "INVALID_ARGUMENT message.token"
    named = next((_word(detail, "retryDelay") for kind, detail in details if kind == "RetryInfo"), None)
    wait = seconds((named or "").removesuffix("s"))
    return _ERRORS.outcome(response, code, words, wait=None if wait is None else clamp(wait))


def _details(error: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The details with the last part of their types."""
    found = error.get("details")
    for detail in found if isinstance(found, list) else ():
        if isinstance(detail, dict):
            yield str(detail.get("@type")).rpartition(".")[2], detail


def _word(owner: Mapping[str, Any], name: str) -> str | None:
    return text_of(owner.get(name), 100)


def _about_token(words: str, details: list[tuple[str, Mapping[str, Any]]]) -> bool:
    """Whether the argument that is not valid is the device's token."""
    violations = [detail.get("fieldViolations") for kind, detail in details if kind == "BadRequest"]
    fields = [
        one.get("field") for found in violations if isinstance(found, list) for one in found if isinstance(one, dict)
    ]
    return "registration token is not a valid fcm registration token" in words.lower() or "message.token" in fields


FCM = Package(
    name="provider-fcm",
    title="Firebase Cloud Messaging",
    channels=(Channel.PUSH,),
    credentials=FcmCredentials,
    transport=TransportKind.HTTP,
    build=build,
    classify=classify,
    token=TokenExchange(build_token_request, read_token),
    docs_url="https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send",
)
