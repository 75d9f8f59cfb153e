"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import httpx
from sluice.client import calls
from sluice.client._base import DEFAULT_RETRIES, answer_of, options, request_of
from sluice.client.answers import (
    AcceptedResponse,
    CreatedKeyResponse,
    DeletedResponse,
    KeyResponse,
    MemberResponse,
    MessageResponse,
    Page,
    ProjectResponse,
)
from sluice.client.calls import Call, MessageFilters, SendRequest
from sluice.client.retries import Attempts, Retries

Send = Callable[[Call], Any]


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
        self.projects = Projects(self.call)
        self.keys = Keys(self.call)

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

    def send_batch(self, messages: Sequence[SendRequest], *, idempotency_key: str | None = None) -> Any:
        """Send up to 1,000 messages in one request; the answer has a result for each, in order."""
        return self._call(calls.send_batch(messages, idempotency_key))

    def get(self, message_id: str) -> MessageResponse:
        """A message with its events."""
        answer: MessageResponse = self._call(calls.read("messages", message_id))
        return answer

    def list(self, **filters: Unpack[MessageFilters]) -> Page[MessageResponse]:
        """A part of the list, newest first."""
        answer: Page[MessageResponse] = self._call(calls.read("messages", query={**filters}))
        return answer

    def iterate(self, **filters: Unpack[MessageFilters]) -> Iterator[MessageResponse]:
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
        """Change ``name``, ``slug`` or ``default_sender``."""
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
