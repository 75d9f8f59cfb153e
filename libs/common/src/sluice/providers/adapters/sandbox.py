"""The sandbox: accepts every message, sends none, and keeps each for ``sluice captured``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sluice.model import ids
from sluice.model.message import Channel, ChatMessage, Email, Push, Sms, Whatsapp
from sluice.model.outcome import Accepted, Outcome, RecipientRejected, Scope, Throttled, Unknown
from sluice.model.reasons import Reason
from sluice.model.state import EventType
from sluice.providers.contract import Credentials, OutboundMessage, Package, TransportKind
from sluice.providers.magic_recipients import MagicRecipient, magic_recipient_of, receipts_of

SANDBOX_PROVIDER_ID = UUID("00000000-0000-7000-8000-000000000000")
"""The provider id of the sandbox, which every project has and which has no row."""


class SandboxCredentials(Credentials):
    """None are needed."""


@dataclass(frozen=True, slots=True)
class CaptureRequest:
    """A message to capture; ``reference`` is its key, so that a retry captures nothing new."""

    reference: str
    message_id: str
    recipient: str
    content: Email | Sms | Whatsapp | ChatMessage | Push
    magic: MagicRecipient | None = None

    @property
    def refusal(self) -> MagicRecipient | None:
        """The magic recipient, if this attempt does not take the message: nothing is captured."""
        refused = self.magic is MagicRecipient.FAILED
        return self.magic if refused or (self.magic is MagicRecipient.THROTTLED and self._is_first) else None

    @property
    def receipts(self) -> tuple[EventType, ...]:
        """The receipts that follow, in order."""
        return receipts_of(self.magic)

    @property
    def _is_first(self) -> bool:
        return ids.parse_attempt_reference(self.reference)[1] == 1


@dataclass(frozen=True, slots=True)
class CaptureResult:
    """The message is kept under this id. ``magic``: the recipient, where the answer is not acceptance."""

    capture_id: str
    magic: MagicRecipient | None = None


def build(message: OutboundMessage, _: SandboxCredentials) -> CaptureRequest:
    """The message as it is."""
    magic = magic_recipient_of(message.content, message.recipient)
    return CaptureRequest(message.reference, message.message_id, message.recipient, message.content, magic)


_DETAIL = "the sandbox's answer to this magic recipient"


def classify(result: CaptureResult) -> Outcome:
    """Accepted, but for magic recipients: a capture that cannot be written raises in the transport."""
    match result.magic:
        case MagicRecipient.FAILED:
            return RecipientRejected(Reason.UNKNOWN_RECIPIENT, _DETAIL)
        case MagicRecipient.THROTTLED:
            return Throttled(_DETAIL, retry_after=timedelta(seconds=1), scope=Scope.PAIR)
        case MagicRecipient.UNKNOWN:
            return Unknown(_DETAIL)
        case _:
            return Accepted(result.capture_id)


SANDBOX = Package(
    name="provider-sandbox",
    title="Sandbox",
    channels=tuple(Channel),
    credentials=SandboxCredentials,
    transport=TransportKind.SANDBOX,
    build=build,
    classify=classify,
    idempotent=True,
    max_recipients=50,
    supports_attachments=True,
    supports_html=True,
)
