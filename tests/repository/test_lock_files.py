"""The lock files: complete, with hashes, without the host of a package index."""

import re

import pytest

from tests.repository.files import ROOT, pinned, read_toml

LOCKS = ["requirements.lock", "deploy/requirements.lock"]
NPM_LOCKS = [
    "dashboard/package-lock.json",
    "dashboard/browser/package-lock.json",
    "tests/unit/templates/handlebars/package-lock.json",
]
PROJECTS = ["pyproject.toml", *(str(path.relative_to(ROOT)) for path in ROOT.glob("*/*/pyproject.toml"))]


def wanted(project: str) -> set[str]:
    """The names of what a project depends on, as the index spells them."""
    read = read_toml(project)
    groups = read.get("dependency-groups", {}).values()
    requirements = [*read["project"]["dependencies"], *(each for group in groups for each in group)]
    names = (re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names if not name.startswith("sluice-")}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes(lock):
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / lock).read_text().strip())

    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", [*LOCKS, *NPM_LOCKS])
def test_no_lock_file_names_a_host_or_a_path(lock):
    text = (ROOT / lock).read_text()

    assert re.findall(r"https?:|--(?:extra-)?index-url|--find-links|file:| @ |/home|/root", text) == []


@pytest.mark.parametrize("project", PROJECTS)
def test_everything_that_a_project_needs_is_pinned(project):
    assert wanted(project) - set(pinned("requirements.lock")) == set()


def test_the_image_gets_the_versions_that_were_tested():
    assert pinned("deploy/requirements.lock").items() <= pinned("requirements.lock").items()


def test_the_image_gets_what_the_services_need():
    members = set().union(
        *(wanted(project) for project in PROJECTS if project.partition("/")[0] in ("libs", "services"))
    )

    assert members - set(pinned("deploy/requirements.lock")) == set()
