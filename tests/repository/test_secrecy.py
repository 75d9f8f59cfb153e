"""The repository contains no path of the machine it was written on and no host of a package registry."""

import re

import pytest

from tests.repository.files import ROOT, tracked_files

# In pieces, so that this file is no finding itself.
REGISTRIES = [
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("repo1.maven", "org"),
    ("repo.maven.apache", "org"),
    ("central.sonatype", "com"),
    ("registry.npmjs", "org"),
    ("registry-1.docker", "io"),
    ("ghcr", "io"),
    ("quay", "io"),
]
PATHS = [("", "work", "main"), ("", "work", "shared"), ("", "opt", "wheels"), ("", "root", "")]


def mentions(pattern: str) -> list[str]:
    return [
        str(path.relative_to(ROOT)) for path in tracked_files() if re.search(pattern, path.read_text(errors="replace"))
    ]


@pytest.mark.parametrize("host", REGISTRIES, ids=".".join)
def test_no_file_names_a_registry(host):
    assert mentions(re.escape(".".join(host))) == []


@pytest.mark.parametrize("path", PATHS, ids="-".join)
def test_no_file_names_a_directory_of_the_machine_it_was_written_on(path):
    assert mentions(r"(?<![\w.~}$])" + re.escape("/".join(path))) == []
