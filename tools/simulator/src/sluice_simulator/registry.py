"""Every dialect. A new one is a module in ``dialects/`` and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from sluice_simulator.dialect import Dialect
from sluice_simulator.dialects.africastalking import AFRICASTALKING
from sluice_simulator.dialects.dialog360 import DIALOG_360
from sluice_simulator.dialects.fcm import FCM
from sluice_simulator.dialects.infobip import INFOBIP
from sluice_simulator.dialects.mailgun import MAILGUN
from sluice_simulator.dialects.meta_cloud import META_CLOUD
from sluice_simulator.dialects.resend import RESEND
from sluice_simulator.dialects.sendgrid import SENDGRID
from sluice_simulator.dialects.ses import SES
from sluice_simulator.dialects.signal import SIGNAL
from sluice_simulator.dialects.smpp import SMPP
from sluice_simulator.dialects.smtp import SMTP
from sluice_simulator.dialects.sns import SNS
from sluice_simulator.dialects.telegram import TELEGRAM
from sluice_simulator.dialects.termii import TERMII
from sluice_simulator.dialects.twilio_sms import TWILIO
from sluice_simulator.dialects.twilio_whatsapp import TWILIO_WHATSAPP

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        SMTP,
        RESEND,
        SENDGRID,
        MAILGUN,
        SES,
        TWILIO,
        META_CLOUD,
        DIALOG_360,
        TWILIO_WHATSAPP,
        TERMII,
        AFRICASTALKING,
        INFOBIP,
        SNS,
        SMPP,
        TELEGRAM,
        SIGNAL,
        FCM,
    )
}
