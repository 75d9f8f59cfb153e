"""Metrics: every one is set somewhere, and none is declared outside sluice/runtime/metrics.py."""

import re

from prometheus_client.metrics import MetricWrapperBase

from sluice.runtime import metrics
from tests.repository.files import ROOT

SOURCES = {
    path: path.read_text("utf-8")
    for folder in ("libs/common/src", "services")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
DECLARATIONS = ROOT / "libs/common/src/sluice/runtime/metrics.py"
NAMES = [name for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase)]


def test_every_metric_is_set_somewhere():
    elsewhere = "".join(text for path, text in SOURCES.items() if path != DECLARATIONS)

    assert [name for name in NAMES if not re.search(rf"\bmetrics\.{name}\b", elsewhere)] == []


def test_metrics_are_declared_in_one_module():
    assert len(NAMES) > 10
    importing = {path.name for path, text in SOURCES.items() if "from prometheus_client import" in text}

    assert importing == {"metrics.py", "http_server.py"}  # the second writes the /metrics page


def test_every_metric_has_the_prefix_and_an_explanation():
    described = [metric for name in NAMES for metric in getattr(metrics, name).describe()]

    assert [metric for metric in described if not (metric.name.startswith("sluice_") and metric.documentation)] == []
