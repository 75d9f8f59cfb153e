"""The dialect of Meta's Cloud API: Graph's paths and tokens around WhatsApp's messages, and the app's signature."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import datetime

from pydantic import BaseModel

from sluice.providers.contract import TransportKind
from sluice_simulator.dialect import (
    Dialect,
    FakeRequest,
    ParsedSend,
    ReceiptContext,
    ReceiptDialect,
    ReceiptPayload,
    Refused,
)
from sluice_simulator.dialects._whatsapp import error, read_body, respond, write_batch

_PATH = re.compile(r"/v[0-9]+\.[0-9]+/([0-9]+)/messages")
_TOKEN = re.compile(rb"Bearer ([!-~]+)")


class MetaDashboard(BaseModel, extra="forbid"):
    """The WhatsApp Business account that webhooks name."""

    business_account_id: str = "102290129340398"


def read(request: FakeRequest) -> ParsedSend | Refused:
    """A message of one business number, or Graph's refusal."""
    path = _PATH.fullmatch(request.path)
    if path is None:
        return Refused(error(2500))
    token = _TOKEN.fullmatch(request.headers.get(b"authorization", b""))
    if token is None:
        return Refused(error(190))
    if request.method != "POST":
        return Refused(error(33))
    found = read_body(request, account=token[1].decode(), fields={"phone_number_id": path[1]})
    return found if isinstance(found, ParsedSend) else Refused(found)


def _write(context: ReceiptContext) -> ReceiptPayload | None:
    webhooks, dashboard = context.scenario.webhooks, context.dashboard
    assert isinstance(dashboard, MetaDashboard)
    webhook = webhooks.get(context.send.account) or webhooks.get("*")
    phone = context.send.fields["phone_number_id"]
    body = write_batch(context, phone_number_id=phone, waba=dashboard.business_account_id)
    if webhook is None or body is None:
        return None
    return ReceiptPayload(context.receipt_id, webhook.url, "application/json", body, webhook.secret)


def _sign(payload: ReceiptPayload, _: datetime) -> dict[str, str]:
    digest = hmac.new(payload.secret.encode(), payload.body, hashlib.sha256)
    return {"x-hub-signature-256": f"sha256={digest.hexdigest()}"}


META_CLOUD = Dialect(
    name="meta-cloud",
    package="provider-meta-cloud",
    transport=TransportKind.HTTP,
    default_port=2601,
    read=read,
    respond=respond,
    receipts=ReceiptDialect(_write, _sign, "x-hub-signature-256"),
    dashboard=MetaDashboard,
)
