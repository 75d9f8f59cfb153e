"""The dialect of Firebase Cloud Messaging: Google's token endpoint at ``/token``, and ``messages:send``.

An access token carries its own expiry and proof, so that any simulator knows those of another. Google's error names,
or the ``invalid_…`` names of the token endpoint, are the codes of a scenario.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from time import time
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

import orjson

from sluice.providers.contract import TransportKind
from sluice_simulator.dialect import Answered, Dialect, FakeRequest, FakeResponse, ParsedSend, Refused, json_response
from sluice_simulator.scenario import Behaviour, Rule

# name -> (HTTP status, status, FCM's own code, message)
ERRORS: Mapping[str, tuple[int, str, str | None, str]] = {
    "UNREGISTERED": (404, "NOT_FOUND", "UNREGISTERED", "Requested entity was not found."),
    "SENDER_ID_MISMATCH": (403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", "SenderId mismatch"),
    "THIRD_PARTY_AUTH_ERROR": (401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", "Auth error from APNS or Web Push"),
    "QUOTA_EXCEEDED": (429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "Resource has been exhausted"),
    "UNAVAILABLE": (503, "UNAVAILABLE", "UNAVAILABLE", "The service is currently unavailable."),
    "INTERNAL": (500, "INTERNAL", "INTERNAL", "Internal error encountered."),
    "INVALID_ARGUMENT": (400, "INVALID_ARGUMENT", None, "Invalid JSON payload received."),
    "INVALID_TOKEN": (
        *(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        "The registration token is not a valid FCM registration token",
    ),
    "UNAUTHENTICATED": (401, "UNAUTHENTICATED", None, "Request had invalid authentication credentials."),
    "PERMISSION_DENIED": (403, "PERMISSION_DENIED", None, "Permission 'cloudmessaging.messages.create' denied"),
    "NOT_FOUND": (404, "NOT_FOUND", None, "Requested entity was not found."),
}
REFUSALS: Mapping[Behaviour, str] = {
    Behaviour.REJECT: "UNREGISTERED",
    Behaviour.THROTTLE: "QUOTA_EXCEEDED",
    Behaviour.AUTH: "UNAUTHENTICATED",
    Behaviour.FAULT: "UNAVAILABLE",
}
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPES = {f"https://www.googleapis.com/auth/{name}" for name in ("firebase.messaging", "cloud-platform")}

_PATH = re.compile(r"/v1/projects/([^/]+)/messages:send")
_DEVICE = re.compile(r"[!-~]{1,4096}")
_TOPIC = re.compile(r"[a-zA-Z0-9._~%-]+")
_RESERVED = re.compile(r"from|message_type|google\..*|gcm\.notification\..*")
_KEYS: Mapping[str, frozenset[str]] = {
    "": frozenset(
        {"token", "topic", "condition", "fid", "notification", "data", "android", "apns", "webpush", "fcmOptions"}
    ),
    "notification": frozenset({"title", "body", "image"}),
    "android": frozenset({"collapseKey", "priority", "ttl", "restrictedPackageName", "data", "notification"}),
    "apns": frozenset({"headers", "payload", "fcmOptions", "liveActivityToken"}),
    "webpush": frozenset({"headers", "data", "notification", "fcmOptions"}),
}


def error(name: str, *, field: str | None = None, wait: float | None = None) -> FakeResponse:
    """An error of Google's APIs. ``field``: the one that is not valid."""
    status, word, code, message = ERRORS[name]
    details: list[dict[str, Any]] = []
    if code:
        details.append({"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code})
    if field:
        violation = {"field": field, "description": f"Invalid value at '{field}'"}
        details.append({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]})
    headers = {} if wait is None else {"Retry-After": f"{wait:g}"}
    body = {"code": status, "message": message, "status": word, **({"details": details} if details else {})}
    return json_response(status, {"error": body}, headers)


def read(request: FakeRequest) -> ParsedSend | Refused | Answered:
    """An exchange, or a notification under an access token."""
    if (request.method, request.path) == ("POST", "/token"):
        return _exchange(request)
    path = _PATH.fullmatch(request.path)
    if path is None or request.method != "POST":
        return Refused(error("NOT_FOUND"))
    scheme, _, token = request.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme != "Bearer" or not _is_token(token):
        return Refused(error("UNAUTHENTICATED"))
    try:
        body = orjson.loads(request.body)
        message = _camel(body["message"])
        problem = _problem(message)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Refused(error("INVALID_ARGUMENT", field="message"))
    if problem is not None:
        return Refused(error("INVALID_TOKEN" if problem == "message.token" else "INVALID_ARGUMENT", field=problem))
    name = f"projects/{path[1]}/messages/0:{int(time() * 1e6)}%{uuid4().hex[:16]}"
    if body.get("validateOnly", body.get("validate_only")):
        return Answered(json_response(200, {"name": f"projects/{path[1]}/messages/fake_message_id"}))
    topic = f"topic:{message['topic']}" if "topic" in message else ""
    return ParsedSend(
        recipient=message.get("token") or message.get("fid") or topic or message["condition"],
        provider_message_id=name,
        message_id=message.get("data", {}).get("sluice_message_id"),
        account=path[1],
    )


def _camel(message: Mapping[str, Any]) -> dict[str, Any]:
    """Field names as in the discovery document; Google's own library writes them with underscores."""
    found = {re.sub(r"_([a-z])", lambda part: part[1].upper(), name): value for name, value in message.items()}
    nested = {name: _camel(found[name]) for name in ("android", "apns", "webpush") if name in found}
    return found | nested


def _problem(message: Mapping[str, Any]) -> str | None:
    """The field that is not valid."""
    targets = [message[name] for name in ("token", "topic", "condition", "fid") if name in message]
    if len(targets) != 1 or not isinstance(targets[0], str):
        return "message"
    if "token" in message and not _DEVICE.fullmatch(message["token"]):
        return "message.token"
    if "topic" in message and not _TOPIC.fullmatch(message["topic"]):
        return "message.topic"
    for part, allowed in _KEYS.items():
        unknown = set(message.get(part, {}) if part else message) - allowed
        if unknown:
            return f"message.{part}.{min(unknown)}" if part else f"message.{min(unknown)}"
    for name, value in message.get("data", {}).items():
        if not isinstance(value, str) or _RESERVED.fullmatch(name):
            return f"message.data.{name}"
    if not all(isinstance(value, str) for value in message.get("apns", {}).get("headers", {}).values()):
        return "message.apns.headers"
    size = len(orjson.dumps([message.get("notification"), message.get("data")]))
    return "message" if size > (2048 if "topic" in message else 4096) else None


def respond(behaviour: Behaviour, send: ParsedSend, rule: Rule) -> FakeResponse:
    """FCM's response to a send."""
    if behaviour not in REFUSALS:
        return json_response(200, {"name": send.provider_message_id})
    name = rule.code if rule.code and rule.code in ERRORS else REFUSALS[behaviour]
    return error(name, wait=rule.retry_after if behaviour is Behaviour.THROTTLE else None)


# Tokens ----------------------------------------------------------------------------------------------------


def issue_token(expires_at: int) -> str:
    """An access token that every simulator accepts until then (seconds since the epoch)."""
    proof = hmac.new(b"simulator", str(expires_at).encode(), hashlib.sha256).hexdigest()
    return f"ya29.{expires_at}.{proof}"


def _is_token(token: str) -> bool:
    expiry = re.match(r"ya29\.([0-9]{1,12})\.", token)
    return expiry is not None and int(expiry[1]) > time() and token == issue_token(int(expiry[1]))


def _exchange(request: FakeRequest) -> Answered | Refused:
    form = dict(parse_qsl(request.body.decode("utf-8", "replace")))
    problem = _assertion_problem(form.get("assertion", ""))
    if form.get("grant_type") != GRANT or problem:
        body = {"error": "invalid_grant", "error_description": problem or "Invalid grant type"}
        return Refused(json_response(400, body))
    token = {"access_token": issue_token(int(time()) + 3599), "expires_in": 3599, "token_type": "Bearer"}
    return Answered(json_response(200, token))


def _assertion_problem(assertion: str) -> str | None:
    """What Google says about this JWT. Its signature is not verified: the simulator has no account's public key."""
    try:
        header, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in assertion.split("."))
        stated, claimed, now = orjson.loads(header), orjson.loads(claims), time()
        if stated["alg"] != "RS256" or len(signature) < 256 or "=" in assertion:
            return "Invalid JWT Signature."
        if "@" not in claimed["iss"] or not claimed["aud"].endswith("/token"):
            return "Invalid JWT: Failed audience check."
        if not SCOPES & set(claimed["scope"].split()):
            return "Invalid OAuth scope or ID token audience provided."
        if not now - 3600 < claimed["iat"] < now + 300 or not now < claimed["exp"] <= claimed["iat"] + 3600:
            return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
    except (ValueError, KeyError, TypeError, AttributeError):
        return "Bad Request"
    return None


FCM = Dialect(
    name="fcm",
    package="provider-fcm",
    transport=TransportKind.HTTP,
    default_port=2605,
    read=read,
    respond=respond,
)
