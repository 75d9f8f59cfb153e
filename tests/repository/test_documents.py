"""What documents name exists: the targets of their links, and settings."""

import re
from collections import Counter
from functools import cache

import pytest

from sluice_cli.variables import other_variables
from tests.repository.configuration import variables
from tests.repository.files import ROOT, tracked_files

DOCUMENTS = [path for path in tracked_files() if path.suffix == ".md"]
COMPOSE = [ROOT / "docker-compose.yml", ROOT / "docker-compose.laptop.yml"]
EXAMPLE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HISTORY = {ROOT / "CHANGELOG.md"}  # names what was replaced, too
DEPLOYED = [path for path in tracked_files() if path.is_relative_to(ROOT / "deploy")]
FILE = re.compile(r"(?<![\w./-])(?:deploy|docs|tests|tools)/[\w./-]*\.(?:env|json|md|properties|py|sh|sql|ya?ml)\b")
OUTSIDE = re.compile(r"[a-z]+:")  # https:, mailto:
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SETTING = re.compile(r"SLUICE_[A-Z0-9_]+")
READ_BY_TESTS = re.compile(r"""environ(?:\.get\(|\[)["'](SLUICE_[A-Z0-9_]+)""")
MISSPELT = {"SLUICE_PROVIDER_CONCURENCY"}  # in the example of what `sluice doctor` reports


def shown(path):
    return str(path.relative_to(ROOT))


@cache
def anchors(path):
    """The anchors of a document's headings, as the repository host makes them."""
    texts = [
        re.sub(r"\]\([^)]*\)", "", heading) for heading in HEADING.findall(FENCED.sub("", path.read_text("utf-8")))
    ]
    words = [re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in texts]
    return {f"{word}-{number}" if number else word for word, count in Counter(words).items() for number in range(count)}


@cache
def known_settings():
    sources = [path for path in tracked_files() if path.suffix == ".py" and path.is_relative_to(ROOT / "tests")]
    of_tests = {name for path in sources for name in READ_BY_TESTS.findall(path.read_text("utf-8"))}
    return {*variables(), *other_variables(), *of_tests}


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_a_link_leads_to_a_file_and_a_heading(path):
    targets = LINK.findall(EXAMPLE.sub("", path.read_text("utf-8")))
    broken = []
    for target in targets:
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        exists = file.exists() and (not anchor or file.suffix != ".md" or anchor in anchors(file))
        if not OUTSIDE.match(target) and not exists:
            broken.append(target)

    assert broken == []


@pytest.mark.parametrize("path", [path for path in (*DOCUMENTS, *COMPOSE) if path not in HISTORY], ids=shown)
def test_a_setting_that_a_document_names_exists(path):
    """A name with ``_`` at its end stands for those that begin with it, such as ``SLUICE_SMS_LINK_*``."""
    known = known_settings() | MISSPELT
    named = set(SETTING.findall(path.read_text("utf-8")))

    groups = {name for name in named if name.endswith("_") and any(one.startswith(name) for one in known)}
    assert named - groups - known == set()


@pytest.mark.parametrize("path", [*DOCUMENTS, *COMPOSE, *DEPLOYED, ROOT / "Makefile"], ids=shown)
def test_a_file_that_a_text_names_by_its_path_exists(path):
    named = {name for name in FILE.findall(path.read_text("utf-8")) if "NNNN" not in name}

    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_a_table_ends_with_an_empty_line(path):
    """Otherwise the paragraph behind it is shown as a row."""
    text = FENCED.sub("", path.read_text("utf-8"))

    assert re.findall(r"^\|.*\n(?!\||\n)(.+)", text, re.MULTILINE) == []
