"""The synchronous client."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import httpx
from sluice.client import calls
from sluice.client._base import DEFAULT_RETRIES, answer_of, options, request_of
from sluice.client.answers import (
    AcceptedResponse,
    AnalyticsResponse,
    BatchResponse,
    BulkJobResponse,
    BulkProgressResponse,
    BulkResult,
    CreatedKeyResponse,
    DeadLetterResponse,
    DeletedResponse,
    KeyResponse,
    MemberResponse,
    MessageResponse,
    MessageSummary,
    Page,
    ProjectResponse,
)
from sluice.client.calls import AnalyticsQuery, BulkMessage, BulkRow, Call, MessageFilters, SendRequest
from sluice.client.retries import Attempts, Retries, broken

Send = Callable[[Call], Any]
ReadLines = Callable[[Call], Iterator[Any]]


class Sluice:
    """The synchronous client; use it in a `with` block or end it with :meth:`close`.

    ``key``: an API key, or a session token with ``project``, the slug. ``base_url``: the gateway. ``timeout``: seconds
    for each step of a request. ``transport`` and ``headers`` go to httpx.
    """

    def __init__(
        self,
        key: str,
        *,
        base_url: str = "http://127.0.0.1:8080",
        project: str | None = None,
        timeout: float = 30.0,
        retries: Retries = DEFAULT_RETRIES,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        settings = options(key, base_url=base_url, project=project, timeout=timeout, headers=headers)
        self._http = httpx.Client(**settings, transport=transport)
        self._retries = retries
        self.messages = Messages(self.call)
        self.bulk = Bulk(self.call, self._read_lines)
        self.dead_letters = DeadLetters(self.call)
        self.projects = Projects(self.call)
        self.keys = Keys(self.call)
        self.analytics = Analytics(self.call)

    def call(self, call: Call) -> Any:
        """Send any request of the API: the JSON of its answer.

        Raises:
            ApiError: the gateway refused the request.
            ConnectionFailedError: no answer came.
        """
        attempts = Attempts(call, self._retries)
        while True:
            try:
                response = self._http.send(request_of(self._http, call))
            except httpx.TransportError as error:
                pause = attempts.after_error(error)
            else:
                if response.is_success:
                    return answer_of(response)
                pause = attempts.after_response(response)
            time.sleep(pause)

    def _read_lines(self, call: Call) -> Iterator[Any]:
        """The JSON of each line of an answer. It is repeated until the answer begins, and not behind that."""
        attempts = Attempts(call, self._retries)
        while True:
            response: httpx.Response | None = None
            try:
                response = self._http.send(request_of(self._http, call), stream=True)
                if response.is_success:
                    yield from map(json.loads, filter(None, response.iter_lines()))
                    return
                response.read()
            except httpx.TransportError as error:
                if response is not None and response.is_success:
                    raise broken(error) from error
                pause = attempts.after_error(error)
            else:
                pause = attempts.after_response(response)
            finally:
                if response is not None:
                    response.close()
            time.sleep(pause)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Messages:
    """Sending, and what became of messages."""

    def __init__(self, call: Send) -> None:
        self._call = call

    def send(self, *, idempotency_key: str | None = None, **fields: Unpack[SendRequest]) -> AcceptedResponse:
        """Send a message. Without an idempotency key it gets one: a repeat by this client is no second message."""
        answer: AcceptedResponse = self._call(calls.send(fields, idempotency_key))
        return answer

    def send_batch(self, messages: Sequence[SendRequest], *, idempotency_key: str | None = None) -> BatchResponse:
        """Send up to 1,000 messages in one request; the answer has a result for each, in order."""
        answer: BatchResponse = self._call(calls.send_batch(messages, idempotency_key))
        return answer

    def get(self, message_id: str, *, cursor: str | None = None) -> MessageResponse:
        """A message with the history of its first 50 deliveries, or of those after ``cursor`` (``next_cursor``)."""
        answer: MessageResponse = self._call(calls.read("messages", message_id, query={"cursor": cursor}))
        return answer

    def list(self, **filters: Unpack[MessageFilters]) -> Page[MessageSummary]:
        """A part of the list, newest first."""
        answer: Page[MessageSummary] = self._call(calls.read("messages", query={**filters}))
        return answer

    def iterate(self, **filters: Unpack[MessageFilters]) -> Iterator[MessageSummary]:
        """Every message that the filters select, newest first; parts of the list are fetched as they are needed."""
        while True:
            page = self.list(**filters)
            yield from page["data"]
            if page["next_cursor"] is None:
                return
            filters["cursor"] = page["next_cursor"]

    def cancel(self, message_id: str) -> MessageResponse:
        """Cancel a message of which nothing has been handed to a provider.

        Raises:
            ConflictError: it is too late.
        """
        answer: MessageResponse = self._call(Call("DELETE", calls.path("messages", message_id, "cancel")))
        return answer


class Bulk:
    """Bulk jobs: one message for many recipients."""

    def __init__(self, call: Send, read_lines: ReadLines) -> None:
        self._call = call
        self._read_lines = read_lines

    def create(
        self, message: BulkMessage, recipients: Iterable[BulkRow], *, idempotency_key: str | None = None
    ) -> BulkJobResponse:
        """Send a message to many recipients. The upload is made in memory, so that it can be repeated.

        Without an idempotency key it gets one: a repeat by this client is no second job.
        """
        answer: BulkJobResponse = self._call(calls.create_bulk(message, recipients, idempotency_key))
        return answer

    def get(self, bulk_id: str) -> BulkProgressResponse:
        """The progress of a job."""
        answer: BulkProgressResponse = self._call(calls.read("messages", "bulk", bulk_id))
        return answer

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Page[BulkJobResponse]:
        """A part of the list of jobs, newest first."""
        answer: Page[BulkJobResponse] = self._call(
            calls.read("messages", "bulk", query={"limit": limit, "cursor": cursor})
        )
        return answer

    def results(self, bulk_id: str) -> Iterator[BulkResult]:
        """What became of each row so far, as it is downloaded.

        Raises:
            ConnectionFailedError: the connection broke on the way.
        """
        yield from self._read_lines(calls.read("messages", "bulk", bulk_id, "results"))

    def cancel(self, bulk_id: str) -> BulkJobResponse:
        """No further row becomes a message, and messages that no provider has are cancelled."""
        answer: BulkJobResponse = self._call(Call("DELETE", calls.path("messages", "bulk", bulk_id, "cancel")))
        return answer


class DeadLetters:
    """What could not be processed."""

    def __init__(self, call: Send) -> None:
        self._call = call

    def list(
        self,
        *,
        kind: str | None = None,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[DeadLetterResponse]:
        """A part of the list, newest first."""
        query = {"kind": kind, "status": status, "limit": limit, "cursor": cursor}
        answer: Page[DeadLetterResponse] = self._call(calls.read("dead-letters", query=query))
        return answer


class Projects:
    """Projects and their members; for people, with a session token."""

    def __init__(self, call: Send) -> None:
        self._call = call

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Page[ProjectResponse]:
        """The person's projects."""
        answer: Page[ProjectResponse] = self._call(calls.read("projects", query={"limit": limit, "cursor": cursor}))
        return answer

    def get(self, slug: str) -> ProjectResponse:
        answer: ProjectResponse = self._call(calls.read("projects", slug))
        return answer

    def create(self, name: str, *, slug: str | None = None) -> ProjectResponse:
        body = calls.without_none({"name": name, "slug": slug})
        answer: ProjectResponse = self._call(calls.create("projects", body=body))
        return answer

    def update(self, slug: str, **fields: Any) -> ProjectResponse:
        """Change ``name``, ``slug``, ``default_sender``, ``verified_senders_only`` or ``routing``."""
        answer: ProjectResponse = self._call(calls.update("projects", slug, body=fields))
        return answer

    def delete(self, slug: str) -> DeletedResponse:
        answer: DeletedResponse = self._call(calls.delete("projects", slug))
        return answer

    def members(self, slug: str) -> Page[MemberResponse]:
        answer: Page[MemberResponse] = self._call(calls.read("projects", slug, "members"))
        return answer


class Keys:
    """API keys of a project."""

    def __init__(self, call: Send) -> None:
        self._call = call

    def list(self, slug: str) -> Page[KeyResponse]:
        answer: Page[KeyResponse] = self._call(calls.read("projects", slug, "keys"))
        return answer

    def create(self, slug: str, name: str, *, test: bool = False) -> CreatedKeyResponse:
        """A new key; the answer shows it, and nothing shows it again."""
        body = {"name": name, "test": test}
        answer: CreatedKeyResponse = self._call(calls.create("projects", slug, "keys", body=body))
        return answer

    def revoke(self, slug: str, key_id: str) -> DeletedResponse:
        answer: DeletedResponse = self._call(calls.delete("projects", slug, "keys", key_id))
        return answer


class Analytics:
    """What became of messages, by interval."""

    def __init__(self, call: Send) -> None:
        self._call = call

    def read(self, **query: Unpack[AnalyticsQuery]) -> AnalyticsResponse:
        """The numbers of the messages that were accepted in a range, the last 24 hours by default."""
        answer: AnalyticsResponse = self._call(calls.read("analytics", query={**query}))
        return answer
