"""Every far end there is. A new one is a module beside this one and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from sluice.providers.contract import Wire
from sluice_simulator.dialect import FarEnd
from sluice_simulator.dialects.resend import RESEND
from sluice_simulator.dialects.twilio_sms import TWILIO

SMTP = FarEnd(name="smtp", package="provider-smtp", wire=Wire.SMTP)

FAR_ENDS: Mapping[str, FarEnd] = {far_end.name: far_end for far_end in (SMTP, RESEND, TWILIO)}
