"""All metrics. Durations are seconds; no identifier is a label, so that the number of series stays small."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram

_ACCEPT_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_CALL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

MESSAGES_ACCEPTED = Counter("sluice_messages_accepted_total", "Messages recorded", ["channel", "source"])
REQUESTS_REJECTED = Counter(
    "sluice_requests_rejected_total", "Requests refused, by the error's code", ["code", "source"]
)
ACCEPT_DURATION = Histogram(
    "sluice_accept_duration_seconds",
    "From a send command to its commit, of accepted requests",
    ["source"],
    buckets=_ACCEPT_BUCKETS,
)
ADMISSION_LIMIT = Gauge("sluice_admission_limit", "Concurrent send requests that this gateway admits")
ADMISSION_REJECTIONS = Counter(
    "sluice_admission_rejections_total", "Send requests that admission control refused", ["reason"]
)
BACKLOGGED_PROJECTS = Gauge(
    "sluice_backlogged_projects", "Projects above their dispatch quota: their deliveries enter the backlog"
)
HTTP_REQUESTS_REFUSED = Counter(
    "sluice_http_requests_refused_total", "Requests that broke HTTP or a limit of the server", ["status"]
)
HTTP_CONNECTIONS_DROPPED = Counter(
    "sluice_http_connections_dropped_total", "Connections closed because they were too many, or waited for too long"
)
ROUTING_DECISIONS = Counter("sluice_routing_decisions_total", "Routing decisions", ["channel", "decision"])
DELIVERY_ATTEMPTS = Counter("sluice_delivery_attempts_total", "Attempts by outcome", ["package", "outcome"])
PROVIDER_REQUEST_DURATION = Histogram(
    "sluice_provider_request_duration_seconds", "Duration of provider calls", ["package"], buckets=_CALL_BUCKETS
)
RECEIPTS = Counter("sluice_receipts_total", "Receipts by result (known, ignored or forged)", ["package", "result"])
EVENTS_CONSUMED = Counter("sluice_events_consumed_total", "Events that the event-worker consumed, by type", ["type"])
DEAD_LETTERED_RECORDS = Counter(
    "sluice_dead_lettered_records_total", "Records published on dead.letters because they are unreadable", ["topic"]
)
REQUEUED_DELIVERIES = Counter(
    "sluice_requeued_deliveries_total", "Deliveries that the recovery loop enqueued", ["reason"]
)
OLDEST_DUE_AGE = Gauge("sluice_oldest_due_age_seconds", "Age of the oldest due time outside the dispatch queue")
BACKLOG_SIZE = Gauge("sluice_backlog_size", "Deliveries that are due and not enqueued, counted up to 50,000")
OUTBOX_OLDEST_AGE = Gauge("sluice_outbox_oldest_age_seconds", "Age of the oldest unacknowledged outbox row")
SATURATED_PROVIDERS = Gauge("sluice_saturated_providers", "Providers of this worker without a free slot")
PROVIDERS = Gauge("sluice_providers", "Providers by status", ["channel", "status"])
CLOCK_SKEW = Gauge("sluice_clock_skew_seconds", "How far this machine's clock is ahead of PostgreSQL's")
LOG_LINES_DROPPED = Counter("sluice_log_lines_dropped_total", "Log lines that could not be written")
BUS_DISAGREEMENTS = Counter(
    "sluice_bus_disagreements_total", "Records that were refused because the row of their delivery differs", ["field"]
)
IN_FLIGHT = Gauge("sluice_in_flight", "Records consumed and not acknowledged")

M = TypeVar("M", Counter, Gauge, Histogram)


@lru_cache(maxsize=4096)
def series(metric: M, *labels: str) -> M:
    """The series of ``metric`` with these label values, cached: the library's look-up costs more than counting."""
    return metric.labels(*labels)
