"""Counts what the conformance tests checked, and prints it as one JSON object at the end of the run.

Tests report through pytest's ``record_property``: ``package`` (the name of one), ``requests`` and ``valid`` (numbers of
generated requests), ``forgeries`` and ``refused``. Every test in a ``test_sdk_…`` file is one check of an SDK.
"""

from __future__ import annotations

import json
from collections import Counter

import pytest

NUMBERS = ("requests", "valid", "sdk_checks", "sdk_ok", "forgeries", "refused")


class Tally:
    """A pytest plugin; it works in the process that reports, whatever process ran the tests."""

    def __init__(self) -> None:
        self.packages: set[str] = set()
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

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The last line: a JSON object."""
        if self.packages or any(self.numbers.values()):
            terminalreporter.write_line(json.dumps({"packages": len(self.packages), **self.numbers}))
