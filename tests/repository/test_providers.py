"""The documentation of the provider packages agrees with their facts."""

import re

import pytest

from sluice.providers.adapters.sandbox import SANDBOX
from sluice.providers.registry import PACKAGES
from tests.repository.files import ROOT
from tests.repository.provider_matrix import matrix, page_of

DOCS = ROOT / "docs" / "providers"
PARTS = ["Set-up", "Credentials", "Receipts", "Limits and behaviour", "What we can and cannot see"]
# SMTP has no answers of an API but the replies of every server: its rules are longer.
NO_HTTP = {"smtp.py"}


def test_the_matrix_of_the_documentation_is_the_one_of_the_packages():
    """Renew it with ``python -m tests.repository.provider_matrix``."""
    index = (DOCS / "index.md").read_text("utf-8")

    assert matrix() in index


@pytest.mark.parametrize("package", PACKAGES.values(), ids=PACKAGES.keys())
def test_every_package_has_a_page_that_names_its_credentials(package):
    page = (DOCS / page_of(package)).read_text("utf-8")

    fields = {field.alias or name for name, field in package.credentials.model_fields.items()}
    assert fields <= set(re.findall(r"`([\w.]+)`", page))


@pytest.mark.parametrize(
    "package", [package for package in PACKAGES.values() if package is not SANDBOX], ids=lambda package: package.name
)
def test_every_page_has_the_five_parts(package):
    headings = re.findall(r"^## (.+)$", (DOCS / page_of(package)).read_text("utf-8"), re.MULTILINE)

    assert [heading for heading in headings if heading in PARTS] == PARTS


@pytest.mark.parametrize(
    ("folder", "limit"),
    [("libs/common/src/sluice/providers/adapters", 250), ("tools/simulator/src/sluice_simulator/dialects", 200)],
    ids=["adapters", "dialects"],
)
def test_an_http_adapter_and_a_dialect_stay_small(folder, limit):
    """A file that two packages of a vendor share counts as one more file."""
    lengths = {path.name: len(path.read_text("utf-8").splitlines()) for path in (ROOT / folder).glob("*.py")}

    assert {name: length for name, length in lengths.items() if length > limit and name not in NO_HTTP} == {}
