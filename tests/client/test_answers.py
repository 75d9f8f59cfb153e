"""The client's types are those of the OpenAPI document."""

from __future__ import annotations

import inspect
import json
from typing import get_type_hints

import pytest
from sluice.client import _async, _sync, answers
from sluice.client.calls import AnalyticsQuery, MessageFilters, SendRequest

from tests.repository.files import ROOT

DOCUMENT = json.loads((ROOT / "docs/api/v1.openapi.json").read_text("utf-8"))
SCHEMAS = DOCUMENT["components"]["schemas"]
TYPES = [
    name
    for name, value in vars(answers).items()
    if name.endswith(("Response", "Reference", "Summary")) and value is not None
]
REQUESTS = ("EmailRequest", "SmsRequest", "WhatsappRequest", "ChatRequest", "PushRequest")


@pytest.mark.parametrize("name", TYPES)
def test_an_answer_has_the_fields_of_its_schema(name):
    assert set(get_type_hints(getattr(answers, name))) == set(SCHEMAS[name]["properties"])


def test_a_send_request_has_the_fields_of_every_channel():
    fields = {name.rstrip("_") for name in get_type_hints(SendRequest)}

    assert fields == {name for each in REQUESTS for name in SCHEMAS[each]["properties"]} - {"idempotency_key"}


def test_the_result_of_a_row_has_the_fields_of_a_line_of_the_download():
    download = DOCUMENT["paths"]["/v1/messages/bulk/{bulk_id}/results"]["get"]["responses"]["200"]["content"]

    assert set(get_type_hints(answers.BulkResult)) == set(download["application/jsonl"]["schema"]["properties"])


@pytest.mark.parametrize(("path", "query"), [("/v1/messages", MessageFilters), ("/v1/analytics", AnalyticsQuery)])
def test_a_query_has_the_parameters_of_the_document(path, query):
    documented = {one["name"] for one in DOCUMENT["paths"][path]["get"]["parameters"] if one["in"] == "query"}

    assert {name.rstrip("_") for name in get_type_hints(query)} == documented - {"project", "mode"}


@pytest.mark.parametrize("name", ["Messages", "Bulk", "DeadLetters", "Projects", "Keys", "Analytics"])
def test_both_clients_have_the_same_methods(name):
    synchronous, asynchronous = getattr(_sync, name), getattr(_async, f"Async{name}")
    own = {key for key in vars(synchronous) if not key.startswith("_")}

    assert own == {key for key in vars(asynchronous) if not key.startswith("_")}
    for key in own:
        assert inspect.signature(getattr(synchronous, key)).parameters.keys() == (
            inspect.signature(getattr(asynchronous, key)).parameters.keys()
        )
