"""Every package's receipt reader: damage is never believed, and genuine nonsense raises nothing but its refusal."""

from dataclasses import replace

from hypothesis import strategies as st

from sluice.providers.contract import InvalidReceiptSignatureError
from tests.fuzz.fuzzing import SECONDS, damaged, fuzz, fuzz_for
from tests.unit.providers.forgeries import believed
from tests.unit.providers.test_forgeries import SIGNED

READERS = [case.values for case in SIGNED]


def test_damage_below_a_signature_is_not_believed_and_nonsense_above_one_raises_nothing():
    """One budget for all readers: each gets its share of it."""
    for package, genuine in READERS:
        fuzz_for(SECONDS / len(READERS), _reader(package, genuine).batch)


def _reader(package, genuine):
    body = genuine.signed.body

    @fuzz(found=damaged([body]), genuinely=st.booleans())
    def read(found, genuinely):
        if genuinely:
            _read_nonsense(package, genuine, found)
        elif found != body and genuine.covers_body and not _has_the_same_signature(genuine, found):
            assert not believed(package, genuine, replace(genuine.signed, body=found))

    return read


def _has_the_same_signature(genuine, body):
    """Whether the provider's scheme itself does not distinguish the bodies: Twilio joins names and values, sorted."""
    try:
        signed = genuine.sign(replace(genuine.request, body=body), genuine.key)
    except (ValueError, KeyError, TypeError):
        return False
    return signed.headers == genuine.signed.headers


def _read_nonsense(package, genuine, body):
    try:
        signed = genuine.sign(replace(genuine.request, body=body), genuine.key)
    except (ValueError, KeyError, TypeError):  # no body that this scheme can sign
        return
    try:
        reply = package.parse_webhook(signed, genuine.account(package), genuine.fetched)
    except InvalidReceiptSignatureError:
        return
    for event in reply.events:
        repr(event).encode("utf-8", "surrogatepass")
