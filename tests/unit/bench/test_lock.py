"""The benchmark's own packages are pinned with hashes; shared ones have the version of the product."""

import re

from tests.repository.files import ROOT, pinned

LOCK = "bench/requirements.lock"


def test_every_pin_has_hashes():
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / LOCK).read_text().strip())

    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_it_names_no_host_and_no_path():
    assert re.findall(r"https?:|--(?:extra-)?index-url|--find-links|file:| @ ", (ROOT / LOCK).read_text()) == []


def test_what_the_peers_share_with_us_has_our_version():
    ours, theirs = pinned("requirements.lock"), pinned(LOCK)

    assert {name: version for name, version in theirs.items() if ours.get(name, version) != version} == {}


def test_everything_that_is_asked_for_is_pinned():
    asked = (ROOT / "bench/requirements.in").read_text().split()

    assert {name.partition("[")[0] for name in asked} - set(pinned(LOCK)) == set()
