"""Values for ``send.requests`` that are made from the published AsyncAPI document: allowed ones and forbidden ones."""

from collections.abc import AsyncIterator, Mapping
from copy import deepcopy
from typing import Any

from tests.fuzz.openapi_requests import FORBIDDEN_BODY, RequestSource

_PLAIN = {"type": "string", "pattern": "^[!-~]{1,40}$"}
_ADDRESS = {"enum": ["ada@example.com", "Ada <ada@example.com>", '"B, Ada" <ada@example.com>', "ada@straße.example"]}
_MAX_LISTED = 3
# What docs/api/sending.md asks beyond the schema, as a schema that allows less.
_TEXT = {"type": "string", "pattern": r"^[^\x00]*$"}
_FREE = {"propertyNames": _TEXT, "additionalProperties": {"anyOf": [_TEXT, {"type": ["boolean", "null"]}]}}
_UNUSED = ("template_id", "variables", "preferred_provider", "send_at", "expires_at", "idempotency_key", "content_id")
_RULES: Mapping[str, Any] = {
    **{name: {"type": "null"} for name in _UNUSED},
    "unsubscribe": {"const": False},
    "metadata": {"type": "object", **_FREE, "maxProperties": 3},
    "data": {"type": "object", **_FREE, "additionalProperties": _TEXT, "maxProperties": 3},
    "content": {"enum": ["YQ==", "YWI=", ""]},
    "content_type": {"enum": ["text/plain", "application/pdf; name=a", None]},
    "filename": {"type": "string", "pattern": "^[a-z]{1,20}$"},
}
_ADDRESSES = ("to", "cc", "bcc", "reply_to")  # of an e-mail


async def allowed(document: Mapping[str, Any], number: int, count: int) -> AsyncIterator[bytes]:
    """``count`` values that the schema allows and that keep the rules that a schema cannot state."""
    async for kind, value in _values(document, _keeping_rules(document), number, count):
        if kind == "allowed":
            yield value


async def forbidden(document: Mapping[str, Any], number: int, count: int) -> AsyncIterator[bytes]:
    """``count`` values that the schema forbids."""
    async for kind, value in _values(document, _models(document), number, count):
        if kind == FORBIDDEN_BODY:
            yield value


def _models(document: Mapping[str, Any]) -> dict[str, Any]:
    """The schemas of the document, except those of whole messages."""
    schemas = document["components"]["schemas"]
    return {name: deepcopy(schema) for name, schema in schemas.items() if ":" not in name}


def _keeping_rules(document: Mapping[str, Any]) -> dict[str, Any]:
    models = _models(document)
    for name, model in models.items():
        fields = model.get("properties", {})
        for field in fields.keys() & _RULES.keys():
            fields[field] = _RULES[field]
        if name == "EmailRequest":
            fields |= {field: _with_items(fields[field], _ADDRESS) for field in _ADDRESSES}
            fields["from"], model["required"] = _ADDRESS, [*model["required"], "from"]  # there is no default sender
        if name in ("ChatRequest", "PushRequest"):
            fields["to"] = _with_items(fields["to"], _PLAIN)
    return models


def _with_items(schema: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a field with other texts, and with short lists."""
    if "anyOf" in schema:
        return {"anyOf": [_with_items(one, item) for one in schema["anyOf"]]}
    if schema["type"] == "array":
        return {**schema, "items": item, "maxItems": _MAX_LISTED}
    return dict(item) if schema["type"] == "string" else dict(schema)


async def _values(
    document: Mapping[str, Any], models: dict[str, Any], number: int, count: int
) -> AsyncIterator[tuple[str, bytes]]:
    """Of each kind of request, as the body of an operation of an OpenAPI document: schemathesis reads these."""
    payload = document["components"]["schemas"]["send:Message:Payload"]
    requests = [one["$ref"].rpartition("/")[2] for one in payload["anyOf"]]
    paths = {f"/{name}": {"post": _operation(name)} for name in requests}
    source = RequestSource(
        {
            "openapi": "3.1.0",
            "info": {"title": "send.requests", "version": "1"},
            "paths": paths,
            "components": {"schemas": models},
        },
        number,
    )
    async for attempt in source.round(0, -(-count // len(requests))):
        yield attempt.kind, attempt.request.content


def _operation(model: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"}
    return {
        "operationId": model,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"201": {"description": "accepted"}},
    }
