"""Tracing without the bus: what is sampled, what reaches a collector, and that nothing is loaded when it is off."""

import subprocess
import sys
from contextlib import asynccontextmanager

import pytest

from sluice.bus.messages import DeliveryTask
from sluice.runtime import tracing
from sluice.runtime.errors import SluiceError
from sluice.runtime.settings import Settings
from sluice.runtime.version import program_version
from tests.collector import a_collector
from tests.examples import a_task

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
NO_CONTEXT = [
    "",
    "junk",
    SAMPLED.upper(),
    f"01{SAMPLED[2:]}",
    f"{SAMPLED}-x",
    f"00-{'0' * 32}-{PARENT}-01",
    f"00-{TRACE}-{'0' * 16}-01",
]


def settings(endpoint, ratio=1.0):
    return Settings(
        postgres_dsn="postgresql://host/name",
        kafka_bootstrap_servers="host:9092",
        tracing_endpoint=endpoint,
        tracing_sample_ratio=ratio,
    )


@pytest.fixture
async def collector():
    async with a_collector() as collector:
        yield collector


@pytest.fixture
def tracing_to(collector):
    """Traces to the collector; everything has arrived when the block ends."""

    @asynccontextmanager
    async def running(ratio=1.0):
        async with tracing.running(settings(collector.endpoint, ratio), "router"):
            yield

    return running


@pytest.fixture
def called_with():
    """Sets the header of the request in hand."""
    token = tracing.caller.set(None)
    yield tracing.caller.set
    tracing.caller.reset(token)


async def test_a_child_has_the_trace_and_the_span_of_its_parent(tracing_to, collector):
    async with tracing_to():
        with tracing.begin("accept", source="http") as first:
            first.set(message="msg_1", nothing=None)
        with tracing.child("attempt", first.traceparent, calls=True) as second:
            pass

    accept, attempt = collector.spans
    assert first.traceparent == f"00-{accept.trace_id}-{accept.span_id}-01"
    assert second.traceparent == f"00-{attempt.trace_id}-{attempt.span_id}-01"
    assert (accept.name, accept.kind, accept.parent_id) == ("accept", "SERVER", "")
    assert accept.attributes == {"sluice.source": "http", "sluice.message": "msg_1"}
    assert (attempt.trace_id, attempt.parent_id, attempt.kind) == (accept.trace_id, accept.span_id, "CLIENT")


async def test_the_resource_names_the_process(tracing_to, collector):
    async with tracing_to():
        with tracing.begin("accept", source="kafka"):
            pass

    (span,) = collector.spans
    assert span.kind == "CONSUMER"
    assert span.resource["service.name"] == "sluice-router"
    assert span.resource["service.version"] == program_version()
    assert span.resource["service.instance.id"].rpartition(":")[2].isdigit()


async def test_a_callers_sampled_span_is_the_parent_whatever_the_ratio(tracing_to, collector, called_with):
    called_with(SAMPLED)
    async with tracing_to(ratio=0.0):
        with tracing.begin("accept", source="http"):
            pass

    assert [(span.trace_id, span.parent_id) for span in collector.spans] == [(TRACE, PARENT)]


async def test_a_caller_that_does_not_sample_is_not_traced_whatever_the_ratio(tracing_to, collector, called_with):
    called_with(NOT_SAMPLED)
    async with tracing_to(ratio=1.0):
        with tracing.begin("accept", source="http") as span, tracing.child("route", NOT_SAMPLED) as below:
            pass

    assert (collector.spans, span.traceparent, below.traceparent) == ([], None, None)


@pytest.mark.parametrize("text", NO_CONTEXT)
async def test_a_header_that_is_no_context_is_ignored(tracing_to, collector, called_with, text):
    called_with(text)
    async with tracing_to():
        with tracing.begin("accept", source="http"), tracing.child("route", text):
            pass

    (span,) = collector.spans
    assert (span.name, span.parent_id) == ("accept", "")
    assert span.trace_id != TRACE


async def test_the_ratio_decides_where_no_caller_does(tracing_to, collector):
    async with tracing_to(ratio=0.0):
        spans = [tracing.begin("accept", source="http") for _ in range(100)]

    assert {span.traceparent for span in spans} == {None}
    assert collector.spans == []


class CodedError(Exception):
    code = "quota_exceeded"


@pytest.mark.parametrize(
    ("error", "word"), [(ValueError("to ada@example.com"), "ValueError"), (CodedError("ada"), "quota_exceeded")]
)
async def test_an_error_is_named_by_its_code_or_class_and_never_by_its_text(tracing_to, collector, error, word):
    async with tracing_to():
        with pytest.raises(type(error)), tracing.begin("accept", source="http"):
            raise error

    (span,) = collector.spans
    assert (span.failed, span.attributes["error.type"]) == (True, word)
    assert b"ada" not in b"".join(collector.raw)


async def test_a_collector_that_is_away_delays_nothing_but_the_end(called_with):
    async with a_collector() as gone:
        endpoint = gone.endpoint
    async with tracing.running(settings(endpoint), "router"):
        with tracing.begin("accept", source="http") as span:
            pass

    assert span.traceparent is not None
    assert not tracing.active()


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector/v1/traces", "http://", "http:///v1/traces"])
async def test_an_endpoint_that_is_no_address_is_an_error(endpoint):
    with pytest.raises(SluiceError, match="SLUICE_TRACING_ENDPOINT"):
        async with tracing.running(settings(endpoint), "router"):
            pass


async def test_without_an_endpoint_there_are_no_spans():
    async with tracing.running(settings(None), "router"):
        assert not tracing.active()
        assert tracing.begin("accept", source="http") is tracing.NO_SPAN
        assert tracing.child("route", SAMPLED) is tracing.NO_SPAN


def test_without_an_endpoint_neither_spans_nor_the_exporter_are_loaded():
    loaded = "[name for name in sys.modules if name.startswith(('opentelemetry.sdk.trace', 'opentelemetry.exporter'))]"
    program = f"import sys, router.app, email_worker.app; print({loaded})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("schema-version", b"2"), ("traceparent", SAMPLED.encode())], SAMPLED),
        ([("schema-version", b"2")], None),
        ([("traceparent", None)], None),
        ([("traceparent", b"\xff")], None),
        ([("traceparent", SAMPLED.encode()), ("traceparent", NOT_SAMPLED.encode())], None),
    ],
)
def test_a_record_has_at_most_one_context(headers, found):
    assert tracing.parent_in(headers) == found
    assert a_task().below(headers).traceparent == found


def test_the_context_of_a_task_is_in_the_headers_and_not_in_the_value():
    task = a_task().below([("traceparent", SAMPLED.encode())])

    assert task.headers() == {"traceparent": SAMPLED}
    assert DeliveryTask.model_validate_json(task.encode()).traceparent is None
    assert a_task().headers() is None
