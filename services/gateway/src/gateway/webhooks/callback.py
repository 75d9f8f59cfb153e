"""The request to an endpoint, as the OpenAPI document describes it. The event-worker sends it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import BaseModel

from sluice.model.webhooks import WebhookBody

callback_router = APIRouter()


class _Anything(BaseModel):
    """The body of the response is not read, but for the log of attempts."""


@callback_router.post(
    "{$request.body#/url}", name="receive_event", responses={"default": {"description": "The request is repeated."}}
)
def receive_event(
    body: WebhookBody,
    webhook_id: Annotated[str, Header(description="The event's id, the same in every attempt.")],
    webhook_timestamp: Annotated[str, Header(description="When this attempt was made, in seconds since the epoch.")],
    webhook_signature: Annotated[
        str,
        Header(
            description="Signatures of Standard Webhooks, separated by spaces: `v1,` and the base64 of HMAC-SHA-256 "
            "over `id.timestamp.body`, with the bytes of a secret as key."
        ),
    ],
    x_sendpipe_signature: Annotated[
        str, Header(description="HMAC-SHA-256 over the body, in hex, with the text of the secret as key.")
    ],
) -> _Anything:
    """An event. A response with 2xx within 15 seconds ends its delivery, 410 disables the endpoint, and after any other
    one the request is repeated for three days. Redirects are not followed.
    """
    raise NotImplementedError  # documentation only
