"""`sluice demo`, without an installation."""

import pytest

from sluice_cli.context import Demo
from sluice_cli.main import main


@pytest.mark.parametrize("status", ["FAILED", "SENDING"])
def test_a_demo_that_is_not_sent_names_no_command_that_the_image_lacks(monkeypatch, capsys, status):
    """`sluice logs` belongs to the launcher."""
    message = {"id": "msg_1", "status": status, "channel": "email", "to": ["you@example.com"], "events": []}
    monkeypatch.setenv("SLUICE_API_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("sluice_cli.context.read_demo", lambda: Demo("demo", "sp_live_x", "sp_test_x"))
    monkeypatch.setattr("sluice_cli.send.api_request", lambda *_: {"id": "msg_1"})
    monkeypatch.setattr("sluice_cli.send.wait_until_settled", lambda *_, **__: message)

    code = main(["demo"])

    error = capsys.readouterr().err
    assert code == 1
    assert error == f"sluice: the demo message is {status}, not SENT: see its history, and the log of email-worker\n"
