"""docs/security.md: each finding of the review has a test that names it."""

import re

from tests.repository.files import ROOT

FINDINGS = set(range(1, 26))
ROW = re.compile(r"^\| (\d+): [^|]+ \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> dict[int, list[tuple[str, str]]]:
    """The tests of each finding, as file and function."""
    text = (ROOT / "docs/security.md").read_text("utf-8")
    return {int(number): TEST.findall(tests) for number, tests in ROW.findall(text)}


def test_every_finding_has_a_test_that_exists_and_names_it() -> None:
    found = rows()

    assert set(found) >= FINDINGS
    for number, tests in found.items():
        assert tests, number
        for path, name in tests:
            assert re.search(rf"def {name}\(", (ROOT / path).read_text("utf-8")), name
            assert re.search(rf"finding(_|s_(\d+_and_)*){number}_|findings_{number}_and", name), name
