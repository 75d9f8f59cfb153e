"""The client against answers of our choosing: what it sends, what it repeats, which errors it raises."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sluice.client import (
    ApiError,
    AsyncSluice,
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitedError,
    Retries,
    Sluice,
    UnavailableError,
)

QUICK = Retries(first_pause=0.0, longest_pause=0.0)
ACCEPTED = {
    "id": "msg_1",
    "project_id": "proj_1",
    "status": "queued",
    "channel": "sms",
    "created_at": "2026-11-28T00:00:00Z",
}
SMS: dict[str, Any] = {"channel": "sms", "from_": "ACME", "to": ["+15557654321"], "text": "Hello"}


def refusal(status: int, code: str = "WORD", field: str | None = None, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": "words", "field": field}}, headers=headers)


@dataclass
class Gateway:
    """Answers in order, the last one for ever; keeps the requests."""

    answers: list[Callable[[], httpx.Response] | httpx.Response]
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return (
            answer()
            if callable(answer)
            else httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)
        )


def fails(error: type[httpx.TransportError]) -> Callable[[], httpx.Response]:
    def answer() -> httpx.Response:
        raise error("broken")

    return answer


@pytest.fixture(params=["synchronous", "asynchronous"])
def ask(request):
    """Calls a method of either client: ``ask(gateway, lambda sluice: sluice.messages.get("msg_1"))``."""

    def synchronously(gateway, act, **options):
        with Sluice("sp_live_x", transport=httpx.MockTransport(gateway), **{"retries": QUICK, **options}) as sluice:
            return act(sluice)

    def asynchronously(gateway, act, **options):
        async def run():
            transport = httpx.MockTransport(gateway)
            async with AsyncSluice("sp_live_x", transport=transport, **{"retries": QUICK, **options}) as sluice:
                return await act(sluice)

        return asyncio.run(run())

    return synchronously if request.param == "synchronous" else asynchronously


def test_a_send_request_is_the_apis_and_has_a_key_of_its_own(ask):
    gateway = Gateway([httpx.Response(201, json=ACCEPTED)])

    assert ask(gateway, lambda sluice: sluice.messages.send(**SMS)) == ACCEPTED

    (request,) = gateway.requests
    assert (request.method, request.url.path) == ("POST", "/v1/messages/channel")
    assert json.loads(request.content) == {"channel": "sms", "from": "ACME", "to": ["+15557654321"], "text": "Hello"}
    assert request.headers["x-sendpipe-key"] == "sp_live_x"
    assert len(request.headers["idempotency-key"]) == 36


@pytest.mark.parametrize(
    "trouble",
    [
        fails(httpx.ConnectError),
        fails(httpx.ReadTimeout),
        fails(httpx.ReadError),
        refusal(503),
        refusal(429),
        refusal(502),
    ],
)
def test_a_send_is_repeated_under_the_same_key(ask, trouble):
    gateway = Gateway([trouble, trouble, httpx.Response(201, json=ACCEPTED)])

    assert ask(gateway, lambda sluice: sluice.messages.send(**SMS))["id"] == "msg_1"

    assert len({request.headers["idempotency-key"] for request in gateway.requests}) == 1
    assert len(gateway.requests) == 3


@pytest.mark.parametrize(
    ("trouble", "requests"),
    [
        (fails(httpx.ReadTimeout), 1),
        (fails(httpx.ConnectError), 2),
        (refusal(502), 1),
        (refusal(500), 1),
        (refusal(503), 2),
    ],
)
def test_what_would_act_twice_is_repeated_only_if_nothing_was_done(ask, trouble, requests):
    gateway = Gateway([trouble, httpx.Response(201, json={"id": "proj_1"})])

    try:
        ask(gateway, lambda sluice: sluice.projects.create("Shop"))
    except (ConnectionFailedError, ApiError):
        assert requests == 1

    assert len(gateway.requests) == requests


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, PayloadTooLargeError),
        (429, RateLimitedError),
        (500, ApiError),
        (503, UnavailableError),
    ],
)
def test_every_refusal_is_an_error_of_its_own(ask, status, kind):
    gateway = Gateway([refusal(status, "WORD", "to.0", **{"Retry-After": "0"})])

    with pytest.raises(kind) as caught:
        ask(gateway, lambda sluice: sluice.messages.send(**SMS))

    error = caught.value
    assert (type(error), error.status, error.code, error.field, error.retry_after) == (kind, status, "WORD", "to.0", 0)
    assert str(error) == "WORD: words"


@pytest.mark.parametrize("content", [b"<html>Bad gateway</html>", b"", b"[]", b'{"error": "no"}'])
def test_an_answer_of_a_proxy_is_an_error_without_a_word(ask, content):
    gateway = Gateway([httpx.Response(404, content=content)])

    with pytest.raises(NotFoundError) as caught:
        ask(gateway, lambda sluice: sluice.messages.get("msg_1"))

    assert caught.value.code == "UNKNOWN"


def test_attempts_end(ask):
    gateway = Gateway([refusal(503)])

    with pytest.raises(UnavailableError):
        ask(gateway, lambda sluice: sluice.messages.get("msg_1"))

    assert len(gateway.requests) == 4


def test_a_pause_that_is_too_long_ends_the_attempts(ask):
    gateway = Gateway([refusal(429, **{"Retry-After": "3600"})])

    with pytest.raises(RateLimitedError) as caught:
        ask(gateway, lambda sluice: sluice.messages.get("msg_1"))

    assert (len(gateway.requests), caught.value.retry_after) == (1, 3600)


@pytest.mark.parametrize(("error", "sent"), [(httpx.ConnectError, False), (httpx.ReadTimeout, True)])
def test_a_lost_connection_says_whether_the_gateway_may_have_the_request(ask, error, sent):
    with pytest.raises(ConnectionFailedError) as caught:
        ask(Gateway([fails(error)]), lambda sluice: sluice.messages.get("msg_1"))

    assert caught.value.sent is sent


def test_ids_cannot_change_the_path(ask):
    gateway = Gateway([httpx.Response(200, json={})])

    ask(gateway, lambda sluice: sluice.messages.get("../projects?x=1#"))

    assert gateway.requests[0].url.raw_path == b"/v1/messages/..%2Fprojects%3Fx%3D1%23"


def test_further_deliveries_of_a_message_are_asked_for_with_the_cursor(ask):
    gateway = Gateway([httpx.Response(200, json={})])

    ask(gateway, lambda sluice: sluice.messages.get("msg_1", cursor="a b"))

    assert gateway.requests[0].url.raw_path == b"/v1/messages/msg_1?cursor=a+b"


def test_analytics_are_asked_for_with_every_group(ask):
    gateway = Gateway([httpx.Response(200, json={"totals": [], "data": []})])

    found = ask(
        gateway, lambda sluice: sluice.analytics.read(from_="2026-11-27T00:00:00Z", group_by=["channel", "tag"])
    )

    assert found == {"totals": [], "data": []}
    assert gateway.requests[0].url.path == "/v1/analytics"
    assert gateway.requests[0].url.params.multi_items() == [
        ("from", "2026-11-27T00:00:00Z"), ("group_by", "channel"), ("group_by", "tag")
    ]  # fmt: skip


def test_a_session_token_is_a_bearer_with_its_project():
    gateway = Gateway([httpx.Response(200, json={"data": [], "next_cursor": None})])

    with Sluice("ses_x", project="shop", transport=httpx.MockTransport(gateway)) as sluice:
        sluice.projects.list(limit=5)

    headers = gateway.requests[0].headers
    assert (headers["authorization"], headers["x-sendpipe-project"]) == ("Bearer ses_x", "shop")
    assert "x-sendpipe-key" not in headers
    assert gateway.requests[0].url.query == b"limit=5"


def test_a_list_is_read_part_by_part():
    parts = [{"data": [{"id": "msg_2"}], "next_cursor": "c"}, {"data": [{"id": "msg_1"}], "next_cursor": None}]
    gateway = Gateway([httpx.Response(200, json=part) for part in parts])

    with Sluice("sp_live_x", transport=httpx.MockTransport(gateway)) as sluice:
        found = [message["id"] for message in sluice.messages.iterate(status="SENT", from_="a@example.com")]

    assert found == ["msg_2", "msg_1"]
    assert [request.url.query for request in gateway.requests] == [
        b"status=SENT&from=a%40example.com",
        b"status=SENT&from=a%40example.com&cursor=c",
    ]


@pytest.mark.parametrize(
    ("key", "base_url"), [("", "http://x"), (" ", "http://x"), ("sp_ü", "http://x"), ("sp_x", "x:80")]
)
def test_odd_settings_are_refused(key, base_url):
    with pytest.raises(ValueError, match=r"^(key|base_url): "):
        Sluice(key, base_url=base_url)


# -- bulk jobs -----------------------------------------------------------------------------------------------------

JOB = {"id": "blk_1", "status": "UPLOADED", "recipients": 2, "accepted": 0, "rejected": 0}
ROWS = [{"row": number, "to": f"r{number}@example.com", "message_id": None, "status": None} for number in (1, 2, 3)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def results_of(gateway, *, synchronous):
    """What a client reads."""

    def synchronously():
        with Sluice("sp_live_x", transport=httpx.MockTransport(gateway), retries=QUICK) as sluice:
            return list(sluice.bulk.results("blk_1"))

    async def asynchronously():
        async with AsyncSluice("sp_live_x", transport=httpx.MockTransport(gateway), retries=QUICK) as sluice:
            return [row async for row in sluice.bulk.results("blk_1")]

    return synchronously() if synchronous else asyncio.run(asynchronously())


def test_a_bulk_job_is_an_upload_of_lines_that_is_repeated_under_one_key(ask):
    gateway = Gateway([fails(httpx.ReadError), httpx.Response(202, json=JOB)])
    message = {"channel": "email", "from_": "shop@example.com", "subject": "News", "text": "Hello {{name}}"}
    rows = ({"to": f"{name}@example.com", "variables": {"name": name}} for name in ("ada", "jörg"))

    assert ask(gateway, lambda sluice: sluice.bulk.create(message, rows)) == JOB

    request, again = gateway.requests
    assert (request.method, request.url.path) == ("POST", "/v1/messages/bulk")
    assert request.headers["content-type"] == "application/jsonl"
    assert [json.loads(line) for line in request.content.splitlines()] == [
        {"message": {"channel": "email", "from": "shop@example.com", "subject": "News", "text": "Hello {{name}}"}},
        {"to": "ada@example.com", "variables": {"name": "ada"}},
        {"to": "jörg@example.com", "variables": {"name": "jörg"}},
    ]
    assert again.content == request.content
    assert again.headers["idempotency-key"] == request.headers["idempotency-key"]


@pytest.mark.parametrize("synchronous", [True, False])
def test_the_results_of_a_job_are_read_line_by_line_after_what_failed_before(synchronous):
    gateway = Gateway([fails(httpx.ConnectError), refusal(503), httpx.Response(200, content=LINES)])

    assert results_of(gateway, synchronous=synchronous) == ROWS

    assert [request.url.path for request in gateway.requests] == ["/v1/messages/bulk/blk_1/results"] * 3


@pytest.mark.parametrize("synchronous", [True, False])
def test_a_job_without_results_is_the_gateways_error(synchronous):
    with pytest.raises(NotFoundError):
        results_of(Gateway([refusal(404, "NOT_FOUND")]), synchronous=synchronous)


class BreaksOff(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that ends in its second row."""

    def __iter__(self):
        yield LINES[:-10]
        raise httpx.ReadError("reset")

    async def __aiter__(self):
        yield LINES[:-10]
        raise httpx.ReadError("reset")


@pytest.mark.parametrize("synchronous", [True, False])
def test_results_that_break_off_are_not_begun_again(synchronous):
    gateway = Gateway([lambda: httpx.Response(200, stream=BreaksOff())])

    with pytest.raises(ConnectionFailedError) as raised:
        results_of(gateway, synchronous=synchronous)

    assert raised.value.sent
    assert len(gateway.requests) == 1
