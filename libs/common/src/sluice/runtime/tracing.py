"""Tracing: spans of OpenTelemetry for a sample of the messages, sent to a collector by OTLP over HTTP.

The spans are made by hand at four places: a message is accepted, routed, attempted at a provider, and confirmed by a
receipt. The gateway decides once for each message; the decision and the parent span travel as ``traceparent`` (W3C
Trace Context) in the headers of the Kafka records and in the row of the delivery. A message that is not traced has no
``traceparent``, and a process without a collector makes no span and loads no exporter (docs/decisions/0075).

Attributes are ids and words of small sets. No address, content, credential or text of a provider is an attribute.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Final

from sluice.runtime.errors import SluiceError
from sluice.runtime.logs import instance_name
from sluice.runtime.version import program_version

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as RecordedSpan
    from opentelemetry.trace import Tracer

    from sluice.runtime.settings import Settings

HEADER: Final = "traceparent"

caller: ContextVar[str | None] = ContextVar("caller", default=None)
"""The ``traceparent`` header of the request in hand."""

_FORMAT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_EXPORT_TIMEOUT = 3.0  # seconds of one request to the collector
_CLOSE_TIMEOUT = 4.0  # seconds in which the last spans are sent at shutdown

_tracer: Tracer | None = None
_ratio = 0.0


class Span:
    """A span that is being recorded, or none; a context manager that ends it.

    ``traceparent`` names it to its children; None where nothing is recorded. An exception that leaves the block
    becomes the attribute ``error.type``: its code if it has one, its class otherwise, never its text.
    """

    __slots__ = ("_recorded", "traceparent")

    def __init__(self, recorded: RecordedSpan | None) -> None:
        self._recorded = recorded
        self.traceparent: str | None = None
        if recorded is not None:
            context = recorded.get_span_context()
            self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    def set(self, **attributes: str | int | bool | None) -> None:
        """Add attributes, each with the prefix ``sluice.``; those that are None are omitted."""
        if self._recorded is not None:
            present = {f"sluice.{name}": value for name, value in attributes.items() if value is not None}
            self._recorded.set_attributes(present)

    def fail(self, error: str) -> None:
        """Mark the span as failed; ``error`` is a word of a small set."""
        if self._recorded is not None:
            from opentelemetry.trace import StatusCode

            self._recorded.set_attribute("error.type", error)
            self._recorded.set_status(StatusCode.ERROR)

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._recorded is not None:
            if kind is not None:
                self.fail(str(getattr(error, "code", kind.__name__)))
            self._recorded.end()


NO_SPAN: Final = Span(None)


def active() -> bool:
    """Whether this process traces."""
    return _tracer is not None


def begin(name: str, *, source: str) -> Span:
    """The first span of a message, or none: a child of the caller's span if that is sampled, else by the ratio.

    ``source``: ``http`` or ``kafka``.
    """
    if _tracer is None:
        return NO_SPAN
    match = _FORMAT.fullmatch(caller.get() or "")
    if not _samples(match):
        return NO_SPAN
    from opentelemetry.trace import SpanKind

    kind = SpanKind.CONSUMER if source == "kafka" else SpanKind.SERVER
    span = Span(_tracer.start_span(name, context=_parent(match), kind=kind))
    span.set(source=source)
    return span


def child(name: str, parent: str | None, *, calls: bool = False) -> Span:
    """A span below ``parent``; none if that is None, not sampled, or this process does not trace.

    ``calls``: the span is a call of another system.
    """
    if parent is None or _tracer is None:
        return NO_SPAN
    match = _FORMAT.fullmatch(parent)
    if match is None or not _is_sampled(match):
        return NO_SPAN
    from opentelemetry.trace import SpanKind

    kind = SpanKind.CLIENT if calls else SpanKind.INTERNAL
    return Span(_tracer.start_span(name, context=_parent(match), kind=kind))


def parent_in(headers: Sequence[tuple[str, bytes | None]]) -> str | None:
    """The ``traceparent`` among the headers of a Kafka record, if it is one; None where it is repeated."""
    found = [value for name, value in headers if name == HEADER]
    if len(found) != 1 or found[0] is None:
        return None
    text = found[0].decode("latin-1")
    return text if _FORMAT.fullmatch(text) else None


def headers_for(traceparent: str | None) -> dict[str, str] | None:
    """The headers of a Kafka record about a message that has this ``traceparent``."""
    return None if traceparent is None else {HEADER: traceparent}


@asynccontextmanager
async def running(settings: Settings, role: str) -> AsyncIterator[None]:
    """Trace until the block ends, if the settings name a collector; then send what is left.

    Raises:
        SluiceError: the address of the collector is none.
    """
    global _tracer, _ratio
    if settings.tracing_endpoint is None:
        yield
        return
    provider = _create_provider(settings.tracing_endpoint, role)
    _tracer, _ratio = provider.get_tracer("sluice", program_version()), settings.tracing_sample_ratio
    try:
        yield
    finally:
        _tracer = None
        # In a thread: the exporter blocks. A collector that does not answer delays no shutdown beyond this.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(provider.shutdown), _CLOSE_TIMEOUT)


def _create_provider(endpoint: str, role: str) -> TracerProvider:
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", endpoint):
        raise SluiceError(f"SLUICE_TRACING_ENDPOINT: {endpoint!r} is no http or https address")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    resource = Resource.create(
        {
            "service.name": f"sluice-{role}",
            "service.namespace": "sluice",
            "service.version": program_version(),
            "service.instance.id": instance_name(),
        }
    )
    # Only spans of messages that are sampled are made, so that the sampler has nothing left to decide.
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint, timeout=_EXPORT_TIMEOUT)))
    return provider


def _samples(match: re.Match[str] | None) -> bool:
    if match is not None:
        return _is_sampled(match)
    return random.random() < _ratio  # noqa: S311  no secret


def _is_sampled(match: re.Match[str]) -> bool:
    return bool(int(match[3], 16) & 1)


def _parent(match: re.Match[str] | None) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    if match is None:
        return Context()
    remote = SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=TraceFlags(1))
    return set_span_in_context(NonRecordingSpan(remote), Context())
