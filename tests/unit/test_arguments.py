"""Arguments of commands that do not fit are refused before anything is done, and named."""

import pytest

from sluice_cli.main import main

WRONG = [
    ("captured -n -1", "argument -n/--limit: must be 1 to 10,000"),
    ("dead-letters list --limit 0", "argument --limit: must be 1 to 1,000"),
    ("bulk list -n 0", "argument -n/--limit: must be 1 to 100,000"),
    ("webhook deliveries --limit x whe_1", "argument --limit: must be 1 to 100,000"),
    ("send --to a@example.com --wait nan", "argument --wait: must be 0 to 86,400"),
    ("publish --to a@example.com --wait -1", "argument --wait: must be 0 to 86,400"),
    ("verify --grace -1", "argument --grace: must be 0 to 31,536,000"),
    ("simulate --control-port 99999", "argument --control-port: must be 0 to 65,535"),
    ("logs -n -1", "argument -n/--lines: must be 0 to 1,000,000"),
    ("backtest --limit 0", "argument --limit: must be 1 to 1,000,000"),
    ("backtest --late 0", "argument --late: must be 0.001 to 86,400"),
    ("game-day --rate 1e9", "argument --rate: must be 1 to 200"),
    ("game-day --seconds nan", "argument --seconds: must be 5 to 1,800"),
]


@pytest.mark.parametrize(("line", "error"), WRONG)
def test_a_number_out_of_range_is_named(capsys, line, error):
    with pytest.raises(SystemExit) as ended:
        main(line.split())

    assert ended.value.code == 2
    assert error in capsys.readouterr().err


@pytest.mark.parametrize("key", ["ses_…", "sp_live_…", "sp_live_é", "sp_live_a b", "sp_live_a\n"])
@pytest.mark.parametrize(
    "command", ["send --to a@example.com", "message msg_1", "provider list", "publish --to a@b.example"]
)
def test_what_cannot_be_a_key_is_named(capsys, monkeypatch, tmp_path, command, key):
    monkeypatch.setenv("SLUICE_DATA_DIR", str(tmp_path))

    assert main([*command.split(), "--key", key]) == 1

    assert capsys.readouterr().err.startswith("sluice: --key: ")


def test_what_cannot_be_a_key_is_named_with_its_variable(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SLUICE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SLUICE_API_KEY", "ses_…")

    assert main(["key", "create", "web-shop", "--name", "website"]) == 1

    assert "SLUICE_API_KEY: " in capsys.readouterr().err
