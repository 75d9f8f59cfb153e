"""The control port, the command, and the demo's mailbox, each as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice.model.outcome import Accepted
from sluice.providers.adapters.smtp import SMTP, SmtpCredentials
from sluice.transports.http import HttpTransport
from sluice.transports.opening import open_transports
from sluice.transports.provider_call import call_provider
from sluice_simulator import Simulator
from sluice_simulator.mailbox import FOLDER, Mailbox, list_mails
from sluice_simulator.smtp_server import SmtpSettings, listen_smtp
from tests.programs import program
from tests.simulator.conftest import SimulatorClient
from tests.unit.providers.examples import an_email, outbound


async def control(
    http: HttpTransport, simulator: Simulator, method: str, path: str, body: Any = None
) -> httpx.Response:
    content = None if body is None else json.dumps(body).encode()
    return await http.exchange(httpx.Request(method, simulator.control_url + path, content=content), deadline=10)


async def test_the_scenario_can_be_changed_while_it_runs(http: HttpTransport) -> None:
    async with Simulator() as simulator:
        client = SimulatorClient(simulator, http)

        put = await control(http, simulator, "PUT", "/scenario", {"default": {"behaviour": "fault"}})

        assert put.status_code == 200
        assert (await client.email()).status_code == 500
        assert (await control(http, simulator, "GET", "/scenario")).json() == {"default": {"behaviour": "fault"}}


@pytest.mark.parametrize("body", [{"default": {"behaviour": "explode"}}, [], {"nonsense": 1}])
async def test_a_wrong_scenario_changes_nothing(http: HttpTransport, body: Any) -> None:
    async with Simulator() as simulator:
        assert (await control(http, simulator, "PUT", "/scenario", body)).status_code == 422
        assert (await SimulatorClient(simulator, http).email()).status_code == 200


async def test_the_calls_can_be_looked_at(http: HttpTransport) -> None:
    async with Simulator() as simulator:
        await SimulatorClient(simulator, http).email()

        found = (await control(http, simulator, "GET", "/calls")).json()

        assert found["endpoints"]["resend"] == {"port": simulator.endpoints["resend"].port, "calls": 1, "accepted": 1}
        assert [line["message_id"] for line in found["calls"]] == ["msg_01HX"]


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/receipts", 200), ("/nothing", 404)])
async def test_the_other_pages_of_the_control_port(http: HttpTransport, path: str, status: int) -> None:
    async with Simulator() as simulator:
        assert (await control(http, simulator, "GET", path)).status_code == status


# The command

SLUICE = [sys.executable, "-c", "import sys; from sluice_cli.main import main; sys.exit(main())", "simulate"]


async def test_the_command_serves_until_sigterm(http: HttpTransport, tmp_path: Path) -> None:
    (tmp_path / "scenario.toml").write_text('[endpoints.bad]\nbehaviour = "fault"\nphase = "end_of_data"\n')
    endpoints = ["--endpoint", "good=smtp", "--endpoint", "bad=smtp"]
    options = ["--scenario", str(tmp_path / "scenario.toml"), "--log-dir", str(tmp_path), "--control-port", "0"]
    with program([*SLUICE, *endpoints, *options]) as simulator:
        assert simulator.stdout is not None
        where = json.loads(simulator.stdout.readline())
        async with open_transports() as transports:
            outcomes = {}
            for name, endpoint in where["endpoints"].items():
                account = SmtpCredentials(host=where["host"], port=endpoint["port"], require_tls=False)
                outcomes[name] = await call_provider(SMTP, outbound(an_email()), account, transports, deadline=10)
        simulator.send_signal(signal.SIGTERM)

        assert simulator.wait(timeout=20) == 0

    assert isinstance(outcomes["good"], Accepted)
    assert not isinstance(outcomes["bad"], Accepted)
    lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert [(line["endpoint"], line["accepted"]) for line in lines] == [("good", True), ("bad", False)]


@pytest.mark.parametrize(
    "options",
    [
        ["--scenario", "/nowhere.toml"],
        ["--endpoint", "x=nonsense"],
        ["--endpoint", "smtp"],
        ["--endpoint", "x=smtp:port"],
        ["--host", "192.0.2.1"],
    ],
)
def test_a_wrong_option_is_one_sentence(options: list[str], tmp_path: Path) -> None:
    with program([*SLUICE, "--log-dir", str(tmp_path), *options]) as simulator:
        out, err = simulator.communicate(timeout=20)

        assert simulator.returncode == 1
        assert err.startswith("sluice: ")
        assert "Traceback" not in out + err


# The mailbox


def a_mail(subject: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@example.com", "ana@example.org", subject
    mail.set_content("Grüße\n.\n")
    return mail


async def test_the_mailbox_keeps_mails_and_lists_the_newest_first(tmp_path: Path) -> None:
    listener = await listen_smtp(Mailbox(tmp_path / FOLDER), SmtpSettings(auth=False), "127.0.0.1", 0)
    try:
        async with open_transports() as transports:
            account = SmtpCredentials(host="127.0.0.1", port=listener.port, require_tls=False)
            for subject in ("Eins ä", "Zwei", "Drei"):
                mail = an_email(subject=subject, text="Grüße\n.\n", bcc=("eve@example.org",))
                assert isinstance(await call_provider(SMTP, outbound(mail), account, transports, deadline=10), Accepted)
    finally:
        await listener.close()

    mails = list(list_mails(tmp_path))
    newest = list(list_mails(tmp_path, 1))

    assert [mail.subject for mail in mails] == ["Drei", "Zwei", "Eins ä"]
    assert [mail.subject for mail in newest] == ["Drei"]
    assert mails[0].sender == "no-reply@example.com"
    assert mails[0].recipients == ("ana@example.org", "eve@example.org")
    assert mails[0].read().get_content().replace("\r\n", "\n") == "Grüße\n.\n"


def test_a_mailbox_that_was_never_started_is_empty(tmp_path: Path) -> None:
    assert list(list_mails(tmp_path)) == []


def test_the_mailbox_program_greets_takes_a_mail_and_stops(tmp_path: Path) -> None:
    module = [sys.executable, "-m", "sluice_simulator.mailbox"]
    with program(module, os.environ | {"SLUICE_DATA_DIR": str(tmp_path), "SLUICE_PORT": "0"}) as mailbox:
        assert mailbox.stdout is not None
        port = int(mailbox.stdout.readline().split("127.0.0.1:")[1].split(",")[0])
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            client.send_message(a_mail("Hallo"))
        mailbox.send_signal(signal.SIGTERM)
        assert mailbox.wait(timeout=20) == 0

    assert [mail.subject for mail in list_mails(tmp_path)] == ["Hallo"]
