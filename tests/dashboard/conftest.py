"""A real Chromium on the running system. `make test-dashboard` installs both; without them these tests are skipped."""

import importlib
import os
import re
import sys

import pytest

from tests.dashboard.screens import Screens
from tests.repository.files import ROOT
from tests.system.testbed import a_testbed

ARTEFACTS = ROOT / ".cache/dashboard/screenshots"

sys.path.append(str(ROOT / "dashboard"))
builder = importlib.import_module("build")


@pytest.fixture(scope="session")
def installed():
    """Chromium and the package that controls it."""
    if not os.environ.get("SLUICE_BROWSER_TESTS"):
        pytest.skip("`make test-dashboard` runs the tests in a browser")
    node = builder.install(with_tests=True)
    found = builder.install_browser(node)
    sys.path.append(str(found.driver))  # behind everything that is pinned for the tests
    return found


@pytest.fixture(scope="session")
def built():
    builder.build()


@pytest.fixture(scope="session")
async def browser(installed, built):
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=installed.chromium,
            env={**os.environ, **installed.environment},
            chromium_sandbox=os.geteuid() != 0,
            args=["--font-render-hinting=none"],
        )
        yield chromium
        await chromium.close()


@pytest.fixture
async def testbed(system):
    async with a_testbed(system) as testbed:
        yield testbed


@pytest.fixture
def screens(browser, testbed, request):
    """Opens pages as the owner of the project of the test; at the end each console has to be empty."""
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    return Screens(browser, testbed, ARTEFACTS, name)


@pytest.fixture
async def page(screens):
    async with screens.open() as page:
        yield page
