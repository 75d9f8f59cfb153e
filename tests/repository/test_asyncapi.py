"""The published schema of the public topics is the one in the code."""

import json

from gateway.asyncapi import document
from tests.repository.files import ROOT


def test_the_published_schema_is_the_one_in_the_code() -> None:
    """Renew it with ``python -m gateway.asyncapi > docs/asyncapi.json``."""
    published = json.loads((ROOT / "docs" / "asyncapi.json").read_text("utf-8"))

    assert published == document()
