"""Writes deploy/grafana/*.json, the boards of Grafana: `python -m tests.repository.boards`; a test compares them.

A panel is a title, a unit of Grafana and queries by legend. Rates are over Grafana's own interval.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "deploy/grafana"
_WIDTH, _HEIGHT, _COLUMNS = 8, 7, 3
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph; a query without a legend shows its labels."""

    title: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    text: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """One board. ``variables``: by name, the metric whose label of that name has its values."""

    name: str
    title: str
    panels: Sequence[Panel]
    variables: dict[str, str]


def _rate(metric: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


def _quantile(q: float, metric: str, by: str = "", where: str = "") -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{{where}}}[$__rate_interval])))"


def _quantiles(metric: str, where: str = "") -> dict[str, str]:
    return {f"p{round(q * 100)}": _quantile(q, metric, where=where) for q in (0.5, 0.95, 0.99)}


OVERVIEW = Board(
    "overview",
    "Sluice: overview",
    [
        Panel("Processes", "short", {"{{role}} {{version}}": "count by (role, version) (sluice_build_info)"}, "stat"),
        Panel("Checks that fail", "short", {"{{check}}": "sum by (check) (1 - sluice_ready)"}, "stat"),
        Panel(
            "Oldest due delivery", "s", {"age": "max(sluice_oldest_due_age_seconds)"}, "stat", "Late above a minute."
        ),
        Panel("Accepted", "reqps", {"{{channel}}": _rate("sluice_messages_accepted_total", "channel")}),
        Panel("Refused, by code", "reqps", {"{{code}}": _rate("sluice_requests_rejected_total", "code")}),
        Panel("Time to accept", "s", _quantiles("sluice_accept_duration_seconds")),
        Panel(
            "Deliveries, by what became of them",
            "ops",
            {"{{type}}": _rate("sluice_delivery_transitions_total", "type")},
        ),
        Panel("Time to deliver", "s", _quantiles("sluice_delivery_duration_seconds")),
        Panel("Backlog", "short", {"{{channel}}": "max by (channel) (sluice_backlog_size)"}),
        Panel("Providers by status", "short", {"{{status}}": "sum by (status) (sluice_providers)"}),
        Panel("Consumer lag", "s", {"{{group}} {{topic}}": "max by (topic, group) (sluice_consumer_lag_seconds) > 0"}),
        Panel(
            "Refused by admission control",
            "reqps",
            {
                "{{reason}}": _rate("sluice_admission_rejections_total", "reason"),
                "malformed {{status}}": _rate("sluice_http_requests_refused_total", "status"),
            },
        ),
    ],
    {},
)

CHANNEL = Board(
    "channel",
    "Sluice: channel",
    [
        Panel(
            "Accepted", "reqps", {"{{source}}": _rate("sluice_messages_accepted_total", "source", 'channel="$channel"')}
        ),
        Panel("Backlog", "short", {"due": 'max(sluice_backlog_size{channel="$channel"})'}),
        Panel(
            "Dispatch queue",
            "short",
            {
                "size": 'max(sluice_dispatch_queue_size{channel="$channel"})',
                "limit": "max(sluice_dispatch_queue_limit)",
            },
        ),
        Panel(
            "Deliveries, by what became of them",
            "ops",
            {"{{type}}": _rate("sluice_delivery_transitions_total", "type", 'channel="$channel"')},
        ),
        Panel("Time to deliver", "s", _quantiles("sluice_delivery_duration_seconds", 'channel="$channel"')),
        Panel(
            "Routing decisions",
            "ops",
            {"{{decision}}": _rate("sluice_routing_decisions_total", "decision", 'channel="$channel"')},
        ),
        Panel(
            "Lag", "short", {"{{group}}": 'max by (group) (sluice_consumer_lag_records{topic="deliveries.$channel"})'}
        ),
        Panel(
            "Partitions, by worker",
            "short",
            {"{{instance}}": 'sluice_consumer_assigned_partitions{topic="deliveries.$channel"} > 0'},
        ),
        Panel("Providers by status", "short", {"{{status}}": 'sum by (status) (sluice_providers{channel="$channel"})'}),
    ],
    {"channel": "sluice_backlog_size"},
)

PROVIDER = Board(
    "provider",
    "Sluice: provider",
    [
        Panel(
            "Attempts by outcome",
            "ops",
            {"{{outcome}}": _rate("sluice_delivery_attempts_total", "outcome", 'package="$package"')},
        ),
        Panel("Duration of calls", "s", _quantiles("sluice_provider_request_duration_seconds", 'package="$package"')),
        Panel("Receipts", "ops", {"{{result}}": _rate("sluice_receipts_total", "result", 'package="$package"')}),
        Panel(
            "Slots",
            "short",
            {
                "used": 'sum(sluice_bulkhead_slots_used{package="$package"})',
                "all": 'sum(sluice_bulkhead_slots{package="$package"})',
            },
        ),
        Panel(
            "Deliveries that wait for a slot", "short", {"{{instance}}": 'sluice_bulkhead_waiting{package="$package"}'}
        ),
        Panel("Saturated providers, all packages", "short", {"{{instance}}": "sluice_saturated_providers"}),
    ],
    {"package": "sluice_delivery_attempts_total"},
)

