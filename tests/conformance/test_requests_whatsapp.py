"""Every request of the packages that speak WhatsApp's format is a message of Meta's OpenAPI description.

The description's ``TextMessage`` allows no property of its own base, so that it refuses every text: that one
``additionalProperties`` is taken out. Of inbound texts it says that they have the form of outbound ones, so those are
not compared. It does not know ``biz_opaque_callback_data``, which Meta's webhooks return.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from sluice.model.message import Whatsapp
from sluice.providers.contract import AnyPackage, OutboundMessage
from sluice.providers.registry import get_package
from sluice_simulator import EndpointScenario
from sluice_simulator.dialect import FakeRequest, ParsedSend, ReceiptContext
from sluice_simulator.registry import DIALECTS
from tests.conformance.conftest import SPECS, Conforms, spec
from tests.conformance.messages import whatsapp_messages
from tests.unit.providers.examples import NOON, content_for, credentials_of, outbound

PACKAGES = [get_package(name) for name in ("provider-meta-cloud", "provider-360dialog")]
every_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)


def message_schema(name: str) -> Validator:
    document = json.loads((SPECS / "whatsapp.json").read_text("utf-8"))
    del document["$defs"]["TextMessage"]["allOf"][1]["additionalProperties"]
    opaque = {"biz_opaque_callback_data": {"type": "string", "maxLength": 512}}
    schema = {"$ref": f"#/$defs/{name}", "properties": opaque, "unevaluatedProperties": False}
    return Draft202012Validator({**schema, "$defs": document["$defs"]})


TEXT, TEMPLATE = message_schema("TextMessage"), message_schema("TemplateMessage")


@every_package
def test_every_request_is_a_message_of_the_description(package: AnyPackage, conforms: Conforms) -> None:
    def check(request: httpx.Request, message: OutboundMessage) -> None:
        assert isinstance(message.content, Whatsapp)
        body = json.loads(request.content)
        (TEXT if message.content.template_name is None else TEMPLATE).validate(body)
        assert body["biz_opaque_callback_data"] == message.reference
        if message.content.template_name is None:
            assert body["text"]["body"] == message.content.text
        else:
            components = body["template"].get("components", [{"parameters": []}])
            assert [one["text"] for one in components[0]["parameters"]] == list(message.content.template_params)

    conforms(package, whatsapp_messages(), check)


@every_package
def test_a_request_with_a_misspelt_field_is_not(package: AnyPackage) -> None:
    body = json.loads(package.build(outbound(content_for(package)), credentials_of(package)).content)

    assert TEXT.is_valid(body)
    assert not TEXT.is_valid({**body, "recipientType": "individual"})
    assert not TEXT.is_valid({**body, "text": {"Body": "x"}})


@every_package
def test_the_dialects_responses_and_statuses_are_those_of_the_description(package: AnyPackage) -> None:
    dialect = next(dialect for dialect in DIALECTS.values() if dialect.package == package.name)
    request = package.build(outbound(content_for(package)), credentials_of(package))
    headers = {name.lower(): value for name, value in request.headers.raw}
    assert dialect.read
    assert dialect.respond
    assert dialect.receipts
    send = dialect.read(FakeRequest("POST", request.url.path, headers, request.content))
    assert isinstance(send, ParsedSend)
    scenario = EndpointScenario.model_validate({"webhooks": {"*": {"url": "http://127.0.0.1/x", "secret": "x"}}})
    webhook: Any = spec("whatsapp", {"$ref": "#/$defs/WebhookPayload"})

    response = dialect.respond(scenario.behaviour, send, scenario)
    spec("whatsapp", {"$ref": "#/$defs/MessageResponsePayload"}).validate(json.loads(response.body))
    for kind in ("sent", "delivered", "read", "failed"):
        payload = dialect.receipts.write(
            ReceiptContext(send, kind, "r1", NOON, scenario, dialect.dashboard.model_validate({}))
        )
        assert payload is not None
        webhook.validate(json.loads(payload.body))
