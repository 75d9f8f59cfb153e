"""An outage raises exactly the alerts that the runbook lists: the rules on the metrics of a game day."""

import asyncio
import os
import shutil
import subprocess
import sys

import pytest

from sluice_launcher.local_stack import LocalStack
from sluice_launcher.plan import default_roles
from tests.alerts import check, expected_alerts

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("running_system"), pytest.mark.timeout(500)]

SECONDS = 45
STRETCH = 20  # the outage counts as one of a quarter of an hour
# Of how busy the machine is, and of seconds that count as minutes. `python -m tests.alerts` allows none of them.
OF_THE_MACHINE = {
    "SluiceNotReady",
    "SluiceRequestsFail",
    "SluiceAcceptSlow",
    "SluiceDeliverySlow",
    "SluiceDeliveriesLate",
    "SluiceConsumerLag",
    "SluiceConsumerLagUnknown",
    "SluicePoolExhausted",
}


async def test_an_outage_raises_exactly_the_alerts_of_the_runbook(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not in the PATH: `make chart` fetches it")
    record = tmp_path / "metrics.jsonl"
    with LocalStack(tmp_path / "data", roles=default_roles()) as stack:
        command = ("game-day", "outage", "--rate", "10", "--seconds", str(SECONDS), "--record-metrics", str(record))
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "sluice_cli.main", *command],
            env={**os.environ, **stack.environment, "SLUICE_API_URL": stack.addresses["gateway"]},
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode in (0, 1), done.stderr  # 1: a figure is over its bound, as on a busy machine
    expected = expected_alerts("outage")
    assert check(promtool, record, expected, stretch=STRETCH, but=OF_THE_MACHINE) == ""
    assert check(promtool, record, expected | {"SluiceDeadLetters"}, stretch=STRETCH, but=OF_THE_MACHINE) != ""
