"""The body of a request to a webhook endpoint: the same bytes in every attempt."""

from __future__ import annotations

from sluice.model import ids
from sluice.model.message import Channel
from sluice.model.webhooks import ProviderHealthData, WebhookBody, WebhookData, WebhookType, event_id
from sluice.store.webhook_deliveries import Claimed, EventFacts, NoticeFacts

_TEST_RECIPIENTS = {Channel.EMAIL: "recipient@example.com", Channel.PUSH: "device-token"}
_TEST_CHANNELS = {
    "sms": Channel.SMS,
    "wa": Channel.WHATSAPP,
    "tg": Channel.TELEGRAM,
    "sig": Channel.SIGNAL,
    "push": Channel.PUSH,
}


def webhook_body(claimed: Claimed) -> bytes | None:
    """The JSON of :class:`WebhookBody`; None if the message of the event was deleted."""
    data: WebhookData | ProviderHealthData
    if claimed.facts is not None:
        data = _data(claimed, claimed.facts)
    elif claimed.notice is not None:
        data = _notice_data(claimed, claimed.notice)
    elif claimed.is_test:
        data = _test_data(claimed)
    else:
        return None
    body = WebhookBody(
        id=event_id(claimed.delivery_id, claimed.sequence),
        type=claimed.type,
        timestamp=claimed.occurred_at,
        test=claimed.is_test,
        data=data,
    )
    return body.model_dump_json().encode()


def _data(claimed: Claimed, facts: EventFacts) -> WebhookData:
    return WebhookData(
        message_id=ids.encode_id("msg", facts.message_id),
        project_id=ids.encode_id("proj", claimed.project_id),
        channel=facts.channel,
        recipient=facts.recipient,
        status=facts.state,
        provider=None if facts.provider_id is None else ids.encode_id("prv", facts.provider_id),
        attempt=facts.attempt,
        reason=facts.reason,
        detail=facts.detail,
        tags=list(facts.tags),
        metadata=None if facts.metadata is None else dict(facts.metadata),
        idempotency_key=facts.idempotency_key,
    )


def _notice_data(claimed: Claimed, notice: NoticeFacts) -> ProviderHealthData:
    return ProviderHealthData.model_validate(
        {
            "project_id": ids.encode_id("proj", claimed.project_id),
            "channel": notice.channel,
            "provider": ids.encode_id("prv", notice.provider_id),
            "status": notice.status,
            "reason": notice.reason,
            "incident": ids.encode_id("inc", notice.incident_id),
            "incident_status": notice.incident,
        }
    )


def _test_data(claimed: Claimed) -> WebhookData | ProviderHealthData:
    """Data in the form of an event of this type. No message has this id."""
    if claimed.type is WebhookType.PROVIDER_HEALTH_CHANGED:
        return ProviderHealthData(
            project_id=ids.encode_id("proj", claimed.project_id),
            channel=Channel.EMAIL,
            provider=None,
            status="unhealthy",
            reason="a test event: no provider has changed",
            incident=None,
            incident_status="open",
        )
    channel = _TEST_CHANNELS.get(claimed.type.value.partition("_")[0], Channel.EMAIL)
    return WebhookData(
        message_id=ids.encode_id("msg", claimed.delivery_id),
        project_id=ids.encode_id("proj", claimed.project_id),
        channel=channel,
        recipient=_TEST_RECIPIENTS.get(channel, "+14155550100"),
        status=None,
        provider=None,
        attempt=None,
        reason=None,
        detail="a test event: it belongs to no message",
        tags=[],
        metadata=None,
        idempotency_key=None,
    )
