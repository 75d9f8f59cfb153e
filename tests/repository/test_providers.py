"""The documentation of the provider packages agrees with their facts."""

import re

import pytest

from sluice.providers.registry import PACKAGES
from tests.repository.files import ROOT
from tests.repository.provider_matrix import matrix, page_of

DOCS = ROOT / "docs" / "providers"


def test_the_matrix_of_the_documentation_is_the_one_of_the_packages():
    """Renew it with ``python -m tests.repository.provider_matrix``."""
    index = (DOCS / "index.md").read_text("utf-8")

    assert matrix() in index


@pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES.keys())
def test_every_package_has_a_page_that_names_its_credentials(package):
    page = (DOCS / page_of(package)).read_text("utf-8")

    fields = {field.alias or name for name, field in package.credentials.model_fields.items()}
    assert fields <= set(re.findall(r"`([\w.]+)`", page))
