"""The requests of a run and their times: a pure function of the seed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

CLASSES = ("urgent", "standard", "once")
CHANNELS = {"email": 40, "sms": 32, "whatsapp": 10, "telegram": 6, "signal": 6, "push": 6}  # share of each, per cent
# One for each request: by the recipient, calls are found that carry no reference of ours.
RECIPIENTS = {
    "email": "u{}@example.com",
    "sms": "+1555{:07}",
    "whatsapp": "+1556{:07}",
    "telegram": "7{:09}",
    "signal": "+49155{:08}",
    "push": "dQw4w9WgXcQ{:09}:APA91bF-x_y",
}


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request and its repetitions, conflict or cancel. Times are seconds."""

    number: int
    at: float  # from the start of the run
    channel: str
    delivery_class: str
    source: str  # http, bus
    key: str | None = None
    copies: int = 1  # concurrent requests with the same key
    late_copy: float | None = None  # after the first response, the same request again
    conflict: bool = False  # and then another body under the same key
    cancel_after: float | None = None
    send_in: float | None = None
    expires_in: float | None = None
    preferred: str | None = None  # name of an endpoint
    sandbox: bool = False

    @property
    def tag(self) -> str:
        """Identifies the request in the database."""
        return f"o{self.number}"


def plan(seed: int, *, messages: int, seconds: float, endpoints: Mapping[str, str]) -> list[PlannedRequest]:
    """``messages`` requests at random times of the run: an open loop, independent of responses.

    ``endpoints``: their names with their channels.
    """
    dice = Random(f"orders {seed}")
    moments = sorted(dice.uniform(0, seconds) for _ in range(messages))
    return [_planned(number, at, dice, endpoints) for number, at in enumerate(moments)]


def _planned(number: int, at: float, dice: Random, endpoints: Mapping[str, str]) -> PlannedRequest:
    channel = dice.choices(tuple(CHANNELS), tuple(CHANNELS.values()))[0]
    sandbox = dice.random() < 0.04
    keyed = dice.random() < 0.5
    copied = keyed and dice.random() < 0.15
    scheduled = dice.random() < 0.05
    cancelled = dice.random() < (0.5 if scheduled else 0.04)
    fitting = [source for source, carried in endpoints.items() if carried == channel and not sandbox]
    return PlannedRequest(
        number=number,
        at=at,
        channel=channel,
        delivery_class=dice.choices(CLASSES, (25, 45, 30))[0],
        source="bus" if dice.random() < 0.25 else "http",
        key=f"key-{number}" if keyed else None,
        copies=dice.randint(2, 4) if copied else 1,
        late_copy=dice.uniform(0.5, 10) if keyed and dice.random() < 0.1 else None,
        conflict=keyed and dice.random() < 0.1,
        cancel_after=dice.choice((0.0, dice.uniform(0, 0.3), dice.uniform(0, 3))) if cancelled else None,
        send_in=dice.uniform(3, 12) if scheduled else None,
        expires_in=dice.uniform(20, 40) if dice.random() < 0.02 else None,
        preferred=dice.choice(fitting) if fitting and dice.random() < 0.7 else None,
        sandbox=sandbox,
    )


def body(planned: PlannedRequest, *, preferred: str | None, times: dict[str, str], other: bool = False) -> bytes:
    """The request as JSON; ``other``: with a changed text, for a conflict."""
    text = f"Order {planned.number}{' (changed)' if other else ''}: thank you."
    fields: dict[str, Any] = {
        "channel": planned.channel,
        "class": planned.delivery_class,
        "tags": [planned.tag],
        "to": [RECIPIENTS[planned.channel].format(planned.number)],
        **times,
    }
    match planned.channel:
        case "email":
            fields |= {"from": "shop@example.com", "subject": f"Order {planned.number}", "text": text}
        case "sms":
            fields |= {"from": "+15005550006", "text": text}
        case "whatsapp":
            template = {"template_name": "order_update", "template_language": "en_US", "template_params": [text]}
            fields |= {"channel_options": template}
        case "push":
            fields |= {"subject": "Order", "text": text}
        case _:
            fields |= {"text": text}
    if planned.key is not None:
        fields["idempotency_key"] = planned.key
    if preferred is not None:
        fields["preferred_provider"] = preferred
    return json.dumps(fields).encode()


def digest(request: bytes) -> str:
    """Identifies a body in the client's ledger."""
    return hashlib.sha256(request).hexdigest()[:16]
