"""docs/configuration.md lists every setting of the code, as the code has it."""

import re

import pytest

from sluice_launcher.roles import ROLES
from tests.repository.configuration import page, settings_of, variables
from tests.repository.files import ROOT, tracked_files

NAME = re.compile(r"""["']SLUICE_[A-Z_]+[A-Z]["']""")
SOURCES = [path for path in tracked_files() if path.suffix == ".py" and path.is_relative_to(ROOT)]
PROGRAMS = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in ("libs", "services", "tools")]


def test_the_page_is_the_generated_one():
    """Renew it with ``python -m tests.repository.configuration > docs/configuration.md``."""
    assert (ROOT / "docs/configuration.md").read_text() == page()


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_settings_of_a_role_are_found(role):
    assert settings_of(role.module) != set()


def test_every_setting_has_a_description():
    assert [name for name, (field, _) in variables().items() if not field.description] == []


def test_every_variable_that_a_program_names_is_on_the_page():
    text = page()
    named = {found[0].strip("\"'") for path in PROGRAMS for found in NAME.finditer(path.read_text("utf-8"))}

    assert {name for name in named if f"`{name}`" not in text} == set()
