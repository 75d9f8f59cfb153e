"""Every far end there is. A new one is a module beside this one and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from sluice.providers.contract import TransportKind
from sluice_simulator.dialect import Dialect
from sluice_simulator.dialects.resend import RESEND
from sluice_simulator.dialects.twilio_sms import TWILIO

SMTP = Dialect(name="smtp", package="provider-smtp", transport=TransportKind.SMTP, default_port=2526)

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (SMTP, RESEND, TWILIO)}
