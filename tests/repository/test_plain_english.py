"""The texts of the repository use the field's terms and plain English; docs/glossary.md is the reference.

Checked are comments, docstrings and all other texts of Python files, and the whole text of every other file.
"""

import ast
import io
import re
import tokenize
from functools import cache

import pytest

from tests.repository.files import ROOT, checked_files

BANNED = {
    r"conveyors?": "dispatch queue",
    r"(re)?drives?|(re)?driven": "enqueue, requeue; a delivery task",
    r"postman": "webhook sender",
    r"far[ _]ends?": "fake provider",
    r"doors?": "endpoint of the simulator; source of a request",
    r"crowds?": "admission control",
    r"piles?": "backlog",
    r"lanes?": "bulkhead",
    r"set[ _]aside": "dead-letter",
    r"left[ _]out": "exclude, omit",
    r"leash": "parent-death signal",
    r"wires?": "transport",
    r"announce[sd]?|announcements?|announcing|unannounced": "publish; the outbox",
    r"verdicts?": "health status, decision, result",
    r"lapse[sd]?|lapsed": "expire",
    r"patience": "timeout",
    r"ambiguous": "unknown",
    r"(in|from|on|over) the record|the record (has|says|keeps|holds|itself)": "the database (a record is Kafka's)",
    r"the house": "the project",
    r"tells?|told|hears?|heard": "report, send, receive, read",
    r"somebody|anybody|everybody|nobody|whoever": "name the component",
    r"he|him|his|she|her": "it, the caller, the project",
    r"anew": "again; recreated",
    r"crash points?": "failpoint",
}
"""What is not written, as a pattern of whole words, and what is written instead."""

ALLOWED = {
    "README.md": r"event-driven",
    "docs/decisions/0002-no-content-on-the-bus.md": r"Content in the record",  # Kafka's
    "docs/glossary.md": r".*SQS.*",
    "docs/decisions/0016-the-project-uses-the-fields-standard-terms.md": r".*",
    "tests/repository/test_plain_english.py": r".*",
    "tools/launcher/src/sluice_launcher/postgres.py": r"`nobody`",
}
"""By file: texts with another sense of a word, which are not checked."""

PATTERN = re.compile(rf"\b({'|'.join(BANNED)})\b", re.IGNORECASE)
SUFFIXES = {".py", ".md", ".sh", ".sql", ".yml", ".toml", ".in", ".json", ".properties", ""}
FILES = [path for path in checked_files() if path.suffix in SUFFIXES]


def texts(source):
    """Comments and string constants of Python source."""
    comments = [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    constants = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return [*comments, *(text for text in constants if isinstance(text, str))]


def banned(text):
    return [found[0].lower() for found in PATTERN.finditer(text)]


def instead(word):
    return next(better for pattern, better in BANNED.items() if re.fullmatch(pattern, word))


@cache
def allowed(name):
    return re.compile(ALLOWED[name]) if name in ALLOWED else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_uses_no_banned_word(path):
    content = path.read_text("utf-8")
    sense = allowed(str(path.relative_to(ROOT)))
    parts = texts(content) if path.suffix == ".py" else content.splitlines()
    kept = [sense.sub("", part) if sense else part for part in parts]

    assert {part: {word: instead(word) for word in banned(part)} for part in kept if banned(part)} == {}


OLD_NAMES = re.compile(
    r"conveyor|\bdrive[sn]?\b|redrive|postman|far_end|\bcrowd\b|\bpiles?\b|\blane\b|set_aside|left_out|leash|\bwires?\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_no_old_name(path):
    """The names of the mechanisms before they took the field's, also as parts of identifiers."""
    sense = allowed(str(path.relative_to(ROOT)))
    content = path.read_text("utf-8")

    assert [found[0] for found in OLD_NAMES.finditer(sense.sub("", content) if sense else content)] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the far end", ["far end"]),
        ("She told him", ["she", "told", "him"]),
        ("a disk drive", ["drive"]),
        ("outdoor", []),
    ],
)
def test_whole_words_are_found(text, words):
    assert banned(text) == words
