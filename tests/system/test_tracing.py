"""A message is one trace: from its request over the bus and two providers to its receipt, in a real collector."""

import secrets

import pytest

from tests.collector import a_collector
from tests.examples import as_json
from tests.polling import wait_until
from tests.system.test_channels import ACCOUNTS, both_accounts, ended, request_of

PACKAGE = "provider-twilio"


@pytest.fixture
async def collector(testbed):
    async with a_collector(testbed.system.collector_port) as collector:
        yield collector


@pytest.fixture
def a_caller():
    """The trace, the span and the ``traceparent`` header of a caller that samples."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, f"00-{trace}-{span}-01"


async def spans_of(collector, trace, count):
    """The spans of a trace by name, once there are so many."""

    def look():
        return len([span for span in collector.spans if span.trace_id == trace]) >= count

    await wait_until(look, 30)
    found = {}
    for span in collector.spans:
        if span.trace_id == trace:
            found.setdefault(span.name, []).append(span)
    return found


async def test_a_failover_and_a_receipt_are_spans_of_the_callers_trace(testbed, proven, collector, a_caller):
    trace, parent, header = a_caller
    request = request_of(PACKAGE)
    async with both_accounts(testbed, PACKAGE):
        answer = await testbed.api.post(
            "/v1/messages/channel", headers={"x-sendpipe-key": testbed.key, "traceparent": header}, json=request
        )
        message_id = answer.json()["id"]
        await ended(testbed, message_id, ACCOUNTS[PACKAGE].ends)
        spans = await spans_of(collector, trace, 6)

    (accept,) = spans["accept"]
    routes, attempts, receipts = spans["route"], spans["attempt"], spans["receipt"]
    assert accept.parent_id == parent
    assert {span.attributes["sluice.message"] for several in spans.values() for span in several} == {message_id}
    first, second = sorted(routes, key=lambda span: span.attributes["sluice.attempt"])
    assert first.parent_id == accept.span_id
    assert second.parent_id == first.span_id
    assert [(one.attributes["sluice.outcome"], one.parent_id) for one in sorted(attempts, key=number_of)] == [
        ("auth_failed", first.span_id),
        ("accepted", second.span_id),
    ]
    assert {receipt.parent_id for receipt in receipts} == {accept.span_id}
    assert {receipt.attributes["sluice.attempt"] for receipt in receipts} == {2}
    assert {name: {one.resource["service.name"] for one in several} for name, several in spans.items()} == {
        "accept": {"sluice-gateway"},
        "route": {"sluice-router"},
        "attempt": {"sluice-sms-worker"},
        "receipt": {"sluice-gateway"},
    }
    assert not [text for text in private(request) if text.encode() in b"".join(collector.raw)]


def number_of(span):
    return span.attributes["sluice.attempt"]


def private(request):
    """The addresses and the content of a request."""
    texts = [request["from"], request["text"]]
    return [*texts, *(request["to"] if isinstance(request["to"], list) else [request["to"]])]


async def test_a_request_on_the_bus_continues_the_trace_of_its_producer(testbed, fake_provider, collector, a_caller):
    trace, parent, header = a_caller

    await testbed.publish(as_json({**request_of("provider-smtp"), "to": ["ada@example.com"]}), traceparent=header)
    spans = await spans_of(collector, trace, 3)

    ((accept,), (attempt,)) = spans["accept"], spans["attempt"]
    assert (accept.parent_id, accept.kind, accept.attributes["sluice.source"]) == (parent, "CONSUMER", "kafka")
    assert (attempt.attributes["sluice.package"], attempt.attributes["sluice.outcome"]) == ("provider-smtp", "accepted")


async def test_a_refused_request_is_a_failed_span_with_the_code_of_its_error(testbed, collector, a_caller):
    trace, _, header = a_caller

    answer = await testbed.api.post(
        "/v1/messages/channel",
        headers={"x-sendpipe-key": testbed.key, "traceparent": header},
        json={**request_of("provider-smtp"), "to": ["ada@example.com"], "preferred_provider": "of no project"},
    )
    spans = await spans_of(collector, trace, 1)

    (accept,) = spans["accept"]
    assert accept.failed
    assert accept.attributes["error.type"] == answer.json()["error"]["code"]


async def test_a_message_of_a_caller_without_a_trace_is_not_traced(testbed, fake_provider, collector):
    message = await testbed.settled(await testbed.send())

    rows = await testbed.db.fetch("SELECT traceparent FROM deliveries WHERE project_id = $1", testbed.project.id)
    assert message["status"] == "SENT"
    assert [row["traceparent"] for row in rows] == [None]
