"""Serving an SMTP far end: which reply the script wants, and where in the dialogue."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from uuid import uuid4

from sluice.providers.kit.smtp_types import Phase
from sluice_simulator.endpoint import Door, Verdict
from sluice_simulator.scenario import Do
from sluice_simulator.smtp_server import Envelope, How, Turn

# Where it happens unless the rule says: as late as possible for what concerns the mail, at the recipient for
# what concerns him.
PHASES: Mapping[Do, Phase] = {Do.REJECT: Phase.RCPT, Do.THROTTLE: Phase.RCPT, Do.AUTH: Phase.RCPT}

_BUSY = "450 4.7.1 Rate limit exceeded, try again later"
_DOWN = "451 4.3.0 Temporary service failure"
# What real servers say (Postfix, SES, Exchange); a phase not listed says the same as "".
REPLIES: Mapping[Do, Mapping[Phase | str, str]] = {
    Do.REJECT: {
        Phase.MAIL: "552 5.3.4 Message size exceeds fixed limit",
        Phase.DATA: "554 5.7.1 Message refused by policy",
        Phase.DOT: "554 5.7.1 Message refused by policy",
        "": "550 5.1.1 Recipient address rejected: User unknown",
    },
    Do.THROTTLE: {
        Phase.GREETING: "421 4.7.0 Too many concurrent SMTP connections",
        Phase.DOT: "454 Throttling failure: Maximum sending rate exceeded.",
        "": _BUSY,
    },
    Do.AUTH: {
        Phase.AUTH: "535 5.7.8 Authentication credentials invalid",
        Phase.MAIL: "550 5.7.1 Sender not allowed for this account",
        Phase.RCPT: "550 5.7.1 Relay access denied, please authenticate",
        "": "554 Message rejected: Email address is not verified.",
    },
    Do.FAULT: {
        Phase.GREETING: "421 4.3.2 Service not available",
        Phase.TLS: "454 4.7.0 TLS not available",
        Phase.AUTH: "454 4.7.0 Temporary authentication failure",
        "": _DOWN,
    },
    Do.GARBAGE: {"": "welcome to the hotel's network"},
}
HOWS: Mapping[Do, How] = {
    Do.HANG: How.HANG,
    Do.ACCEPT_SILENT: How.HANG,
    Do.DRIP: How.DRIP,
    Do.RESET: How.RESET,
    Do.ACCEPT_RESET: How.RESET,
    Do.ACCEPT_500: How.RESET,  # SMTP has no ambiguous refusal: a 4xx or 5xx to the dot means "not taken"
}

_MESSAGE_ID = re.compile(rb"(?im)^X-Sluice-Message-Id: *(\S+)")


class SmtpDoor:
    """The desk of an SMTP door."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def turn(self, phase: Phase, envelope: Envelope, usual: str) -> Turn:
        verdict = self._verdict(phase, envelope)
        if phase is Phase.DOT:
            return self._dot(verdict or Verdict(Do.ACCEPT, 0.0, self._door.own_rule), envelope)
        if verdict is None or verdict.do is Do.ACCEPT:
            return Turn(usual)
        return self._early(verdict, phase, envelope, usual)

    def _verdict(self, phase: Phase, envelope: Envelope) -> Verdict | None:
        """The verdict that takes effect at this phase."""
        own = self._door.own_rule
        if phase is Phase.RCPT:
            self._judge(envelope)
        if phase in (Phase.RCPT, Phase.DATA, Phase.DOT):
            verdict = envelope.note
            if not isinstance(verdict, Verdict):
                return None
            return verdict if _phase(verdict, own_rule=verdict.rule is own) is phase else None
        return self._door.judge("") if own.phase is phase else None

    def _judge(self, envelope: Envelope) -> None:
        """The first recipient decides about the mail, unless a later one has a rule of its own."""
        recipient = envelope.recipients[-1]
        first = len(envelope.recipients) == 1
        if first or self._door.has_rule(recipient):
            envelope.note = self._door.judge(recipient)

    def _early(self, verdict: Verdict, phase: Phase, envelope: Envelope, usual: str) -> Turn:
        text = _text(verdict, phase) or usual
        how = HOWS.get(verdict.do, How.SAY)
        return Turn(text, how, verdict.delay, lambda said: self._record(verdict, phase, envelope, said, None))

    def _dot(self, verdict: Verdict, envelope: Envelope) -> Turn:
        if not verdict.do.takes:
            return self._early(verdict, Phase.DOT, envelope, _DOWN)
        provider_ref = uuid4().hex[:16].upper()
        return Turn(
            f"250 2.0.0 Ok: queued as {provider_ref}",
            HOWS.get(verdict.do, How.SAY),
            verdict.delay,
            lambda said: self._record(verdict, Phase.DOT, envelope, said, provider_ref),
        )

    def _record(self, verdict: Verdict, phase: Phase, envelope: Envelope, said: bool, provider_ref: str | None) -> None:
        message_id = _MESSAGE_ID.search(envelope.message[:16384])
        self._door.record(
            accepted=provider_ref is not None,
            answered=said,
            verdict=verdict.do,
            status=phase,
            reference=envelope.envelope_id,
            key=None,
            message_id=message_id[1].decode("latin-1") if message_id else None,
            recipient=envelope.recipients[0] if envelope.recipients else None,
            recipients=len(envelope.recipients),
            body=sha256(envelope.message).hexdigest() if envelope.message else None,
            provider_ref=provider_ref,
        )


def _phase(verdict: Verdict, *, own_rule: bool) -> Phase:
    """Where a verdict takes effect. A rule for a recipient cannot do so before he is known."""
    phase = verdict.rule.phase or PHASES.get(verdict.do, Phase.DOT)
    early = phase not in (Phase.RCPT, Phase.DATA, Phase.DOT)
    return Phase.RCPT if early and not own_rule else phase


def _text(verdict: Verdict, phase: Phase) -> str | None:
    """The rule's own words, or what real servers say; None for a verdict that only changes how it is said."""
    if verdict.do not in REPLIES:
        return None
    if verdict.rule.code and re.match(r"[245]\d\d ", verdict.rule.code):
        return verdict.rule.code
    replies = REPLIES[verdict.do]
    return replies.get(phase, replies[""])
