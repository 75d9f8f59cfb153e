"""The public topics as AsyncAPI: ``python -m gateway.asyncapi`` prints docs/asyncapi.json."""

from __future__ import annotations

import json
from typing import Any

from faststream.kafka import KafkaBroker
from faststream.specification import AsyncAPI

from gateway.messages.v1_schemas import SendRequest
from sluice.bus.messages import (
    SCHEMA_VERSION,
    DeliveryEvent,
    ProviderProbeRequested,
    ProviderUnresponsive,
    RequestRejected,
)
from sluice.bus.topics import Topic

_SEND = f"""Send requests: the body of POST /v1/messages/channel. Record headers: `schema-version: {SCHEMA_VERSION}` and
either `x-sendpipe-key: sp_live_…` (the project's API key) with an optional `idempotency-key`, or a signature with the
key: `x-sendpipe-key-id` (characters 9 to 20 of the API key), `x-sendpipe-timestamp` (seconds), `idempotency-key`, and
`x-sendpipe-signature`: `v1,` and the base64 of HMAC-SHA-256, with the SHA-256 of the API key as key, over
`key id.timestamp.idempotency key.` and the record's value. A signature is valid for 24 hours. A record that cannot be
processed is published on `dead.letters` with topic, partition, offset and reason; a rejected request also on
`delivery.events`. Records of a transaction are consumed once it is committed, those of an aborted one never; an open
transaction holds back the later records of its partitions, at most for the broker's `transaction.max.timeout.ms`
(60 s)."""

_EVENTS = """The events of every delivery, published after they are stored, at least once. (delivery_id, sequence) is
the identity of an event. The key of a record is the message's id. Two more types are no delivery's event:
`request_rejected` and `provider_unresponsive`."""


def document() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of the topics that other programs may publish to and consume."""
    broker = KafkaBroker("localhost:9092", allow_auto_create_topics=False)

    async def send_request(body: SendRequest) -> None:
        """A send request."""

    broker.subscriber(Topic.SEND_REQUESTS.value, group_id="gateway-ingest", title="send", description=_SEND)(
        send_request
    )
    schema = DeliveryEvent | RequestRejected | ProviderUnresponsive | ProviderProbeRequested
    broker.publisher(Topic.EVENTS.value, title="events", description=_EVENTS, schema=schema)
    specification = AsyncAPI(broker, title="Sluice", version=str(SCHEMA_VERSION), schema_version="3.0.0")
    found: dict[str, Any] = json.loads(specification.to_specification().to_json())
    return found


if __name__ == "__main__":
    print(json.dumps(document(), indent=2, ensure_ascii=False))
