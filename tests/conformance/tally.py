"""Counts what the conformance tests checked, and prints it as one JSON object at the end of the run.

Tests report through pytest's ``record_property``: ``package`` (the name of one), ``requests`` and ``valid`` (numbers of
generated requests), ``forgeries`` and ``refused``. Every test in a ``test_sdk_…`` file is one check of an SDK.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from sluice.model.message import Channel
from sluice.providers.registry import PACKAGES

# All but the sandbox, which has every channel and no provider.
CHECKED = {name for name, package in PACKAGES.items() if len(package.channels) < len(Channel)}
NUMBERS = ("requests", "valid", "sdk_checks", "sdk_ok", "forgeries", "refused")


class Tally:
    """A pytest plugin; it works in the process that reports, whatever process ran the tests."""

    def __init__(self) -> None:
        self.packages: set[str] = set()
        self.missing: list[str] = []
        self.numbers: Counter[str] = Counter(dict.fromkeys(NUMBERS, 0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add what one test reported."""
        if "/test_sdk_" in report.nodeid and (report.when == "call" or report.failed):
            self.numbers["sdk_checks"] += 1
            self.numbers["sdk_ok"] += report.passed
        if report.when != "teardown":  # the last report of a test has all its properties
            return
        for name, value in report.user_properties:
            if name == "package":
                self.packages.add(str(value))
            elif name in NUMBERS and isinstance(value, int):
                self.numbers[name] += value

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A run of the whole folder fails when a package was not checked."""
        whole = any(Path(argument).resolve() == Path(__file__).parent for argument in session.config.args)
        if whole and session.testscollected and not session.testsfailed:
            self.missing = sorted(CHECKED - self.packages)
            if self.missing:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The last line: a JSON object."""
        if self.missing:
            terminalreporter.write_line(f"no request was checked of {', '.join(self.missing)}")
        if self.packages or any(self.numbers.values()):
            terminalreporter.write_line(json.dumps({"packages": len(self.packages), **self.numbers}))
