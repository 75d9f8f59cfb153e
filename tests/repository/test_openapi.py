"""The published OpenAPI documents are those in the code."""

import json
import re

import pytest

from gateway.openapi import APIS, document
from tests.repository.files import ROOT


@pytest.mark.parametrize("api", APIS)
def test_the_published_document_is_the_one_in_the_code(api: str) -> None:
    """Renew it with ``python -m gateway.openapi v1 > docs/api/v1.openapi.json`` (and ``project``)."""
    published = json.loads((ROOT / "docs" / "api" / f"{api}.openapi.json").read_text("utf-8"))

    assert published == document(api)


@pytest.mark.parametrize("api", APIS)
def test_every_operation_documents_its_responses(api: str) -> None:
    operations = [operation for path in document(api)["paths"].values() for operation in path.values()]

    for operation in operations:
        for status, response in operation["responses"].items():
            assert all(one["schema"] for one in response["content"].values()), (
                f"{operation['operationId']} {status} has no schema"
            )


@pytest.mark.parametrize("api", APIS)
def test_every_reference_leads_to_a_component(api: str) -> None:
    text = json.dumps(document(api))
    components = document(api).get("components", {}).get("schemas", {})

    assert set(re.findall(r"#/components/schemas/([^\"]+)", text)) <= set(components)
