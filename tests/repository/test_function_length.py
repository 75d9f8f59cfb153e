"""No function is longer than 40 lines. SQL does not count: a statement is read as one piece."""

import ast
import re

import pytest

from tests.repository.files import ROOT, checked_files

MAX_LINES = 40
SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE)\b")

SOURCES = [path for path in checked_files() if path.suffix == ".py"]


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def sql_lines(function):
    """Lines of the function's SQL texts beyond the first of each."""
    texts = [node for node in ast.walk(function) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return sum(text.end_lineno - text.lineno for text in texts if SQL.match(text.value))


def length(function):
    return function.end_lineno - function.lineno + 1 - sql_lines(function)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_function_is_longer_than_the_limit(path):
    tree = ast.parse(path.read_text("utf-8"))

    assert {function.name: length(function) for function in functions(tree) if length(function) > MAX_LINES} == {}


def test_sql_is_not_counted():
    source = 'def look():\n    return db.fetch("""\n    SELECT 1\n      FROM x\n    """)\n'

    assert length(ast.parse(source).body[0]) == 2


def test_other_texts_are_counted():
    source = 'def look():\n    """One.\n\n    Two.\n    """\n'

    assert length(ast.parse(source).body[0]) == 5
