"""Servers are opened at one place each, which honours every setting: password, TLS, authority, login."""

import ast

import pytest

from tests.repository.files import ROOT, tracked_files

PROGRAMS = [
    path
    for path in tracked_files()
    if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ("libs", "services", "tools")
]
PLACES = {
    "Redis.from_url": "libs/common/src/sluice/runtime/redis_client.py",
    "asyncpg.connect": "libs/common/src/sluice/store/",
    "asyncpg.create_pool": "libs/common/src/sluice/store/",
}


def calls():
    """Every call of the programs: its file, the function as written, its arguments."""
    for path in PROGRAMS:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield str(path.relative_to(ROOT)), ast.unparse(node.func), [ast.unparse(one) for one in node.keywords]


@pytest.mark.parametrize("function", PLACES)
def test_a_server_is_opened_at_one_place(function):
    found = {name for name, called, _ in calls() if called == function}

    assert found
    assert {name for name in found if not name.startswith(PLACES[function])} == set()


def test_every_client_of_kafka_has_the_options_of_the_connection():
    clients = [(name, options) for name, called, options in calls() if called.startswith("AIOKafka")]

    assert clients
    assert [name for name, options in clients if not any(one.endswith("kafka.options()") for one in options)] == []
