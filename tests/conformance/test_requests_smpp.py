"""Every SMS of the built-in package over an SMPP link is read by smpp34, which shares no code with Sluice.

Sessions against its SMSC are in ``tests/transports/smpp``.
"""

from __future__ import annotations

import re
from struct import pack

import smpp34

from sluice.model.message import Sms
from sluice.providers.adapters.messagepipe import SMPP_LINK
from sluice.providers.contract import OutboundMessage
from sluice.providers.kit.smpp_types import SmppSubmission
from sluice.transports.smpp.contract import OutboundSms
from sluice.transports.smpp.encoding import EncodingError
from sluice.transports.smpp.pdu import Address
from tests.conformance.conftest import Conforms
from tests.conformance.messages import sms_messages
from tests.transports.smpp.conftest import config

_SUBMIT_SM = 4
_UCS2, _UDHI = 8, 0x40
_CONFIG = config(1)


def test_every_segment_is_a_submit_sm_and_together_they_are_the_text(conforms: Conforms) -> None:
    def check(submission: SmppSubmission, message: OutboundMessage) -> None:
        assert isinstance(message.content, Sms)
        assert submission.sender is not None
        sms = OutboundSms(
            reference=submission.reference,
            source=Address.of(submission.sender),
            destination=Address.of(submission.recipient),
            text=submission.text,
        )
        try:
            bodies = sms.bodies(_CONFIG)
        except EncodingError:  # more than 255 parts
            assert len(submission.text) > 255 * 60
            return
        units, data_codings = b"", set()
        for body in bodies:
            read = smpp34.decode(pack(">IIII", 16 + len(body), _SUBMIT_SM, 0, 1) + body)
            assert isinstance(read, smpp34.SubmitSm)
            assert re.sub(r"\D", "", str(read.destination_addr)) == message.recipient.removeprefix("+")
            content = bytes(read.short_message)
            assert bool(read.esm_class & _UDHI) == (len(bodies) > 1)
            units += content[6:] if len(bodies) > 1 else content
            data_codings.add(read.data_coding)
        if data_codings == {_UCS2}:
            assert units.decode("utf-16-be") == message.content.text

    conforms(SMPP_LINK, sms_messages(), check)
