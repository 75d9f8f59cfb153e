"""One provider call, from a message to an outcome. No behaviour of a provider becomes an exception."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import httpx
import structlog

from sluice.model.address import InvalidAddressError
from sluice.model.message import Email
from sluice.model.outcome import Accepted, AuthFailed, Declined, Divided, Outcome, Part, ProviderFault, Scope, Unknown
from sluice.model.reasons import Reason
from sluice.providers.contract import AnyPackage, Credentials, OutboundMessage, TransportKind, UnsupportedMessageError
from sluice.providers.kit.credentials import secrets_of
from sluice.providers.kit.redaction import redact
from sluice.runtime.deadline import Deadline

GRACE = 1.0  # seconds past the deadline after which a transport that does not keep it is cancelled


class NotSentError(Exception):
    """The message was definitely not sent: another provider may be tried. The text is a reason."""


class NotAllowedError(NotSentError):
    """The account names a host that may not be connected to: nothing was sent. The text is a reason."""


class NoAnswerError(Exception):
    """The message was written and no response came: it may have been taken. The text is a reason."""


Q_contra = TypeVar("Q_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)


OnProgress = Callable[[float], None]
"""Called by a transport when a step of the call begins, with the seconds that it may take.

The first call says nothing about the provider; each further one says that a step has ended, so that this call does not
hang. HTTP and SMPP have one step, whose end is the response. SMTP has one for each answer that it waits for, and for
each block of the mail.
"""


def ignore_progress(_: float) -> None:
    """For a caller that waits for the response only."""


class Transport(Protocol[Q_contra, A_co]):
    """Sends a request and returns the response.

    ``deadline``: seconds from now for everything; each step has a time limit of the transport's own besides. Raises
    NotSentError or NoAnswerError only.
    """

    async def exchange(
        self, request: Q_contra, *, deadline: float, on_progress: OnProgress = ignore_progress
    ) -> A_co: ...


Transports = Mapping[TransportKind, Transport[Any, Any]]


async def call_provider(
    package: AnyPackage,
    message: OutboundMessage,
    credentials: Credentials,
    transports: Transports,
    *,
    deadline: float,
    on_progress: OnProgress = ignore_progress,
) -> Outcome | Divided:
    """Send one message through one provider; ``deadline``: seconds for everything, connecting included."""
    outcome = await _attempt(package, message, credentials, transports, deadline, on_progress)
    if isinstance(outcome, Accepted):
        return outcome
    if (
        isinstance(outcome, Declined)
        and outcome.reason is Reason.SENDER
        and _is_accounts_sender(package, message, credentials, outcome)
    ):
        outcome = replace(outcome, scope=Scope.ACCOUNT)  # another message would have the same one
    secrets = [*_recipients(message), *secrets_of(credentials)]
    if isinstance(outcome, Divided):
        return Divided(tuple(Part(part.recipients, _redact(part.outcome, secrets)) for part in outcome.parts))
    return _redact(outcome, secrets)


def _is_accounts_sender(
    package: AnyPackage, message: OutboundMessage, credentials: Credentials, refusal: Declined
) -> bool:
    """Whether the account supplied the sender that was refused, by its settings or as its default.

    The requests are compared because a package that had to say so could forget it: the message's sender is in the
    call exactly if the request changes with it.
    """
    if package.names_sender is not None:
        return package.names_sender(credentials, refusal)
    if "sender" not in type(message.content).model_fields:
        return False  # the refusal is about another kind of sender, such as the project of a device
    anonymous = replace(message, content=message.content.model_copy(update={"sender": ""}))
    try:
        return _comparable(package.build(anonymous, credentials)) == _comparable(package.build(message, credentials))
    except Exception:  # whatever it raises, the package does not build the message without its sender
        return False


def _comparable(request: object) -> object:
    if isinstance(request, httpx.Request):
        return request.method, request.url, request.headers, request.read()
    return request


def _redact(outcome: Outcome, secrets: Sequence[str]) -> Outcome:
    if isinstance(outcome, Accepted):
        return outcome
    return replace(outcome, detail=redact(outcome.detail, secrets=secrets))


async def _attempt(
    package: AnyPackage,
    message: OutboundMessage,
    credentials: Credentials,
    transports: Transports,
    deadline: float,
    on_progress: OnProgress,
) -> Outcome | Divided:
    try:
        request = package.build(message, credentials)
        if package.http_timeout is not None:
            request.extensions["timeout"] = {"read": package.http_timeout(credentials)}
    except UnsupportedMessageError as error:
        return Declined(Reason.UNSUPPORTED, str(error))
    except InvalidAddressError as error:
        return Declined(Reason.INVALID_ADDRESS, f"an address of the message {error}")
    except Exception as error:  # a bug of the package; its text may quote the message
        _log_adapter_bug("package_build_failed", package, message, error)
        return Declined(Reason.INVALID_CONTENT, f"the message could not be built ({type(error).__name__})")
    try:
        with Deadline(deadline + GRACE):
            response = await transports[package.transport].exchange(request, deadline=deadline, on_progress=on_progress)
    except NotAllowedError as error:
        return AuthFailed(f"not sent: {error}")
    except NotSentError as error:
        return ProviderFault(f"not sent: {error}")
    except NoAnswerError as error:
        return Unknown(f"no answer: {error}")
    except Exception as error:  # a bug of the transport: how much it wrote is unknown
        _log().exception("transport_failed", package=package.name, transport=package.transport)
        return Unknown(f"the transport failed ({type(error).__name__})")
    try:
        return package.classify(response)
    except Exception as error:
        _log_adapter_bug("package_classify_failed", package, message, error)
        return Unknown(f"the response could not be read ({type(error).__name__})")


def _recipients(message: OutboundMessage) -> Iterator[str]:
    yield message.recipient
    if isinstance(message.content, Email):
        yield from (*message.content.to, *message.content.cc, *message.content.bcc)


def _log_adapter_bug(event: str, package: AnyPackage, message: OutboundMessage, error: Exception) -> None:
    # No traceback text: a frame's message can quote the content. The place is enough to find it.
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    _log().error(
        event,
        package=package.name,
        message_id=message.message_id,
        reference=message.reference,
        error=type(error).__name__,
        line=f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else None,
    )


def _log() -> Any:
    return structlog.get_logger("sluice.transports")
