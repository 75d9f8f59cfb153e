"""The alert rules on a record of metrics, as `sluice game-day --record-metrics` makes one."""

import json
import shutil

import pytest

from tests.alerts import check, expected_alerts, read

ROLES = ("gateway", "router", "email-worker", "sms-worker", "push-worker", "event-worker", "health")


@pytest.fixture
def record(tmp_path):
    """Seven processes for ten minutes; an incident is open in the second half."""
    file = tmp_path / "metrics.jsonl"
    with file.open("w") as lines:
        for index in range(300):
            for role in ROLES:
                series = [f'sluice_build_info{{role="{role}",version="1"}} 1.0', "sluice_unused_total 7.0"]
                series.append(f"sluice_health_leader {float(role == 'health')}")
                if role == "event-worker":
                    series.append(f'sluice_open_incidents{{channel="email",state="degraded"}} {float(index >= 150)}')
                if role == "router":
                    series.append("sluice_consumer_lag_records 0.0")
                scrape = {"at": 1000 + 2 * index + 0.3, "instance": role, "metrics": "\n".join(series)}
                lines.write(json.dumps(scrape) + "\n")
    return file


def test_the_series_of_the_rules_are_read_by_interval(record):
    found = read(record)

    key = ("sluice_open_incidents", "channel", "email", "instance", "event-worker", "state", "degraded")
    assert (found[key][149], found[key][150], len(found[key])) == (0.0, 1.0, 300)
    assert not [key for key in found if key[0] == "sluice_unused_total"]


def test_the_runbook_lists_what_an_outage_raises():
    assert expected_alerts("outage") == {"SluiceIncidentOpen", "SluiceProviderUnhealthy"}
    with pytest.raises(SystemExit, match="no row for this fault"):
        expected_alerts("flood")


def test_promtool_finds_exactly_the_alerts_that_fired(record):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: `make chart` fetches it")

    assert check(promtool, record, {"SluiceIncidentOpen"}, stretch=2) == ""
    assert "SluiceIncidentOpen" in check(promtool, record, set(), stretch=2)
    assert "SluiceDeadLetters" in check(promtool, record, {"SluiceIncidentOpen", "SluiceDeadLetters"}, stretch=2)
    assert check(promtool, record, set(), stretch=2, but={"SluiceIncidentOpen"}) == ""
