"""The pictures of the dashboard in the documents: small, each shown, each with a text that says what it shows."""

import re

import pytest

from tests.repository.files import ROOT, tracked_files

LARGEST = 150_000  # bytes
SHOWN = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
PICTURES = [path for path in tracked_files() if path.is_relative_to(ROOT / "docs/dashboard")]


def shown_in(documents):
    """The picture files that documents show, each with its alternative texts."""
    found = {}
    for document in documents:
        for text, target in SHOWN.findall(document.read_text("utf-8")):
            found.setdefault((document.parent / target).resolve(), []).append(text)
    return found


def test_every_picture_of_a_document_exists_and_has_a_text():
    shown = shown_in(path for path in tracked_files() if path.suffix == ".md")

    assert [str(path) for path in shown if not path.is_file()] == []
    assert [str(path) for path, texts in shown.items() if not all(texts)] == []


def test_the_readme_and_the_page_of_the_dashboard_show_it():
    shown = shown_in([ROOT / "README.md", ROOT / "docs/dashboard.md"])

    assert len(PICTURES) == 4
    assert [str(path) for path in PICTURES if path not in shown] == []
    assert [text for path in PICTURES for text in shown[path] if len(text) < 30] == []


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_a_small_png(path):
    content = path.read_bytes()

    assert content.startswith(b"\x89PNG")
    assert len(content) < LARGEST
