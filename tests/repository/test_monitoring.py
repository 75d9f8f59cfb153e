"""Alerts, boards and runbook name metrics and labels that the code has, and each other."""

import re
import shutil
import subprocess

import pytest
import yaml
from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from sluice.runtime import metrics
from tests.repository import boards
from tests.repository.files import ROOT

RULES = ROOT / "deploy/prometheus/sluice.rules.yml"
RULE_TESTS = ROOT / "deploy/prometheus/sluice.rules.test.yml"
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
EXPRESSIONS = {f"alert {name}": rule["expr"] for name, rule in ALERTS.items()} | {
    f"{board.name}: {panel.title}: {legend}": query
    for board in boards.BOARDS
    for panel in board.panels
    for legend, query in panel.queries.items()
}
FROM_PROMETHEUS = {"instance", "le"}


def series() -> dict[str, set[str]]:
    """By the name of each series that the code can have, its labels."""
    found: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            [described] = metric.describe()
            suffixes = ("_bucket", "_count", "_sum") if isinstance(metric, Histogram) else ("",)
            total = "_total" if described.type == "counter" else ""
            found |= {f"{described.name}{total}{suffix}": set(metric._labelnames) for suffix in suffixes}
    return found


SERIES = series()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_names_series_and_labels_of_the_code(name):
    text = EXPRESSIONS[name]
    used = set(re.findall(r"\bsluice_\w+", text))
    labels = {word.strip() for listed in re.findall(r"\b(?:by|on) \(([^)]*)\)", text) for word in listed.split(",")}
    matched = {
        (metric, label)
        for metric, where in re.findall(r"\b(sluice_\w+)\{([^}]*)\}", text)
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", where)
    }

    assert used
    assert used - set(SERIES) == set()
    assert labels - {""} - FROM_PROMETHEUS - set.union(*(SERIES[each] for each in used)) == set()
    assert {(metric, label) for metric, label in matched if label not in SERIES[metric]} == set()


@pytest.mark.parametrize("board", boards.BOARDS, ids=lambda board: board.name)
def test_a_boards_legends_and_variables_are_labels_of_its_metrics(board):
    for panel in board.panels:
        for legend, query in panel.queries.items():
            known = FROM_PROMETHEUS.union(*(SERIES[each] for each in re.findall(r"\bsluice_\w+", query)))
            assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= known, panel.title
    for name, metric in board.variables.items():
        assert name in SERIES[metric]
    used = set(re.findall(r"\$(\w+)", str(board.panels))) - {"__rate_interval"}
    assert used == set(board.variables)


@pytest.mark.parametrize("board", boards.BOARDS, ids=lambda board: board.name)
def test_a_board_is_written_as_it_is_described(board):
    """python -m tests.repository.boards"""
    assert (boards.FOLDER / f"{board.name}.json").read_text() == boards.to_json(board)


def test_there_is_no_other_board():
    assert {file.stem for file in boards.FOLDER.glob("*.json")} == {board.name for board in boards.BOARDS}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_severity_and_a_section_in_the_runbook(name):
    rule = ALERTS[name]

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    section = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert [part for part in ("**Means** ", "**Look at** ", "**Do** ") if part not in section[1]] == []


def test_the_runbook_has_no_other_section():
    assert set(re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)) == set(ALERTS)


def test_every_alert_has_a_rule_test_in_which_it_fires_and_one_in_which_it_does_not():
    fires: dict[str, set[bool]] = {}
    for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            fires.setdefault(case["alertname"], set()).add(bool(case.get("exp_alerts")))

    assert fires == {name: {True, False} for name in ALERTS}


def test_promtool_accepts_the_rules_and_their_tests():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: `make chart` fetches it")

    for words in (["check", "rules", RULES], ["test", "rules", RULE_TESTS]):
        done = subprocess.run([promtool, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
