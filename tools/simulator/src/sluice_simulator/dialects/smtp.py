"""SMTP's dialect: the replies of a submission server. The facts are those of sluice/providers/adapters/smtp.py."""

from __future__ import annotations

from collections.abc import Mapping

from sluice.providers.contract import TransportKind
from sluice.providers.kit.smtp_types import Phase
from sluice_simulator.dialect import Dialect, SmtpDialect
from sluice_simulator.scenario import Behaviour

# Where a behaviour takes effect unless the rule names a phase; as late as possible for one that is not here.
PHASES: Mapping[Behaviour, Phase] = {
    Behaviour.REJECT: Phase.RCPT,
    Behaviour.THROTTLE: Phase.RCPT,
    Behaviour.AUTH: Phase.RCPT,
    Behaviour.DECLINE: Phase.END_OF_DATA,
    Behaviour.DECLINE_ACCOUNT: Phase.RCPT,
}

_BUSY = "450 4.7.1 Rate limit exceeded, try again later"
_DOWN = "451 4.3.0 Temporary service failure"
# Replies of real servers (Postfix, SES, Exchange).
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
        Phase.MAIL: "530 5.7.0 Authentication required",
        Phase.RCPT: "550 5.7.1 Relay access denied, please authenticate",
        "": "554 Access denied: User is not authorized to perform this action",
    },
    Behaviour.FAULT: {
        Phase.GREETING: "421 4.3.2 Service not available",
        Phase.TLS: "454 4.7.0 TLS not available",
        Phase.AUTH: "454 4.7.0 Temporary authentication failure",
        "": _DOWN,
    },
    Behaviour.DECLINE: {
        Phase.MAIL: "552 5.3.4 Message size exceeds fixed limit",
        Phase.RCPT: "553 5.7.1 <no-reply@example.com>: Sender address rejected: not owned by user",
        "": "552 5.2.3 Message exceeds the administrative limit",
    },
    Behaviour.DECLINE_ACCOUNT: {
        Phase.GREETING: "554 5.7.1 Service unavailable; client host blocked using a block list",
        Phase.EHLO: "550 5.7.1 Helo command rejected: host not found",
        Phase.END_OF_DATA: "550 5.4.5 Daily user sending limit exceeded",
        "": "554 5.7.1 Service unavailable; client host blocked using a block list",
    },
    Behaviour.GARBAGE: {"": "welcome to the hotel's network"},
}

SMTP = Dialect(
    name="smtp",
    package="provider-smtp",
    transport=TransportKind.SMTP,
    default_port=2526,
    smtp=SmtpDialect(REPLIES, PHASES),
)
