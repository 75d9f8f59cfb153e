"""Every dialect. A new one is a module in ``dialects/`` and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from sluice_simulator.dialect import Dialect
from sluice_simulator.dialects.dialog360 import DIALOG_360
from sluice_simulator.dialects.fcm import FCM
from sluice_simulator.dialects.meta_cloud import META_CLOUD
from sluice_simulator.dialects.resend import RESEND
from sluice_simulator.dialects.signal import SIGNAL
from sluice_simulator.dialects.smtp import SMTP
from sluice_simulator.dialects.telegram import TELEGRAM
from sluice_simulator.dialects.twilio_sms import TWILIO
from sluice_simulator.dialects.twilio_whatsapp import TWILIO_WHATSAPP

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        SMTP,
        RESEND,
        TWILIO,
        META_CLOUD,
        DIALOG_360,
        TWILIO_WHATSAPP,
        TELEGRAM,
        SIGNAL,
        FCM,
    )
}
