"""Small forms of `make chaos`, `make crash-sweep` and `make campaigns`, which prove that nothing is lost."""

import json
import os
import signal
import subprocess
import sys

import pytest

from sluice_launcher import parent_death_signal
from tests.repository.files import ROOT

# One after the other: beside each other, whole systems under load measure the machine.
pytestmark = [pytest.mark.server, pytest.mark.xdist_group("verification")]

INHERITED = {"SLUICE_CACHE_DIR", "SLUICE_JAVA", "SLUICE_MAVEN_MIRROR"}

# One failpoint of each kind, on either channel: before and after a commit, a publication, a call, a settlement.
SOME_STEPS = (
    "accept.committed:1:email",
    "accept.published:2:sms",
    "ingress.accepted:1:email",
    "cancel.written:1:sms",
    "route.published:1:sms",
    "recovery.dequeued:1:email",
    "claim.written:1:sms",
    "call.answered:1:email",
    "settle.written:2:sms",
    "outbox.published:1:email",
)
SOME_CAMPAIGNS = ("idempotency", "cancel", "poison", "rolling", "backlog", "providers", "expiry", "failing")


def run_chaos(tmp_path, *arguments):
    """The figures of a run in a process of its own; its output is shown when it fails."""
    finished = subprocess.run(
        [
            *parent_death_signal.prefix(signal.SIGKILL),
            sys.executable,
            "-m",
            "tests.chaos",
            *arguments,
            "--no-report",
            "--folder",
            tmp_path,
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name in INHERITED or not name.startswith("SLUICE_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = finished.stdout.splitlines()
    assert finished.returncode == 0, "\n".join(lines[-40:])
    return json.loads(lines[-1])


# How quickly deliveries recover is measured by `make chaos`, on a machine that does nothing else.
UNHURRIED = ("--recovered-within", "120")


@pytest.mark.timeout(900)
def test_nothing_is_lost_and_no_duplicate_is_unrecorded(tmp_path):
    figures = run_chaos(tmp_path, "chaos", "--messages", "1500", "--kills", "30", "--seed", "7", *UNHURRIED)

    assert figures["kills"] == 30
    assert figures["lost"] == 0
    assert figures["terminal"] == figures["messages"] > 1000
    assert (figures["duplicates_once"], figures["duplicates_idempotent"]) == (0, 0)


@pytest.mark.timeout(900)
def test_a_kill_at_a_failpoint_loses_nothing(tmp_path):
    figures = run_chaos(tmp_path, "sweep", "--steps", *SOME_STEPS)

    assert figures["passed"] == figures["steps"] == len(SOME_STEPS)


@pytest.mark.timeout(900)
def test_each_campaign_loses_nothing(tmp_path):
    figures = run_chaos(tmp_path, "campaigns", *SOME_CAMPAIGNS, "--small")

    assert set(figures["campaigns"]) == set(SOME_CAMPAIGNS)
    assert figures["verify"]["violations"] == 0
