"""Messages, rows and statuses of WhatsApp's own format, for the tests of every package that speaks it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx

from sluice.model.message import Whatsapp
from sluice.model.outcome import (
    AuthFailed,
    Declined,
    Outcome,
    ProviderFault,
    RecipientRejected,
    Scope,
    Throttled,
)
from sluice.model.reasons import Reason
from sluice.providers.contract import OutboundMessage
from tests.unit.providers.examples import outbound

INVALID, POLICY = Declined(Reason.INVALID_CONTENT), Declined(Reason.POLICY)
UNSUPPORTED, OTHER = Declined(Reason.UNSUPPORTED), Declined(Reason.OTHER)
UNPAID = Declined(Reason.QUOTA, scope=Scope.ACCOUNT)
MINUTE, HOUR = Throttled(retry_after=timedelta(minutes=1)), Throttled(retry_after=timedelta(hours=1))

# Every row of the sheet: code, a status that it comes with, the outcome.
ROWS: list[tuple[int, int, Outcome]] = [
    (0, 401, AuthFailed()),
    (3, 500, AuthFailed()),
    (10, 403, AuthFailed()),
    (190, 401, AuthFailed()),
    *((code, 403, AuthFailed()) for code in (200, 210, 250, 299)),
    (131005, 403, AuthFailed()),
    (33, 400, AuthFailed()),
    (368, 403, AuthFailed()),
    (131031, 403, AuthFailed()),
    (130497, 400, POLICY),
    (131042, 400, UNPAID),
    (131044, 400, UNPAID),
    (131045, 400, AuthFailed()),
    (133010, 400, AuthFailed()),
    (131030, 400, Declined(Reason.REPUTATION, scope=Scope.ACCOUNT)),
    (131037, 400, AuthFailed()),
    (131063, 400, UNSUPPORTED),
    (132001, 404, UNSUPPORTED),
    (132007, 400, POLICY),
    (132015, 400, POLICY),
    (132016, 400, POLICY),
    (4, 429, MINUTE),
    (17, 429, MINUTE),
    (80007, 429, MINUTE),
    (130429, 429, Throttled(retry_after=timedelta(seconds=5))),
    (131048, 429, HOUR),
    (131056, 429, Throttled(retry_after=timedelta(seconds=6), scope=Scope.PAIR)),
    (131064, 400, HOUR),
    (133016, 400, HOUR),
    (1, 400, ProviderFault()),
    (2, 503, ProviderFault()),
    (131000, 500, ProviderFault()),
    (131016, 500, ProviderFault()),
    (131057, 400, ProviderFault()),
    (133004, 503, ProviderFault()),
    (100, 400, INVALID),
    (131008, 400, INVALID),
    (131009, 400, INVALID),
    (131021, 400, Declined(Reason.INVALID_ADDRESS)),
    (131026, 400, RecipientRejected(Reason.UNKNOWN_RECIPIENT)),
    (131047, 400, POLICY),
    (131049, 400, POLICY),
    (131050, 400, RecipientRejected(Reason.UNSUBSCRIBED)),
    (131051, 400, UNSUPPORTED),
    (131052, 400, INVALID),
    (131053, 400, INVALID),
    (131055, 400, UNSUPPORTED),
    (131062, 400, UNSUPPORTED),
    (130472, 400, POLICY),
    (132000, 400, INVALID),
    (132005, 400, Declined(Reason.TOO_LARGE)),
    (132008, 400, INVALID),
    (132012, 400, INVALID),
    (132068, 400, POLICY),
    (132069, 400, HOUR),
    (135000, 400, OTHER),
    (137000, 400, OTHER),
]

TEMPLATE = Whatsapp(template_name="order_update", template_language="en_US", template_params=("Ann", "A-17 ünï 🙂"))
WAMID = "wamid.HBgLMTU1NTc2NTQzMjEVAgARGBI5QTNDQTVCM0Q0Q0Q2RTY3RTcA=="


def a_whatsapp(content: Whatsapp | None = None, **changes: Any) -> OutboundMessage:
    defaults: dict[str, Any] = {"recipient": "+15557654321", "reference": "msg_01"}
    return outbound(content or Whatsapp(text="Your order <A-17> ist unterwegs 🙂"), **defaults | changes)


def sent(**changes: Any) -> dict[str, Any]:
    body = {
        "messaging_product": "whatsapp",
        "contacts": [{"input": "+15557654321", "wa_id": "15557654321"}],
        "messages": [{"id": WAMID}],
    }
    return body | changes


def refusal(code: object, **changes: Any) -> dict[str, Any]:
    error = {
        "message": f"(#{code}) Words",
        "type": "OAuthException",
        "code": code,
        "error_data": {"messaging_product": "whatsapp", "details": "More words"},
        "fbtrace_id": "AbC",
    }
    return {"error": error | changes}


def like(found: Outcome, expected: Outcome) -> bool:
    """Whether both are of the same kind, apart from their texts."""
    names = ("reason", "scope", "retry_after")
    return type(found) is type(expected) and all(
        getattr(found, name, None) == getattr(expected, name, None) for name in names
    )


def refused(status: int, body: Mapping[str, Any] | str, **headers: str) -> httpx.Response:
    text = body if isinstance(body, str) else json.dumps(body)
    return httpx.Response(status, content=text.encode(), headers=headers)


# Statuses

PHONE, WABA = "2045", "1029"


def a_status(status: str = "delivered", **changes: Any) -> dict[str, Any]:
    return {
        "id": "wamid.TEST1",
        "status": status,
        "timestamp": "1760000000",
        "recipient_id": "15557654321",
        "biz_opaque_callback_data": "msg_01",
    } | changes


def a_change(*statuses: object, phone: str = PHONE, **value: Any) -> dict[str, Any]:
    content = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550001111", "phone_number_id": phone},
        **({"statuses": list(statuses)} if statuses else {}),
    }
    return {"field": "messages", "value": content | value}


def a_batch(*changes: object, waba: str = WABA) -> dict[str, Any]:
    return {"object": "whatsapp_business_account", "entry": [{"id": waba, "changes": list(changes)}]}


def an_inbound(**changes: Any) -> dict[str, Any]:
    return {
        "from": "15557654321",
        "id": "wamid.IN1",
        "timestamp": "1760000000",
        "type": "text",
        "text": {"body": "STOP 🙂"},
    } | changes


# The body of the sheet's second signature vector.
DELIVERED_BODY = (
    b'{"object":"whatsapp_business_account","entry":[{"id":"1029","changes":[{"value":{"messaging_product":"whatsapp",'
    b'"metadata":{"display_phone_number":"15550001111","phone_number_id":"2045"},"statuses":[{"id":"wamid.TEST1",'
    b'"status":"delivered","timestamp":"1760000000","recipient_id":"15557654321","biz_opaque_callback_data":"msg_01"}]},'
    b'"field":"messages"}]}]}'
)
