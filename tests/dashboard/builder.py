"""The program that builds the dashboard and installs the browser, which is no part of a package."""

import importlib
import sys

from tests.repository.files import ROOT

sys.path.append(str(ROOT / "dashboard"))
builder = importlib.import_module("build")
