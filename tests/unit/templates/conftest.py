"""handlebars.js as the reference of the engine."""

import pytest

from tests.unit.templates.handlebars_js import HandlebarsJs


@pytest.fixture(scope="session")
def handlebars_js():
    reference = HandlebarsJs()
    yield reference
    reference.close()
