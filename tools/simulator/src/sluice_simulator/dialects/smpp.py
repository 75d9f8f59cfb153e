"""SMPP's dialect: the status of each refusal, and the states of receipts (SMPP 3.4 Issue 1.2, 5.1.3, 5.2.28)."""

from __future__ import annotations

from sluice.providers.contract import TransportKind
from sluice_simulator.dialect import Dialect, SmppDialect
from sluice_simulator.scenario import Behaviour

SMPP = Dialect(
    name="smpp",
    package="provider-messagepipe",
    transport=TransportKind.SMPP,
    default_port=2775,
    smpp=SmppDialect(
        statuses={
            Behaviour.REJECT: 0x0B,  # ESME_RINVDSTADR
            Behaviour.THROTTLE: 0x58,  # ESME_RTHROTTLED
            Behaviour.AUTH: 0x0F,  # ESME_RINVSYSID
            Behaviour.FAULT: 0x08,  # ESME_RSYSERR
            Behaviour.DECLINE: 0x01,  # ESME_RINVMSGLEN
            Behaviour.DECLINE_ACCOUNT: 0x101,  # ESME_RPROHIBITED, of 5.0
        },
        states={
            "sent": ("ENROUTE", 1),
            "delivered": ("DELIVRD", 2),
            "expired": ("EXPIRED", 3),
            "bounced": ("UNDELIV", 5),
            "failed": ("REJECTD", 8),
        },
    ),
)
