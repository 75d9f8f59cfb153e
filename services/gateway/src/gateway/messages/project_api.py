"""``/email``, ``/message`` and ``/push``: sending that waits for the outcome, retries, statistics of queues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response

from gateway.delivery_log import service as delivery_log
from gateway.dependencies import ServicesDep
from gateway.devices import service as devices
from gateway.errors import (
    ApiError,
    ChannelDisabled,
    IdempotencyConflict,
    NotRetryable,
    QuotaExceeded,
    SendCancelled,
    SendFailed,
    TemplateNotFound,
)
from gateway.kit.json_route import DOCUMENT, JsonRoute
from gateway.kit.project_api_errors import errors_of
from gateway.kit.provider_reference import provider_name
from gateway.kit.replayed import REPLAYED_HEADER
from gateway.kit.responses import headers_of, key_of
from gateway.messages.project_api_schemas import (
    BulkAnswer,
    DeliveryAnswer,
    QueueStatisticsAnswer,
    RetryAnswer,
    RetryMultipleAnswer,
    RetryMultipleRequest,
    RetryRequest,
    RetryResult,
    SendAnswer,
    SendBulkEmailRequest,
    SendBulkMessageRequest,
    SendEmailRequest,
    SendMessageRequest,
    SendPushRequest,
)
from gateway.messages.retry import retry
from gateway.messages.sending import (
    Idempotency,
    Recipients,
    Sent,
    TemplatedMessage,
    failure_of,
    send,
    send_to_each,
)
from gateway.project_dependencies import MessagesRead, MessagesSend
from gateway.services import Services
from sluice.model.channel_group import ChannelGroup
from sluice.model.state import NOT_SENT
from sluice.store.config_cache import ConfigCache
from sluice.store.delivery_log import WINDOW
from sluice.store.messages import DeliveryResult


class _SendRoute(JsonRoute):
    """Variables and lists of recipients."""

    max_body = 524_288  # bytes: long texts in variables
    max_beside_texts = 131_072  # bytes: a thousand addresses


router = APIRouter(route_class=_SendRoute)

_QUEUED_AFTER = "No provider has taken the message within the time that a request waits; it is still queued."
_QUEUED: dict[int | str, dict[str, Any]] = {
    200: {"headers": REPLAYED_HEADER},
    202: {"model": SendAnswer, "description": _QUEUED_AFTER, "headers": REPLAYED_HEADER},
}
_BULK_QUEUED: dict[int | str, dict[str, Any]] = {
    200: {"headers": REPLAYED_HEADER},
    202: {"model": BulkAnswer, "description": f"Of some recipients: {_QUEUED_AFTER}", "headers": REPLAYED_HEADER},
}
_SEND_ERRORS = errors_of(
    *(TemplateNotFound, IdempotencyConflict, ChannelDisabled, SendCancelled, QuotaExceeded, SendFailed)
)
_Header = Annotated[str | None, Header(alias="Idempotency-Key", description="Valid for 24 hours.")]

# The words of the answers, by group.
_NAMES = {ChannelGroup.EMAIL: "Email", ChannelGroup.MESSAGE: "Message", ChannelGroup.PUSH: "Push notification"}


async def _idempotency_of(request: Request, idempotency_key: _Header = None) -> Idempotency:
    """The idempotency key of the request; the argument documents its header."""
    return Idempotency(key_of(headers_of(request.scope)), request.url.path, request.scope[DOCUMENT])


_Idempotency = Annotated[Idempotency, Depends(_idempotency_of)]


def _only(recipient: str) -> Recipients:
    async def recipients() -> list[str]:
        return [recipient]

    return recipients


@router.post("/email/send", tags=["email"], responses=_SEND_ERRORS | _QUEUED, response_model_exclude_none=True)
async def send_email(
    body: SendEmailRequest,
    response: Response,
    principal: MessagesSend,
    services: ServicesDep,
    idempotency: _Idempotency,
) -> SendAnswer:
    """Send an e-mail from a template, and wait until a provider has taken it or all have failed."""
    message = TemplatedMessage(
        ChannelGroup.EMAIL, body.template_id, body.variables, body.preferred_provider, body.subject
    )
    sent = await send(services, principal, message, _only(body.to), idempotency)
    return _answer(response, message.group, sent, services.config)


@router.post("/message/send", tags=["message"], responses=_SEND_ERRORS | _QUEUED, response_model_exclude_none=True)
async def send_text_message(
    body: SendMessageRequest,
    response: Response,
    principal: MessagesSend,
    services: ServicesDep,
    idempotency: _Idempotency,
) -> SendAnswer:
    """Send a text from a template, and wait until a provider has taken it or all of the channel have failed."""
    message = TemplatedMessage(ChannelGroup.MESSAGE, body.template_id, body.variables, body.preferred_provider)
    sent = await send(services, principal, message, _only(body.to), idempotency)
    return _answer(response, message.group, sent, services.config)


@router.post("/push/send", tags=["push"], responses=_SEND_ERRORS | _QUEUED, response_model_exclude_none=True)
async def send_push_notification(
    body: SendPushRequest,
    response: Response,
    principal: MessagesSend,
    services: ServicesDep,
    idempotency: _Idempotency,
) -> SendAnswer:
    """Send a notification to every device of a user, to a device or to a topic. It fails where no device got it."""
    message = TemplatedMessage(ChannelGroup.PUSH, body.template_id, body.variables, body.preferred_provider)
    recipients, field = _push_recipients(body, principal, services)
    sent = await send(services, principal, message, recipients, idempotency, field=field)
    answer = _answer(response, message.group, sent, services.config)
    if body.user_id is None:
        return answer
    return answer.model_copy(
        update={"results": [_delivery_answer(one, answer.message_id, services.config) for one in sent.deliveries]}
    )


def _push_recipients(body: SendPushRequest, principal: MessagesSend, services: Services) -> tuple[Recipients, str]:
    """The recipients, and the field that names them."""
    if body.user_id is not None:
        return partial(devices.tokens_of, services, principal, body.user_id), "userId"
    if body.device_token is not None:
        devices.check_token(body.device_token)
        return _only(body.device_token), "deviceToken"
    return _only(f"topic:{body.topic}"), "topic"


@router.post(
    "/email/send-bulk", tags=["email"], responses=_SEND_ERRORS | _BULK_QUEUED, response_model_exclude_none=True
)
async def send_bulk_email(
    body: SendBulkEmailRequest,
    response: Response,
    principal: MessagesSend,
    services: ServicesDep,
    idempotency: _Idempotency,
) -> BulkAnswer:
    """Send an e-mail to each recipient. One that is refused, or not sent, fails alone."""
    message = TemplatedMessage(
        ChannelGroup.EMAIL, body.template_id, body.variables, body.preferred_provider, body.subject
    )
    sent = await send_to_each(services, principal, message, body.recipients, idempotency)
    results = _bulk_results(response, body.recipients, sent, services.config)
    failed = sum(not one.success and not one.queued for one in results)
    queued = sum(one.queued is True for one in results)
    counts = f"{len(results) - failed - queued} sent, {failed} failed" + (f", {queued} queued" if queued else "")
    return BulkAnswer(message=f"Bulk email processed: {counts}", success=not failed, results=results)


@router.post(
    "/message/send-bulk", tags=["message"], responses=_SEND_ERRORS | _BULK_QUEUED, response_model_exclude_none=True
)
async def send_bulk_message(
    body: SendBulkMessageRequest,
    response: Response,
    principal: MessagesSend,
    services: ServicesDep,
    idempotency: _Idempotency,
) -> BulkAnswer:
    """Send a text to each recipient. One that is refused, or not sent, fails alone."""
    message = TemplatedMessage(ChannelGroup.MESSAGE, body.template_id, body.variables, body.preferred_provider)
    sent = await send_to_each(services, principal, message, body.recipients, idempotency)
    results = _bulk_results(response, body.recipients, sent, services.config)
    failed = any(not one.success and not one.queued for one in results)
    return BulkAnswer(message="Bulk message operation completed", success=not failed, results=results)


def _answer(response: Response, group: ChannelGroup, sent: Sent, config: ConfigCache) -> SendAnswer:
    """The answer to a message that a provider has taken, or that is queued."""
    if sent.replayed:
        response.headers["idempotent-replayed"] = "true"
    taken = sent.taken
    if taken is None:
        response.status_code = HTTPStatus.ACCEPTED
        return SendAnswer(message=f"{_NAMES[group]} queued", message_id=str(sent.message_id))
    return SendAnswer(
        message=f"{_NAMES[group]} sent successfully",
        message_id=str(sent.message_id),
        provider=None if taken.provider_id is None else provider_name(taken.provider_id, config),
        delivery_log_id=str(taken.id),
    )


def _bulk_results(
    response: Response, recipients: Sequence[str], sent: Sequence[Sent], config: ConfigCache
) -> list[DeliveryAnswer]:
    accepted = [one for one in sent if one.message_id is not None]
    if accepted and all(one.replayed for one in accepted):
        response.headers["idempotent-replayed"] = "true"
    if any(one.is_queued for one in sent):
        response.status_code = HTTPStatus.ACCEPTED
    return [_recipient_answer(*pair, config) for pair in zip(recipients, sent, strict=True)]


def _recipient_answer(recipient: str, sent: Sent, config: ConfigCache) -> DeliveryAnswer:
    if sent.deliveries:
        return _delivery_answer(sent.deliveries[0], str(sent.message_id), config, recipient=recipient)
    if sent.is_queued:
        return DeliveryAnswer(recipient=recipient, success=False, message_id=str(sent.message_id), queued=True)
    return DeliveryAnswer(recipient=recipient, success=False, error=str(sent.error))


def _delivery_answer(
    delivery: DeliveryResult, message_id: str, config: ConfigCache, *, recipient: str | None = None
) -> DeliveryAnswer:
    error = failure_of([delivery])
    return DeliveryAnswer(
        recipient=recipient or delivery.recipient,
        success=delivery.state not in NOT_SENT,
        message_id=message_id,
        provider=None if delivery.provider_id is None else provider_name(delivery.provider_id, config),
        delivery_log_id=str(delivery.id),
        error=None if error is None else str(error),
    )


# -- retries -------------------------------------------------------------------------------------------------------


@router.post("/email/retry", tags=["email"], responses=errors_of(NotRetryable, ChannelDisabled, QuotaExceeded))
async def retry_email(body: RetryRequest, principal: MessagesSend, services: ServicesDep) -> RetryAnswer:
    """Queue an e-mail that failed again, as a new message, which is retried until it expires. An entry of the log is
    retried once: a retry that fails has an entry of its own.
    """
    [result] = await retry(services, principal, ChannelGroup.EMAIL.channels, [body.delivery_log_id])
    if isinstance(result, ApiError):
        raise result
    return RetryAnswer(message="Email added to retry queue successfully", message_id=str(result.message_id))


@router.post("/email/retry-multiple", tags=["email"], responses=errors_of(), response_model_exclude_none=True)
async def retry_emails(
    body: RetryMultipleRequest, principal: MessagesSend, services: ServicesDep
) -> RetryMultipleAnswer:
    """Queue e-mails that failed again. An entry that cannot be retried has an error and keeps no other one back."""
    results = await retry(services, principal, ChannelGroup.EMAIL.channels, body.delivery_log_ids)
    return RetryMultipleAnswer(
        message="Emails processed for retry",
        results=[
            RetryResult(delivery_log_id=entry, success=False, error=str(one))
            if isinstance(one, ApiError)
            else RetryResult(delivery_log_id=entry, success=True, message_id=str(one.message_id))
            for entry, one in zip(body.delivery_log_ids, results, strict=True)
        ],
    )


# -- queues --------------------------------------------------------------------------------------------------------

_STATISTICS = (
    "`pending` and `processing` are now; `failed` and `completed` are of the messages of the last 24 hours. Each "
    f"number is exact up to {WINDOW:,}."
)


async def _statistics(group: ChannelGroup, principal: MessagesRead, services: Services) -> QueueStatisticsAnswer:
    return QueueStatisticsAnswer(**asdict(await delivery_log.count_queue(services, principal, group)))


@router.get("/email/queue-stats", tags=["email"], responses=errors_of(), description=_STATISTICS)
async def get_email_queue(principal: MessagesRead, services: ServicesDep) -> QueueStatisticsAnswer:
    """See ``description``."""
    return await _statistics(ChannelGroup.EMAIL, principal, services)


@router.get("/message/queue-stats", tags=["message"], responses=errors_of(), description=_STATISTICS)
async def get_message_queue(principal: MessagesRead, services: ServicesDep) -> QueueStatisticsAnswer:
    """See ``description``."""
    return await _statistics(ChannelGroup.MESSAGE, principal, services)


@router.get("/push/queue-stats", tags=["push"], responses=errors_of(), description=_STATISTICS)
async def get_push_queue(principal: MessagesRead, services: ServicesDep) -> QueueStatisticsAnswer:
    """See ``description``."""
    return await _statistics(ChannelGroup.PUSH, principal, services)