BUS = Board(
    "bus",
    "Sluice: bus",
    [
        Panel(
            "Lag in records", "short", {"{{group}} {{topic}}": "max by (topic, group) (sluice_consumer_lag_records)"}
        ),
        Panel("Lag in time", "s", {"{{group}} {{topic}}": "max by (topic, group) (sluice_consumer_lag_seconds)"}),
        Panel("In flight", "short", {"{{instance}}": "sluice_in_flight"}),
        Panel(
            "Published", "wps", {"{{topic}}": _rate("sluice_records_published_total", "topic", 'result="acknowledged"')}
        ),
        Panel(
            "Not taken by the broker",
            "wps",
            {"{{topic}}": _rate("sluice_records_published_total", "topic", 'result="failed"')},
        ),
        Panel("Consumed", "rps", {"{{topic}}": _rate("sluice_records_consumed_total", "topic")}),
        Panel("Events consumed by event-worker", "rps", {"{{type}}": _rate("sluice_events_consumed_total", "type")}),
        Panel("Partitions, by process", "short", {"{{instance}} {{topic}}": "sluice_consumer_assigned_partitions"}),
        Panel("Oldest event in the outbox", "s", {"age": "max(sluice_outbox_oldest_age_seconds)"}),
        Panel(
            "Dead letters", "short", {"{{topic}}": "sum by (topic) (increase(sluice_dead_lettered_records_total[1h]))"}
        ),
        Panel(
            "Records that differ from their row",
            "short",
            {"{{field}}": "sum by (field) (increase(sluice_bus_disagreements_total[1h]))"},
        ),
        Panel("Requeued", "ops", {"{{reason}}": _rate("sluice_requeued_deliveries_total", "reason")}),
    ],
    {},
)

DATABASE = Board(
    "database",
    "Sluice: database",
    [
        Panel(
            "Connections in use",
            "short",
            {"{{instance}}": 'sluice_postgres_connections{state="used"}'},
        ),
        Panel(
            "Pool: used of what it may have",
            "percentunit",
            {
                "{{instance}}": 'sluice_postgres_connections{state="used"}'
                " / on (instance) sluice_postgres_connections_limit"
            },
        ),
        Panel("PostgreSQL answers", "short", {"{{instance}}": 'sluice_ready{check="postgres"}'}),
        Panel("Time to accept: a commit is most of it", "s", _quantiles("sluice_accept_duration_seconds")),
        Panel("Oldest due delivery", "s", {"age": "max(sluice_oldest_due_age_seconds)"}),
        Panel("Projects in the backlog", "short", {"{{instance}}": "sluice_backlogged_projects"}),
        Panel("Limit of admission control", "short", {"{{instance}}": "sluice_admission_limit"}),
        Panel("Clock against PostgreSQL's", "s", {"{{instance}}": "sluice_clock_skew_seconds"}),
        Panel(
            "Log lines and connections lost",
            "ops",
            {
                "lines": "sum(rate(sluice_log_lines_dropped_total[$__rate_interval]))",
                "connections": "sum(rate(sluice_http_connections_dropped_total[$__rate_interval]))",
            },
        ),
    ],
    {},
)

BOARDS = (OVERVIEW, CHANNEL, PROVIDER, BUS, DATABASE)


def to_json(board: Board) -> str:
    """The board as Grafana imports it."""
    links = [{"type": "dashboards", "tags": ["sluice"], "asDropdown": True, "title": "Sluice", "includeVars": True}]
    content = {
        "uid": f"sluice-{board.name}",
        "title": board.title,
        "tags": ["sluice"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "utc",
        "links": [link | {"icon": "external link", "targetBlank": False, "keepTime": True} for link in links],
        "templating": {"list": [_data_source(), *(_variable(*each) for each in board.variables.items())]},
        "annotations": {"list": []},
        "panels": [_panel(number, panel) for number, panel in enumerate(board.panels)],
    }
    return json.dumps(content, indent=2) + "\n"


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(name: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric}, {name})"
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "values"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    targets = [
        {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
        for at, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": _OPTIONS[panel.kind],
    }


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"},
}


def write() -> None:
    """Write the files, and delete those of boards that are gone."""
    FOLDER.mkdir(exist_ok=True)
    for file in FOLDER.glob("*.json"):
        file.unlink()
    for board in BOARDS:
        (FOLDER / f"{board.name}.json").write_text(to_json(board), "utf-8")


if __name__ == "__main__":
    write()
