"""Provider calls over an SMPP session that its owner keeps bound."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.providers.kit.smpp_status import ROK, StatusClass
from sluice.providers.kit.smpp_types import SmppResponse, SmppSubmission
from sluice.transports.provider_call import NoAnswerError, NotSentError, OnProgress, ignore_progress
from sluice.transports.smpp.contract import Accepted, NotSent, OutboundSms, Refused, Unknown
from sluice.transports.smpp.encoding import EncodingError
from sluice.transports.smpp.pdu import Address, PduError
from sluice.transports.smpp.receipt import MessageIdFormat, comparable_id
from sluice.transports.smpp.session import SmppSession


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitSettings:
    """How the link submits. A type of number or numbering plan of None follows from the form of the sender."""

    source_ton: int | None = None
    source_npi: int | None = None
    dest_ton: int = 1
    dest_npi: int = 1
    receipts: bool = True
    response_timeout: float = 60.0  # seconds, for a place in the window and all answers to one message
    message_ids: MessageIdFormat = MessageIdFormat.AS_IS

    def source(self, sender: str) -> Address:
        """The source address; without a sender an empty one, which the SMSC may fill."""
        usual = Address.of(sender) if sender else Address(0, 0, "")
        return Address(
            usual.ton if self.source_ton is None else self.source_ton,
            usual.npi if self.source_npi is None else self.source_npi,
            usual.value,
        )


class SmppTransport:
    """Submits over ``session``; without one nothing is sent. Its owner sets and removes the session."""

    def __init__(self, settings: SubmitSettings) -> None:
        self._settings = settings
        self.session: SmppSession | None = None

    async def exchange(
        self, request: SmppSubmission, *, deadline: float, on_progress: OnProgress = ignore_progress
    ) -> SmppResponse:
        """Submit every segment once. A message that does not fit into SMPP is declined without a status."""
        if self.session is None:
            raise NotSentError("this worker holds no bind of the SMS link")
        settings = self._settings
        destination = Address(settings.dest_ton, settings.dest_npi, request.recipient.removeprefix("+"))
        sms = OutboundSms(
            reference=request.reference,
            source=settings.source(request.sender),
            destination=destination,
            text=request.text,
            receipt=settings.receipts,
        )
        timeout = min(deadline, settings.response_timeout)
        on_progress(timeout)
        try:
            result = await self.session.submit(sms, timeout=timeout)
        except (EncodingError, PduError) as error:
            return SmppResponse(None, StatusClass.DECLINED, str(error))
        match result:
            case Accepted(ids):
                return SmppResponse(ROK, None, message_ids=ids, receipt_ids=self.receipt_ids(ids))
            case Refused(status, status_class, text, ids):
                return SmppResponse(status, status_class, text, ids)
            case NotSent(reason):
                raise NotSentError(reason)
            case Unknown(reason):
                raise NoAnswerError(reason)

    def receipt_ids(self, message_ids: tuple[str, ...]) -> tuple[str, ...]:
        """The comparable ids of a response, each once; an SMSC may give all segments one id, or none."""
        form = self._settings.message_ids
        comparable = (comparable_id(each, form, of_receipt=False) for each in message_ids if each.strip())
        return tuple(dict.fromkeys(comparable))
