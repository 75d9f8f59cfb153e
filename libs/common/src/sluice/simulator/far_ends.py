"""Every far end there is. A new one is a module beside this one and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from sluice.providers.contract import Wire
from sluice.simulator.far_end import FarEnd
from sluice.simulator.resend import RESEND
from sluice.simulator.twilio import TWILIO

SMTP = FarEnd(name="smtp", package="provider-smtp", wire=Wire.SMTP)

FAR_ENDS: Mapping[str, FarEnd] = {far_end.name: far_end for far_end in (SMTP, RESEND, TWILIO)}
