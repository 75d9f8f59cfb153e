"""Serving an SMTP dialect: which reply the scenario asks for, and at which phase of the dialogue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from uuid import uuid4

from sluice.providers.kit.smtp_types import Phase
from sluice_simulator.dialect import SmtpDialect
from sluice_simulator.endpoint import Decision, Endpoint
from sluice_simulator.listener import Listener
from sluice_simulator.scenario import Behaviour
from sluice_simulator.smtp_server import Envelope, Reply, ReplyMode, SmtpSettings, listen_smtp

DELIVERY_MODES: Mapping[Behaviour, ReplyMode] = {
    Behaviour.HANG: ReplyMode.HANG,
    Behaviour.ACCEPT_SILENT: ReplyMode.HANG,
    Behaviour.DRIP: ReplyMode.DRIP,
    Behaviour.RESET: ReplyMode.RESET,
    Behaviour.ACCEPT_RESET: ReplyMode.RESET,
    Behaviour.ACCEPT_500: ReplyMode.RESET,  # a 4xx or 5xx at end of data means "not taken"
}

_MESSAGE_ID = re.compile(rb"(?im)^X-Sluice-Message-Id: *(\S+)")


class SmtpEndpoint:
    """The handler of an SMTP endpoint."""

    def __init__(self, endpoint: Endpoint, dialect: SmtpDialect) -> None:
        self._endpoint = endpoint
        self._dialect = dialect

    def reply(self, phase: Phase, envelope: Envelope, default: str) -> Reply:
        before = envelope.handler_state
        decision = self._decision(phase, envelope)
        if phase is Phase.RCPT and decision is not None and decision.behaviour is not Behaviour.ACCEPT:
            envelope.handler_state = before  # a refusal here is about this recipient, and not about the others
        if phase is Phase.END_OF_DATA:
            return self._end_of_data(decision or Decision(Behaviour.ACCEPT, 0.0, self._endpoint.default_rule), envelope)
        if decision is None or decision.behaviour is Behaviour.ACCEPT:
            return Reply(default)
        return self._reject_early(decision, phase, envelope, default)

    def _decision(self, phase: Phase, envelope: Envelope) -> Decision | None:
        """The decision that takes effect at this phase."""
        own = self._endpoint.default_rule
        if phase is Phase.RCPT:
            self._decide(envelope)
        if phase in (Phase.RCPT, Phase.DATA, Phase.END_OF_DATA):
            decision = envelope.handler_state
            if not isinstance(decision, Decision):
                return None
            return decision if self._phase(decision, default_rule=decision.rule is own) is phase else None
        return self._endpoint.decide("") if own.phase is phase else None

    def _decide(self, envelope: Envelope) -> None:
        """The first recipient decides, unless a later one has a rule of its own."""
        recipient = envelope.recipients[-1]
        first = len(envelope.recipients) == 1
        if first or self._endpoint.has_rule(recipient):
            envelope.handler_state = self._endpoint.decide(recipient)

    def _reject_early(self, decision: Decision, phase: Phase, envelope: Envelope, default: str) -> Reply:
        text = self._text(decision, phase) or default
        mode = DELIVERY_MODES.get(decision.behaviour, ReplyMode.SEND)
        return Reply(text, mode, decision.delay, lambda said: self._record(decision, phase, envelope, said, None))

    def _end_of_data(self, decision: Decision, envelope: Envelope) -> Reply:
        if not decision.behaviour.takes:
            return self._reject_early(decision, Phase.END_OF_DATA, envelope, "451 4.3.0 Temporary service failure")
        provider_message_id = uuid4().hex[:16].upper()
        return Reply(
            f"250 2.0.0 Ok: queued as {provider_message_id}",
            DELIVERY_MODES.get(decision.behaviour, ReplyMode.SEND),
            decision.delay,
            lambda said: self._record(decision, Phase.END_OF_DATA, envelope, said, provider_message_id),
        )

    def _phase(self, decision: Decision, *, default_rule: bool) -> Phase:
        """Where a decision takes effect. A rule for a recipient cannot do so before the recipient is named."""
        phase = decision.rule.phase or self._dialect.phases.get(decision.behaviour, Phase.END_OF_DATA)
        early = phase not in (Phase.RCPT, Phase.DATA, Phase.END_OF_DATA)
        return Phase.RCPT if early and not default_rule else phase

    def _text(self, decision: Decision, phase: Phase) -> str | None:
        """The rule's own reply, or the dialect's; None for a behaviour that only changes how a reply is sent."""
        replies = self._dialect.replies.get(decision.behaviour)
        if replies is None:
            return None
        if decision.rule.code and re.match(r"[245]\d\d ", decision.rule.code):
            return decision.rule.code
        return replies.get(phase, replies[""])

    def _record(
        self, decision: Decision, phase: Phase, envelope: Envelope, said: bool, provider_message_id: str | None
    ) -> None:
        # A reply to RCPT is about the newest recipient; later ones are about all that were accepted.
        concerned = envelope.recipients[-1:] if phase is Phase.RCPT else envelope.recipients
        message_id = _MESSAGE_ID.search(envelope.message[:16384])
        self._endpoint.record(
            accepted=provider_message_id is not None,
            answered=said,
            decision=decision,
            behaviour=decision.behaviour,
            status=phase,
            reference=envelope.envelope_id,
            key=None,
            message_id=message_id[1].decode("latin-1") if message_id else None,
            recipient=next(iter(concerned), None),
            recipients=len(concerned),
            body=sha256(envelope.message).hexdigest() if envelope.message else None,
            provider_message_id=provider_message_id,
        )


async def serve(endpoint: Endpoint, host: str, port: int, settings: SmtpSettings) -> Listener:
    """Serve until the listener is closed; ``port`` 0 takes a free one."""
    assert endpoint.dialect.smtp is not None
    return await listen_smtp(SmtpEndpoint(endpoint, endpoint.dialect.smtp), settings, host, port)
