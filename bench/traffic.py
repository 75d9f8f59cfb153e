"""What is offered: streams of requests, each with its own rate, key and channel. Shared by both sides of the pipe."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

STREAM_SPAN = 100_000_000  # numbers of one stream; nine digits hold ten streams
_TEXT = "Your order is on its way and will be with you between nine and eleven tomorrow morning."


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests of one kind. ``kind``: poisson or constant with a ``rate``, or window (as fast as the sink takes)."""

    name: str
    template: str  # of the whole request; %(n)s is its number in nine digits, %(key)s an API key
    rate: float = 0.0
    kind: str = "poisson"
    keys: tuple[str, ...] = ("",)
    begin: float = 0.0  # seconds from the start of the run
    end: float | None = None  # seconds; None for the run's end
    most: int | None = None  # requests at most, in the window kind


@dataclass(frozen=True, slots=True)
class Offer:
    """One run of a generator process."""

    host: str
    port: int
    start: float  # of bench.clock
    seconds: float
    streams: tuple[Stream, ...]
    result: str  # file for the result of this process
    index: int = 0
    of: int = 1
    seed: int = 0
    connections: int = 64  # of each stream, open before the start
    most_connections: int = 2000  # of each stream
    window: int = 0  # calls that may be under way in all, for the window kind
    response_timeout: float = 5.0  # seconds to wait for answers after the last request

    def line(self) -> str:
        """As it goes through the pipe."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str) -> Self:
        """What :meth:`line` wrote."""
        fields: dict[str, Any] = json.loads(line)
        streams = tuple(Stream(**{**one, "keys": tuple(one["keys"])}) for one in fields.pop("streams"))
        return cls(**fields, streams=streams)


@dataclass(frozen=True, slots=True)
class Shape:
    """How the requests of a run look. ``run`` makes keys and recipients unique in the whole measurement."""

    run: int
    channel: str = "email"
    delivery_class: str = "standard"

    def template(self) -> str:
        """The request with its numbers left open; about 300 bytes of body."""
        body = json.dumps({**self._message(), **self._class()}, separators=(",", ":"))
        # Each number is written in nine digits and stands as %(n)s, five characters, in the template.
        length = len(body) + 4 * body.count("%(n)s")
        return (
            "POST /v1/messages/channel HTTP/1.1\r\n"
            "host: 127.0.0.1\r\n"
            "content-type: application/json\r\n"
            "x-sendpipe-key: %(key)s\r\n"
            f"idempotency-key: b{self.run:05d}-%(n)s\r\n"
            f"content-length: {length}\r\n\r\n{body}"
        )

    def _message(self) -> dict[str, Any]:
        if self.channel == "sms":
            return {"channel": "sms", "from": "+15005550006", "to": [f"+4{self.run:05d}%(n)s"], "text": _TEXT}
        return {
            "channel": "email",
            "from": "Bench <bench@sluice.example>",
            "to": [f"r{self.run:05d}n%(n)s@load.example"],
            "subject": "Order %(n)s",
            "text": _TEXT,
        }

    def _class(self) -> dict[str, str]:
        return {} if self.delivery_class == "standard" else {"class": self.delivery_class}


def number_of(recipient: str) -> tuple[int, int] | None:
    """Run and number of a recipient that :class:`Shape` made; None for any other."""
    digits = ""
    if recipient.startswith("r") and recipient.endswith("@load.example"):
        head, _, tail = recipient[1 : -len("@load.example")].partition("n")
        digits = head + tail
    elif recipient.startswith("+4"):
        digits = recipient[2:]
    if len(digits) != 14 or not digits.isdigit():
        return None
    return int(digits[:5]), int(digits[5:])


def key_of(run: int, number: int) -> str:
    """The idempotency key of a request."""
    return f"b{run:05d}-{number:09d}"
