"""A real Chromium on the running system. `make test-dashboard` installs both; without them these tests are skipped."""

import os
import re
from pathlib import Path

import pytest

from tests.dashboard.builder import builder
from tests.dashboard.screens import Screens
from tests.repository.files import ROOT
from tests.system.testbed import a_testbed

SCREENSHOTS = Path(os.environ.get("SLUICE_SCREENSHOTS") or ROOT / ".cache/dashboard/screenshots")


@pytest.fixture(scope="session")
def installed():
    """Chromium and the package that controls it."""
    if not os.environ.get("SLUICE_BROWSER_TESTS"):
        pytest.skip("`make test-dashboard` runs the tests in a browser")
    return builder.install_browser(builder.install(with_tests=True))


@pytest.fixture(scope="session")
def built():
    builder.build()


@pytest.fixture(scope="session")
async def browser(installed, built):
    async with builder.running_chromium(installed) as chromium:
        yield chromium


@pytest.fixture
async def testbed(system):
    async with a_testbed(system) as testbed:
        yield testbed


@pytest.fixture
def screens(browser, testbed, request):
    """Opens pages as the owner of the project of the test; at the end each console has to be empty."""
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    return Screens(browser, testbed, SCREENSHOTS, name)


@pytest.fixture
async def page(screens):
    async with screens.open() as page:
        yield page
