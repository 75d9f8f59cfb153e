"""Serving an SMTP far end: which reply the script wants, and where in the dialogue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from uuid import uuid4

from sluice.providers.kit.smtp_types import Phase
from sluice_simulator.endpoint import Decision, Endpoint
from sluice_simulator.scenario import Behaviour
from sluice_simulator.smtp_server import Envelope, Reply, ReplyMode

# Where it happens unless the rule says: as late as possible for what concerns the mail, at the recipient for
# what concerns him.
PHASES: Mapping[Behaviour, Phase] = {
    Behaviour.REJECT: Phase.RCPT,
    Behaviour.THROTTLE: Phase.RCPT,
    Behaviour.AUTH: Phase.RCPT,
}

_BUSY = "450 4.7.1 Rate limit exceeded, try again later"
_DOWN = "451 4.3.0 Temporary service failure"
# What real servers say (Postfix, SES, Exchange); a phase not listed says the same as "".
REPLIES: Mapping[Behaviour, Mapping[Phase | str, str]] = {
    Behaviour.REJECT: {
        Phase.MAIL: "552 5.3.4 Message size exceeds fixed limit",
        Phase.DATA: "554 5.7.1 Message refused by policy",
        Phase.END_OF_DATA: "554 5.7.1 Message refused by policy",
        "": "550 5.1.1 Recipient address rejected: User unknown",
    },
    Behaviour.THROTTLE: {
        Phase.GREETING: "421 4.7.0 Too many concurrent SMTP connections",
        Phase.END_OF_DATA: "454 Throttling failure: Maximum sending rate exceeded.",
        "": _BUSY,
    },
    Behaviour.AUTH: {
        Phase.AUTH: "535 5.7.8 Authentication credentials invalid",
        Phase.MAIL: "550 5.7.1 Sender not allowed for this account",
        Phase.RCPT: "550 5.7.1 Relay access denied, please authenticate",
        "": "554 Message rejected: Email address is not verified.",
    },
    Behaviour.FAULT: {
        Phase.GREETING: "421 4.3.2 Service not available",
        Phase.TLS: "454 4.7.0 TLS not available",
        Phase.AUTH: "454 4.7.0 Temporary authentication failure",
        "": _DOWN,
    },
    Behaviour.GARBAGE: {"": "welcome to the hotel's network"},
}
DELIVERY_MODES: Mapping[Behaviour, ReplyMode] = {
    Behaviour.HANG: ReplyMode.HANG,
    Behaviour.ACCEPT_SILENT: ReplyMode.HANG,
    Behaviour.DRIP: ReplyMode.DRIP,
    Behaviour.RESET: ReplyMode.RESET,
    Behaviour.ACCEPT_RESET: ReplyMode.RESET,
    Behaviour.ACCEPT_500: ReplyMode.RESET,  # SMTP has no ambiguous refusal: a 4xx or 5xx to the dot means "not taken"
}

_MESSAGE_ID = re.compile(rb"(?im)^X-Sluice-Message-Id: *(\S+)")


class SmtpEndpoint:
    """The desk of an SMTP door."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def reply(self, phase: Phase, envelope: Envelope, usual: str) -> Reply:
        decision = self._decision(phase, envelope)
        if phase is Phase.END_OF_DATA:
            return self._end_of_data(decision or Decision(Behaviour.ACCEPT, 0.0, self._endpoint.default_rule), envelope)
        if decision is None or decision.behaviour is Behaviour.ACCEPT:
            return Reply(usual)
        return self._reject_early(decision, phase, envelope, usual)

    def _decision(self, phase: Phase, envelope: Envelope) -> Decision | None:
        """The verdict that takes effect at this phase."""
        own = self._endpoint.default_rule
        if phase is Phase.RCPT:
            self._decide(envelope)
        if phase in (Phase.RCPT, Phase.DATA, Phase.END_OF_DATA):
            decision = envelope.handler_state
            if not isinstance(decision, Decision):
                return None
            return decision if _phase(decision, default_rule=decision.rule is own) is phase else None
        return self._endpoint.decide("") if own.phase is phase else None

    def _decide(self, envelope: Envelope) -> None:
        """The first recipient decides about the mail, unless a later one has a rule of its own."""
        recipient = envelope.recipients[-1]
        first = len(envelope.recipients) == 1
        if first or self._endpoint.has_rule(recipient):
            envelope.handler_state = self._endpoint.decide(recipient)

    def _reject_early(self, decision: Decision, phase: Phase, envelope: Envelope, usual: str) -> Reply:
        text = _text(decision, phase) or usual
        how = DELIVERY_MODES.get(decision.behaviour, ReplyMode.SEND)
        return Reply(text, how, decision.delay, lambda said: self._record(decision, phase, envelope, said, None))

    def _end_of_data(self, decision: Decision, envelope: Envelope) -> Reply:
        if not decision.behaviour.takes:
            return self._reject_early(decision, Phase.END_OF_DATA, envelope, _DOWN)
        provider_message_id = uuid4().hex[:16].upper()
        return Reply(
            f"250 2.0.0 Ok: queued as {provider_message_id}",
            DELIVERY_MODES.get(decision.behaviour, ReplyMode.SEND),
            decision.delay,
            lambda said: self._record(decision, Phase.END_OF_DATA, envelope, said, provider_message_id),
        )

    def _record(
        self, decision: Decision, phase: Phase, envelope: Envelope, said: bool, provider_message_id: str | None
    ) -> None:
        message_id = _MESSAGE_ID.search(envelope.message[:16384])
        self._endpoint.record(
            accepted=provider_message_id is not None,
            answered=said,
            behaviour=decision.behaviour,
            status=phase,
            reference=envelope.envelope_id,
            key=None,
            message_id=message_id[1].decode("latin-1") if message_id else None,
            recipient=envelope.recipients[0] if envelope.recipients else None,
            recipients=len(envelope.recipients),
            body=sha256(envelope.message).hexdigest() if envelope.message else None,
            provider_message_id=provider_message_id,
        )


def _phase(decision: Decision, *, default_rule: bool) -> Phase:
    """Where a verdict takes effect. A rule for a recipient cannot do so before he is known."""
    phase = decision.rule.phase or PHASES.get(decision.behaviour, Phase.END_OF_DATA)
    early = phase not in (Phase.RCPT, Phase.DATA, Phase.END_OF_DATA)
    return Phase.RCPT if early and not default_rule else phase


def _text(decision: Decision, phase: Phase) -> str | None:
    """The rule's own words, or what real servers say; None for a verdict that only changes how it is said."""
    if decision.behaviour not in REPLIES:
        return None
    if decision.rule.code and re.match(r"[245]\d\d ", decision.rule.code):
        return decision.rule.code
    replies = REPLIES[decision.behaviour]
    return replies.get(phase, replies[""])
