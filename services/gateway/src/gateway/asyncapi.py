"""The public topics as AsyncAPI: ``python -m gateway.asyncapi`` prints docs/asyncapi.json."""

from __future__ import annotations

import json
from typing import Any

from faststream.kafka import KafkaBroker
from faststream.security import SASLScram512
from faststream.specification import AsyncAPI

from gateway.messages.v1_schemas import SendRequest
from sluice.bus.messages import CORRELATION_HEADER, SCHEMA_VERSION, VERSION_HEADER, DeliveryEvent, NonDeliveryEvent
from sluice.bus.topics import Topic

_ABOUT = """The topics that other programs may publish to and consume. The server is that of `make up`: the
password of the user `producer` is in `.sluice/kafka-producer.password`; docs/operations.md names the other users."""
_SEND = """Send requests: the body of POST /v1/messages/channel. A record has either the header `x-sendpipe-key` (the
project's API key, `sp_live_…`) with an optional `idempotency-key`, or a signature with the key: `x-sendpipe-key-id`
(characters 9 to 20 of the API key), `x-sendpipe-timestamp` (seconds), `idempotency-key`, and `x-sendpipe-signature`:
`v1,` and the base64 of HMAC-SHA-256, with the SHA-256 of the API key as key, over `key id.timestamp.idempotency key.`
and the record's value. A signature is valid for 24 hours.

Each record is answered on `delivery.events`: `request_accepted` once its message is stored, or `request_rejected`. The
answer names the record's topic, partition, offset and idempotency key, and has its `correlation_id` header. What has no
valid API key, no value or another schema version has no project that an answer could go to: it is published on
`dead.letters` alone, with topic, partition, offset and reason; a rejected request is published there too.

A request that the schema forbids is rejected. What the schema allows must also keep the rules of
[sending.md](api/sending.md), which a schema cannot state.

Records of a transaction are consumed once it is committed, those of an aborted one never; an open transaction holds
back the later records of its partitions, at most for the broker's `transaction.max.timeout.ms` (60 s)."""

_EVENTS = """The events of every delivery from its first outcome on (`accepted` and `sending` are in its history only,
`GET /v1/messages/{id}`), published after they are stored, at least once. (delivery_id, sequence) is the identity of an
event, and the key of a record is the 16 bytes of the message's id. The other types are no delivery's event:
`request_accepted` and `request_rejected` answer a record on `send.requests`, at least once, under the message's id and
the project's id as key; `provider_unresponsive` and `provider_probe_requested` have the provider's id as key."""

_TEXT = {"type": "string"}
_VERSION = {"const": str(SCHEMA_VERSION)}
_SEND_HEADERS = {
    "properties": {
        VERSION_HEADER: {**_VERSION, "description": "Without it, this version."},
        "x-sendpipe-key": _TEXT,
        "x-sendpipe-key-id": _TEXT,
        "x-sendpipe-timestamp": _TEXT,
        "x-sendpipe-signature": _TEXT,
        "idempotency-key": {"type": "string", "minLength": 1, "maxLength": 255},
        CORRELATION_HEADER: {"type": "string", "maxLength": 255, "description": "Becomes a header of the answer."},
    }
}
_EVENT_HEADERS = {
    "properties": {
        VERSION_HEADER: _VERSION,
        CORRELATION_HEADER: {"type": "string", "description": "Of an answer: that of the record, if it had one."},
    },
    "required": [VERSION_HEADER],
}


def document() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of the topics that other programs may publish to and consume."""
    login = SASLScram512(username="producer", password="", use_ssl=False)
    broker = KafkaBroker("127.0.0.1:19092", security=login, allow_auto_create_topics=False)

    async def send_request(body: SendRequest) -> None:
        """A send request."""

    broker.subscriber(Topic.SEND_REQUESTS.value, group_id="gateway-ingest", title="send", description=_SEND)(
        send_request
    )
    schema = DeliveryEvent | NonDeliveryEvent
    broker.publisher(Topic.EVENTS.value, title="events", description=_EVENTS, schema=schema)
    specification = AsyncAPI(
        broker, title="Sluice", description=_ABOUT, version=str(SCHEMA_VERSION), schema_version="3.0.0"
    )
    found: dict[str, Any] = json.loads(specification.to_specification().to_json())
    messages = found["components"]["messages"]
    for name, headers in (("send:SubscribeMessage", _SEND_HEADERS), ("events:Message", _EVENT_HEADERS)):
        messages[name]["headers"] = {"type": "object", **headers}
    return found


if __name__ == "__main__":
    print(json.dumps(document(), indent=2, ensure_ascii=False))
