"""Commands without the schema, without a privilege, or with a file that cannot be written: one line, no traceback."""

import asyncio
import re

import pytest

from sluice.runtime.key_file import ensure_key_file
from sluice.store.logins import HEALTH
from sluice_cli.main import main
from tests.engine import as_login

LETTER = "dlt_00000000000000000000000000"
KEY = "key_00000000000000000000000000"
COMMANDS = [
    ("project", "create", "Shop"),
    ("project", "list"),
    ("key", "create", "shop"),
    ("key", "list", "shop"),
    ("key", "revoke", "shop", KEY),
    ("user", "create", "ada@example.com"),
    ("user", "list"),
    ("user", "reset-password", "ada@example.com"),
    ("setup-link",),
    ("dead-letters", "list"),
    ("dead-letters", "show", LETTER),
    ("dead-letters", "discard", LETTER),
    ("dead-letters", "discard", "--topic", "send.requests"),
    ("rotate-encryption-key",),
    ("rotate-encryption-key", "--remove-old"),
    ("demo",),
    ("captured",),
    ("verify",),
    ("retention",),
    ("retention", "--delete"),
    ("backtest", "--since", "1d"),
    ("analytics", "rebuild", "--since", "2026-11-01"),
]


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs a command on a database; its exit code and errors."""
    key = tmp_path / "credentials.key"
    ensure_key_file(key)
    monkeypatch.setenv("SLUICE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SLUICE_ENCRYPTION_KEY_FILE", str(key))
    monkeypatch.setenv("SLUICE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.delenv("SLUICE_API_KEY", raising=False)

    async def run(dsn, words):
        monkeypatch.setenv("SLUICE_POSTGRES_DSN", dsn)
        code = await asyncio.to_thread(main, words)
        return code, capsys.readouterr().err

    return run


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
async def test_without_the_schema_a_command_names_the_migration(make_bare_database, run, words):
    code, error = await run(await make_bare_database(), words)

    assert code == 1
    assert re.fullmatch(r"sluice: .*relation .* does not exist.*: run `sluice migrate`\n", error)


@pytest.mark.parametrize("words", [("project", "list"), ("user", "list"), ("dead-letters", "list")], ids=" ".join)
async def test_a_login_without_the_privilege_is_one_line(store_database, run, words):
    code, error = await run(as_login(store_database, HEALTH), words)

    assert code == 1
    assert re.fullmatch(r"sluice: the login lacks a privilege \(permission denied .*\n", error)


async def test_a_key_file_that_cannot_be_replaced_is_one_line(store_database, run, tmp_path):
    draft = tmp_path / "credentials.key.new"
    draft.mkdir()

    code, error = await run(store_database, ["rotate-encryption-key"])

    assert (code, error) == (1, f"sluice: {draft}: Is a directory\n")
