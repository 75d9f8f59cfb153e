"""What an HTTP client may send and keep waiting before the application sees its request."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits of one request."""

    head_bytes: int = 32_768  # request line and headers; the trailers of a body too
    headers: int = 100
    url_bytes: int = 8_192


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of one server. Durations are seconds."""

    request: RequestLimits = field(default_factory=RequestLimits)
    head_timeout: float = 10.0  # from the connection, or from the first byte of a later request, to the end of its head
    body_grace: float = 10.0  # before the rate of a body counts
    body_rate: int = 8_192  # bytes per second
    write_timeout: float = 60.0  # in which the client reads a part of what is written
    connections: int = 4_096
    connections_per_address: int = 2_048
