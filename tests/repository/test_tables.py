"""Every table is declared with its privileges and, where it has a project, with row-level security."""

import re
from pathlib import Path

import pytest

from sluice.store.logins import GATEWAY
from sluice.store.tables import FUNCTIONS, TABLES, Table
from tests.repository.files import ROOT

_TABLE = re.compile(r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+) \((.*?)^\)", re.MULTILINE | re.DOTALL)
_VIEW = re.compile(r"^CREATE VIEW (\w+)", re.MULTILINE)
_FUNCTION = re.compile(r"^CREATE (?:OR REPLACE )?FUNCTION (\w+)\((.*?)AS \$\$", re.MULTILINE | re.DOTALL)


def schema():
    return "".join(path.read_text() for path in sorted(Path(ROOT, "deploy/migrations").glob("*.sql")))


def faults(sql, tables):
    """What is missing in ``store/tables.py`` for the tables of a schema: a sentence each."""
    declared = {table.name: table for table in tables}
    columns = {name: re.findall(r"^ +(\w+) ", body, re.MULTILINE) for name, body in _TABLE.findall(sql)}
    found = [
        f"table {name} has no line in store/tables.py: add Table({name!r}, {{GATEWAY: 'SELECT, INSERT', …}}) with the "
        "statements of each login that uses it" + ("" if "project_id" in columns[name] else ", and project=None")
        for name in columns.keys() - declared.keys()
    ]
    found += [
        f"table {name} has the column project_id, but project=None in store/tables.py: leave it out, or no policy "
        "separates its projects. A statement of the gateway then needs transaction(pool, project_id) or rows_of"
        for name, names in columns.items()
        if name in declared and "project_id" in names and declared[name].project is None
    ]
    found += [
        f"store/tables.py has a line for {name}, which no migration creates"
        for name in declared.keys() - columns.keys() - set(_VIEW.findall(sql))
    ]
    return sorted(found)


def test_every_table_is_declared_with_its_privileges_and_its_project():
    assert faults(schema(), TABLES) == []


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ([], r"table orders has no line in store/tables\.py: add Table\('orders'"),
        ([Table("orders", {GATEWAY: "SELECT"}, project=None)], "table orders has the column project_id"),
        ([Table("orders", {}), Table("gone", {})], "has a line for gone, which no migration creates"),
    ],
)
def test_a_table_that_is_not_declared_is_named_with_what_to_add(tables, expected):
    (fault,) = faults("CREATE TABLE orders (\n    id         uuid,\n    project_id uuid NOT NULL\n);\n", tables)

    assert re.search(expected, fault)


def test_a_function_with_the_rights_of_the_owner_is_not_for_every_login():
    definers = {
        name: head
        for name, head in _FUNCTION.findall(schema())
        if "SECURITY DEFINER" in head and "RETURNS trigger" not in head
    }

    assert definers.keys() == FUNCTIONS.keys(), (
        "a SECURITY DEFINER function needs a line in FUNCTIONS of store/tables.py"
    )
    for name, head in definers.items():
        assert f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" in schema(), f"{name}: every login may call it"
        assert "SET search_path = pg_catalog, public, pg_temp" in head, (
            f"{name}: the caller chooses what its names mean"
        )
