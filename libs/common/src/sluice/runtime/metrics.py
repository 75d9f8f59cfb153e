"""All metrics. Durations are seconds; no identifier is a label, so that the number of series stays small."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram

_ACCEPT_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_DELIVERY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
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
RATE_LIMITED = Counter("sluice_rate_limited_requests_total", "Requests over a limit", ["limit"])
RATE_LIMITS_LOCAL = Gauge(
    "sluice_rate_limits_local", "1 while limits are not shared between gateways, because Redis does not answer"
)
CALL_RATES_LOCAL = Gauge(
    "sluice_call_rates_local", "1 while workers share no call rates of providers, because Redis does not answer"
)
EVENT_STREAMS = Gauge("sluice_event_streams", "Open streams of server-sent events")
AWAITED_MESSAGES = Gauge("sluice_awaited_messages", "Messages for which a send request of this gateway waits")
SETTLED_NOTICES_LOST = Gauge(
    "sluice_settled_notices_lost",
    "1 while this gateway looks up what its callers wait for, because Redis does not answer",
)
BULK_ROWS = Counter("sluice_bulk_rows_total", "Rows of bulk jobs that were processed", ["result"])
DISPATCH_QUEUE_SIZE = Gauge(
    "sluice_dispatch_queue_size",
    "Deliveries on the bus without a claim, as a gateway sees them",
    ["channel"],
)
DISPATCH_QUEUE_LIMIT = Gauge("sluice_dispatch_queue_limit", "Deliveries of one channel that may be on the bus")
ROUTING_DECISIONS = Counter("sluice_routing_decisions_total", "Routing decisions", ["channel", "decision"])
DELIVERY_ATTEMPTS = Counter("sluice_delivery_attempts_total", "Attempts by outcome", ["package", "outcome"])
DELIVERY_TRANSITIONS = Counter(
    "sluice_delivery_transitions_total", "Events of deliveries that a worker or router wrote", ["channel", "type"]
)
DELIVERY_DURATION = Histogram(
    "sluice_delivery_duration_seconds",
    "From the dispatch queue to the acceptance by a provider, of deliveries that were sent",
    ["channel"],
    buckets=_DELIVERY_BUCKETS,
)
PROVIDER_REQUEST_DURATION = Histogram(
    "sluice_provider_request_duration_seconds", "Duration of provider calls", ["package"], buckets=_CALL_BUCKETS
)
RECEIPTS = Counter("sluice_receipts_total", "Receipts by result (known, ignored or forged)", ["package", "result"])
UNREADABLE_CREDENTIALS = Counter(
    "sluice_unreadable_credentials_total", "Uses of a provider whose stored credentials cannot be read", ["package"]
)
SILENT_PROVIDERS = Gauge(
    "sluice_silent_providers",
    "Providers that sent receipts and send none any more, although they accept messages",
    ["package"],
)
EVENTS_CONSUMED = Counter("sluice_events_consumed_total", "Events that the event-worker consumed, by type", ["type"])
SUPPRESSIONS_ADDED = Counter(
    "sluice_suppressions_added_total", "Addresses suppressed because of an event, by channel", ["channel"]
)
WEBHOOK_ATTEMPTS = Counter("sluice_webhook_attempts_total", "Requests to webhook endpoints, by result", ["result"])
WEBHOOK_REQUEST_DURATION = Histogram(
    "sluice_webhook_request_duration_seconds", "Duration of requests to webhook endpoints", buckets=_CALL_BUCKETS
)
WEBHOOK_OLDEST_DUE_AGE = Gauge(
    "sluice_webhook_oldest_due_age_seconds", "Time for which the oldest due webhook waits to be sent"
)
WEBHOOKS_DISABLED = Counter("sluice_webhooks_disabled_total", "Endpoints that Sluice disabled, by reason", ["reason"])
DEAD_LETTERED_RECORDS = Counter(
    "sluice_dead_lettered_records_total", "Records published on dead.letters because they are unreadable", ["topic"]
)
REQUEUED_DELIVERIES = Counter(
    "sluice_requeued_deliveries_total",
    "Deliveries whose record or worker was lost, that the recovery loop took up",
    ["reason"],
)
OLDEST_DUE_AGE = Gauge("sluice_oldest_due_age_seconds", "Age of the oldest due time outside the dispatch queue")
BACKLOG_SIZE = Gauge(
    "sluice_backlog_size",
    "Deliveries that are due and not enqueued; of all channels up to 50,000",
    ["channel"],
)
OUTBOX_OLDEST_AGE = Gauge("sluice_outbox_oldest_age_seconds", "Age of the oldest unacknowledged outbox row")
BULKHEAD_SLOTS = Gauge("sluice_bulkhead_slots", "Calls that this worker may have in flight", ["package"])
BULKHEAD_SLOTS_USED = Gauge("sluice_bulkhead_slots_used", "Calls that this worker has in flight", ["package"])
BULKHEAD_WAITING = Gauge("sluice_bulkhead_waiting", "Deliveries that wait in this worker for a slot", ["package"])
SATURATED_PROVIDERS = Gauge("sluice_saturated_providers", "Providers of this worker without a free slot")
PROVIDERS = Gauge("sluice_providers", "Providers by status", ["channel", "status"])
HEALTH_LEADER = Gauge("sluice_health_leader", "1 in the health process that evaluates the providers, 0 in the others")
OPEN_INCIDENTS = Gauge(
    "sluice_open_incidents",
    "Incidents that are open, by channel and by whether the channel has a provider left (degraded) or none (down)",
    ["channel", "state"],
)
INCIDENTS = Counter("sluice_incidents_total", "Incidents that were opened and resolved", ["channel", "event"])
CLOCK_SKEW = Gauge("sluice_clock_skew_seconds", "How far this machine's clock is ahead of PostgreSQL's")
LOG_LINES_DROPPED = Counter("sluice_log_lines_dropped_total", "Log lines that could not be written")
BUS_DISAGREEMENTS = Counter(
    "sluice_bus_disagreements_total", "Records that were refused because the row of their delivery differs", ["field"]
)
IN_FLIGHT = Gauge("sluice_in_flight", "Records consumed and not acknowledged")
CONSUMER_LAG = Gauge(
    "sluice_consumer_lag_records",
    "Records that the group has not committed, from every router",
    ["topic", "group"],
)
CONSUMER_LAG_AGE = Gauge(
    "sluice_consumer_lag_seconds", "Age of the oldest record that the group has not committed", ["topic", "group"]
)
ASSIGNED_PARTITIONS = Gauge("sluice_consumer_assigned_partitions", "Partitions that this process consumes", ["topic"])
RECORDS_CONSUMED = Counter("sluice_records_consumed_total", "Records read from the bus", ["topic"])
RECORDS_PUBLISHED = Counter(
    "sluice_records_published_total", "Records by the broker's answer (acknowledged or failed)", ["topic", "result"]
)
POOL_CONNECTIONS = Gauge("sluice_postgres_connections", "Connections of the pool (used or idle)", ["state"])
POOL_LIMIT = Gauge("sluice_postgres_connections_limit", "Connections that the pool may have")
READY = Gauge("sluice_ready", "1 while the check of readiness passes", ["check"])
BUILD_INFO = Gauge("sluice_build_info", "Version and role of this process; always 1", ["version", "role"])

M = TypeVar("M", Counter, Gauge, Histogram)


@lru_cache(maxsize=4096)
def series(metric: M, *labels: str) -> M:
    """The series of ``metric`` with these label values, cached: the library's look-up costs more than counting."""
    return metric.labels(*labels)
