"""Compares responses with the published OpenAPI document of their API."""

import json
import re
from functools import cache

from jsonschema import Draft202012Validator

from tests.repository.files import ROOT

TRANSPORT_HEADERS = {"content-type", "content-length", "transfer-encoding", "connection", "date"}


@cache
def document(api):
    return json.loads((ROOT / "docs" / "api" / f"{api}.openapi.json").read_text("utf-8"))


@cache
def paths(api):
    """Pattern and operations of every documented path; paths without parameters first, as OpenAPI matches them."""
    items = sorted(document(api)["paths"].items(), key=lambda pair: "{" in pair[0])
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), item) for path, item in items]


def closed(schema):
    """The schema, with every object limited to its documented properties."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    limits = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return {name: closed(part) for name, part in schema.items()} | limits


def resolve(api, schema):
    """The schema that references lead to."""
    while "$ref" in schema or "anyOf" in schema:  # any of: the body is optional
        schema = (
            schema["anyOf"][0]
            if "anyOf" in schema
            else document(api)["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        )
    return schema


def documented(api, method, path):
    """The operation that the document has for this request, or None."""
    item = next((item for pattern, item in paths(api) if pattern.fullmatch(path)), {})
    return item.get(method.lower())


def check(response, api="v1"):
    """Fail if the response to a documented operation is not documented: its status, its headers, its body."""
    operation = documented(api, response.request.method, response.request.url.path)
    if operation is None:
        return
    declared = operation["responses"].get(str(response.status_code))
    assert declared is not None, f"{response.status_code} is not documented for {operation['operationId']}"
    undocumented = set(response.headers) - TRANSPORT_HEADERS - {name.lower() for name in declared.get("headers", {})}
    assert not undocumented
    kind = response.headers["content-type"].partition(";")[0]
    schema = closed(declared["content"][kind]["schema"])
    if kind != "application/json":
        return
    Draft202012Validator(schema | {"components": closed(document(api)["components"])}).validate(response.json())
